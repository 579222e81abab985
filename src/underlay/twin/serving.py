"""A region's desk at work: it is told what happened, and what it says is done by modelled engines.

It does what the live driver does and no more, and decides nothing. Who calls and what befalls the replicas is
``platform``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from underlay.control.desk import assemble
from underlay.control.effects import (
    Admitted,
    AnyEffect,
    Cancel,
    Charge,
    Close,
    Cut,
    Dispatch,
    Effects,
    Probe,
    Refuse,
    WakeAt,
)
from underlay.control.events import (
    AttemptFailed,
    ClientGone,
    EnergySettled,
    Failure,
    Finished,
    FirstToken,
    Probed,
    Tick,
)
from underlay.domain.answer import Usage
from underlay.domain.policy import DeskSettings

from .crowd.call import Outcome
from .exchange import Attempt, Exchange
from .kernel import Kernel
from .modelled import Modelled

if TYPE_CHECKING:
    from .ledger.taken import Taken

#: When nothing else was said at the same time: replicas go on after everybody has arrived or left.
_AFTER_CALLERS = 1

_OUTCOMES: dict[str, Outcome] = {"finished": "finished", "failed": "failed", "client_gone": "left"}

#: Told of the platform, the exchange that ended there, how, and when.
OnEnd = Callable[[Any, Exchange, Outcome, float], None]


class Serving:
    """The desk of a region, its replicas, and what is open. ``on_end`` is told of every request that ends, once."""

    def __init__(
        self, kernel: Kernel, settings: DeskSettings, on_end: OnEnd, name: str, taken: Taken | None
    ) -> None:
        self.name = name
        self.kernel = kernel
        self.desk = assemble(settings)
        self.replicas: dict[str, Modelled] = {}
        self.open: dict[str, Exchange] = {}
        self.revenue_pico_usd = 0
        self._on_end = on_end
        self._taken = taken
        budgets = (budget for account in settings.accounts for budget in account.budgets)
        self._metered = any(budget.joules is not None for budget in budgets)
        self._dice = kernel.stream(f"{name} errors")

    def _usage(self, exchange: Exchange, at: float) -> Usage:
        """What was produced for an exchange by now, by the engines' own count."""
        running = exchange.attempt
        tokens = exchange.delivered
        cached = exchange.cached_tokens
        if running is not None:
            tokens += running.replica.produced(running, at)
        return Usage(exchange.call.prompt_tokens if tokens else 0, cached if tokens else 0, tokens)

    def leave(self, at: float, exchange: Exchange) -> None:
        """The caller of an open exchange is gone."""
        self._perform(at, self.desk.handle(ClientGone(at, exchange.ticket, self._usage(exchange, at))))

    # What the desk says.

    def tell(self, at: float, event: Any) -> None:
        """Tell the desk what happened and do what it says."""
        self._perform(at, self.desk.handle(event))

    def _perform(self, at: float, effects: Effects) -> None:
        for effect in effects:
            kind = type(effect)
            if kind is Dispatch:
                self._dispatch(at, effect)  # type: ignore[arg-type]
            elif kind is Admitted:
                continue
            elif kind is Charge:
                self.revenue_pico_usd += effect.cost_pico_usd  # type: ignore[union-attr]
                if self._taken is not None:
                    self.open[effect.ticket].revenue_pico_usd += effect.cost_pico_usd  # type: ignore[union-attr]
                    if self._metered:
                        self._settle_joules(at, effect)  # type: ignore[arg-type]
            elif kind is Close:
                self._close(at, effect)  # type: ignore[arg-type]
            elif kind is WakeAt:
                self.kernel.call(max(at, effect.at), self._tick)  # type: ignore[union-attr]
            else:
                self._perform_rarer(at, effect)

    def _perform_rarer(self, at: float, effect: AnyEffect) -> None:
        match effect:
            case Refuse():
                self._on_end(self, self.open.pop(effect.ticket), "refused", at)
            case Cancel():
                self._cancel(at, effect)
            case Cut():
                self.kernel.call(at, self._cut, self.open[effect.ticket])
            case Probe():
                self.kernel.call(at, self._answer_probe, self.replicas[effect.replica])
            case _:
                pass  # a hold, a replica ejected or drained: the desk itself knows who waits and what runs

    def _cut(self, at: float, exchange: Exchange) -> None:
        if exchange.ticket in self.open:
            self.leave(at, exchange)

    def _close(self, at: float, effect: Close) -> None:
        exchange = self.open.pop(effect.ticket)
        outcome = _OUTCOMES[effect.outcome]
        if exchange.broken:
            outcome = "failed"
        elif effect.reason == "bad_request":  # the caller's fault, found out late
            outcome = "refused"
        self._on_end(self, exchange, outcome, at)

    def _settle_joules(self, at: float, charge: Charge) -> None:
        """Let what was drawn for a request by its end count against budgets in joules, at once."""
        joules = sum([attempt.joules + attempt.wasted_j for attempt in self.open[charge.ticket].tried or ()])
        whose = charge.ticket, charge.key_id, charge.tenant, charge.model
        self.kernel.call(at, self.tell, EnergySettled(at, *whose, joules, usage=charge.usage))

    def _dispatch(self, at: float, effect: Dispatch) -> None:
        exchange = self.open[effect.ticket]
        replica = self.replicas[effect.replica]
        if not effect.resume:
            exchange.delivered = 0
        attempt = Attempt(exchange, replica, effect.attempt)
        if effect.beside:
            exchange.rival = exchange.attempt
        exchange.attempt = attempt
        exchange.attempts = effect.attempt
        exchange.served_by = replica
        if self._taken is not None:
            exchange.tried = [*(exchange.tried or ()), attempt]
            exchange.band = self.desk.settings.bands[self.desk.tickets[effect.ticket].band].name
        replica.attempts[attempt] = None
        if replica.state != "ready":
            return  # nobody is there to hear it; that is noticed in time
        if replica.fail_share and self._dice.random() < replica.fail_share:
            self.kernel.call(at, self._err, attempt)
            return
        if replica.request_s:
            self.kernel.call(at + replica.request_s, self._enter_late, attempt)
        else:
            self._enter(at, attempt, replica)

    def _enter_late(self, at: float, attempt: Attempt) -> None:
        """What the engine's server does with every request before its first step is done, if it is still wanted."""
        if attempt in attempt.replica.attempts and not attempt.left:
            self._enter(at, attempt, attempt.replica)

    def _enter(self, at: float, attempt: Attempt, replica: Modelled) -> None:
        attempt.entered = True
        if not replica.engine.arrive(at, attempt):
            self.kernel.call(at, self._reject, attempt)
        elif replica.engine.next_at != replica.wake_at:
            self._arrange(replica)

    def _cancel(self, at: float, effect: Cancel) -> None:
        exchange = self.open[effect.ticket]
        for attempt in (exchange.attempt, exchange.rival):
            if attempt is not None and attempt.number == effect.attempt:
                self._drop(at, attempt)
        if exchange.attempt is not None and exchange.attempt.number == effect.attempt:
            exchange.attempt, exchange.rival = exchange.rival, None
        else:
            exchange.rival = None

    def _drop(self, at: float, attempt: Attempt) -> None:
        replica = attempt.replica
        known = replica.attempts.pop(attempt, replica) is None
        if known and attempt.entered and replica.state == "ready" and not attempt.left:
            replica.engine.cancel(at, attempt)
            self._arrange(replica)

    def _tick(self, at: float, _: None) -> None:
        self._perform(at, self.desk.handle(Tick(at)))

    def _answer_probe(self, at: float, replica: Modelled) -> None:
        if replica.state == "ready":
            engine = replica.engine
            self.tell(at, Probed(at, replica.name, engine.running_count, engine.waiting_count))

    # What the engines do.

    def _arrange(self, replica: Modelled) -> None:
        """Look at a replica again when its promise is over."""
        next_at = replica.engine.next_at
        if next_at < replica.wake_at or replica.wake_at < self.kernel.at:
            replica.wake_at = next_at
            if next_at != inf:
                self.kernel.call(next_at, self._advance, replica, _AFTER_CALLERS)

    def _advance(self, at: float, replica: Modelled) -> float | None:
        if at != replica.wake_at or replica.state != "ready":
            return None  # it was cut short, and has been looked at
        engine = replica.engine
        engine.advance(at)
        if engine.started:
            self._started(replica)
        if engine.ended:
            self._ended(at, replica)
        next_at = replica.wake_at = engine.next_at
        return next_at if next_at != inf else None

    def _started(self, replica: Modelled) -> None:
        engine = replica.engine
        now: list[Any] = engine.started
        engine.started = []
        for attempt in now:
            if attempt not in replica.attempts:
                continue
            exchange = attempt.exchange
            at = attempt.first_token_at
            if exchange.first_at is None:
                exchange.first_at = at
                exchange.cached_tokens = attempt.cached_tokens
            event = FirstToken(
                at, exchange.ticket, attempt.number, exchange.call.prompt_tokens, attempt.cached_tokens
            )
            if effects := self.desk.handle(event):
                self._perform(at, effects)

    def _ended(self, at: float, replica: Modelled) -> None:
        engine = replica.engine
        now: list[Any] = engine.ended
        engine.ended = []
        for attempt in now:
            if replica.attempts.pop(attempt, replica) is not None:
                self._add_late(attempt)
                continue  # it was cancelled; nobody waits for it
            exchange = attempt.exchange
            exchange.delivered += attempt.produced
            exchange.attempt = None if exchange.attempt is attempt else exchange.attempt
            usage = Usage(exchange.call.prompt_tokens, exchange.cached_tokens, exchange.delivered)
            self._perform(at, self.desk.handle(Finished(at, exchange.ticket, attempt.number, usage)))

    def _err(self, at: float, attempt: Attempt) -> None:
        self._fail(at, attempt, "engine_error")

    def _reject(self, at: float, attempt: Attempt) -> None:
        self._fail(at, attempt, "rejected", "longer than the engine's memory")

    def _fail(self, at: float, attempt: Attempt, failure: Failure, detail: str = "") -> None:
        """An attempt broke; what came of it stays with its caller."""
        if attempt.replica.attempts.pop(attempt, attempt.replica) is not None:
            return
        attempt.failed = True
        exchange = attempt.exchange
        exchange.delivered += attempt.produced
        if exchange.attempt is attempt:
            exchange.attempt, exchange.rival = exchange.rival, None
        else:
            exchange.rival = None
        self.tell(at, AttemptFailed(at, exchange.ticket, attempt.number, failure, exchange.delivered, detail))

    def _break_off(self, at: float, replica: Modelled) -> None:
        running: list[Any] = replica.break_off(at)
        for attempt in running:
            self._add_late(attempt)

    def _add_late(self, attempt: Attempt) -> None:
        """What an engine computed for a request that was over, up to the end of its step, is the request's."""
        if self._taken is not None and attempt.exchange.row >= 0:
            self._taken.add(attempt.exchange)
