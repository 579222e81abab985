"""One region's platform: the desk itself, and modelled replicas in the place of real ones.

It does what the live driver does and no more: tells the desk what happened, performs what the desk says. It decides
nothing. Who calls, where replicas stand and what befalls them is told from outside, by ``arrive`` and the verbs on
replicas (``start``, ``lose``, ``silence``, ``throttle``, ``slow``, ``drain``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    Arrived,
    AttemptFailed,
    ClientGone,
    EnergySettled,
    Failure,
    Finished,
    FirstToken,
    KeyChanged,
    Probed,
    ReplicaDraining,
    ReplicaLost,
    ReplicaSeen,
    Tick,
)
from underlay.domain.answer import Usage
from underlay.domain.keys import Key
from underlay.domain.policy import DeskSettings

from .crowd.call import Call, Outcome
from .exchange import Attempt, Exchange, Stream
from .kernel import Kernel
from .modelled import Modelled

if TYPE_CHECKING:
    from .ledger.taken import Taken

#: A caller's words as bytes, for a desk that is told bytes: English in the tokenizers of today has about 4 a token.
_BYTES_PER_TOKEN = 4
#: When nothing else was said at the same time: replicas go on after everybody has arrived or left.
_AFTER_CALLERS = 1
#: How long it takes to notice a replica that says nothing more (live: a second of silence, then a probe that is not
#: answered); a process that ends is noticed at once.
_DETECT_S = 2.0

_OUTCOMES: dict[str, Outcome] = {"finished": "finished", "failed": "failed", "client_gone": "left"}

OnEnd = Callable[["Platform", Exchange, Outcome, float], None]


class Platform:
    """The desk of a region and its replicas. ``on_end`` is told of every request that ends here, once.

    ``bands`` say which tenants have another class of urgency than the usual. ``up`` says whether its door is open.
    """

    def __init__(
        self,
        kernel: Kernel,
        settings: DeskSettings,
        bands: Mapping[str, str],
        on_end: OnEnd,
        *,
        name: str = "",
        link_tokens: int = 512,
        taken: Taken | None = None,
    ) -> None:
        self.name = name
        self.kernel = kernel
        self.desk = assemble(settings)
        self.replicas: dict[str, Modelled] = {}
        self.open: dict[str, Exchange] = {}
        self.revenue_pico_usd = 0
        self.up = True
        self._link_tokens = link_tokens
        self._on_end = on_end
        self._taken = taken
        budgets = (budget for account in settings.accounts for budget in account.budgets)
        self._metered = any(budget.joules is not None for budget in budgets)
        self._count = 0
        self._digests: dict[str, tuple[str]] = {}
        self._dice = kernel.stream(f"{name} errors")
        self._bands = bands

    def _key(self, at: float, tenant: str) -> tuple[str]:
        """The credential of a tenant, made when it first calls."""
        key = Key(id=f"key_{tenant}", digest=tenant, tenant=tenant, band=self._bands.get(tenant, ""))
        self.tell(at, KeyChanged(at, key))
        found = self._digests[tenant] = (tenant,)
        return found

    # Callers.

    def arrive(self, at: float, call: Call, source: Stream | None, way_s: float = 0.0) -> None:
        """A call is at the door; ``way_s`` is what its words take to come here, and the answer's back."""
        self._count += 1
        ticket = f"{self.name}{self._count}"
        exchange = Exchange(call, ticket, source, way_s)
        if not self.up:
            self._on_end(self, exchange, "failed", at)
            return
        self.open[ticket] = exchange
        self._perform(at, self.desk.handle(self._arrived(at, ticket, call)))
        if call.deadline_s is not None and ticket in self.open:
            self.kernel.call(max(at, call.at + call.deadline_s), self._lose_patience, exchange)

    def _arrived(self, at: float, ticket: str, call: Call) -> Arrived:
        """What the desk is told of a call."""
        links = call.links
        if links:
            links = links[: call.prompt_tokens // self._link_tokens]
        return Arrived(
            at,
            ticket,
            self._digests.get(call.tenant) or self._key(at, call.tenant),
            call.model,
            "chat",
            call.prompt_tokens * _BYTES_PER_TOKEN,
            None,
            1,
            True,
            True,
            None,
            links,
            call.session,
            call.band,
        )

    def _lose_patience(self, at: float, exchange: Exchange) -> None:
        """A caller who has seen nothing by now hangs up."""
        if exchange.first_at is None and exchange.ticket in self.open:
            self.leave(at, exchange)

    def leave(self, at: float, exchange: Exchange) -> None:
        """The caller of an open exchange is gone."""
        self._perform(at, self.desk.handle(ClientGone(at, exchange.ticket, self._usage(exchange, at))))

    def shut(self, at: float) -> None:
        """The door is gone: every open exchange ends, its caller sees a broken stream, and nobody is let in."""
        self.up = False
        for exchange in list(self.open.values()):
            exchange.broken = True
            self.leave(at, exchange)

    def reopen(self) -> None:
        """The door is open again."""
        self.up = True

    def _usage(self, exchange: Exchange, at: float) -> Usage:
        """What was produced for an exchange by now, by the engines' own count."""
        running = exchange.attempt
        tokens = exchange.delivered
        cached = exchange.cached_tokens
        if running is not None:
            tokens += running.replica.produced(running, at)
        return Usage(exchange.call.prompt_tokens if tokens else 0, cached if tokens else 0, tokens)

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

    # What befalls the replicas.

    def add(self, replica: Modelled) -> None:
        """A replica that could be started."""
        self.replicas[replica.name] = replica

    def start(self, at: float, name: str) -> None:
        """A replica is ready, with empty caches."""
        replica = self.replicas[name]
        replica.begin()
        self.tell(at, ReplicaSeen(at, name, replica.model, replica.slots, replica.generation, replica.cache_tokens))

    def lose(self, at: float, name: str, cause: str) -> None:
        """A replica's process ends: its connections break at once."""
        replica = self.replicas[name]
        if replica.state not in {"ready", "silent"}:
            replica.end()
            return
        self._stop(at, replica)
        replica.end()
        for attempt in list(replica.attempts):
            self._fail(at, attempt, "reset")
        self.tell(at, ReplicaLost(at, name, cause))

    def silence(self, at: float, name: str, cause: str) -> None:
        """A replica says nothing more (its machine lost power or network, or it hangs): noticed only in time."""
        replica = self.replicas[name]
        if replica.state != "ready":
            return  # it was silent before, and will be noticed
        self._stop(at, replica)
        replica.fall_silent()
        self.kernel.call(at + _DETECT_S, self._notice, (replica, replica.generation, cause))

    def _notice(self, at: float, what: tuple[Modelled, int, str]) -> None:
        replica, generation, cause = what
        if replica.state == "silent" and replica.generation == generation:
            self.lose(at, replica.name, cause)

    def _stop(self, at: float, replica: Modelled) -> None:
        """What it has produced by now is all that it will have."""
        if replica.state == "ready":
            produced = [(attempt, replica.engine.produced(attempt, at)) for attempt in replica.attempts]
            self._break_off(at, replica)
            for attempt, tokens in produced:
                attempt.freeze(tokens)

    def _break_off(self, at: float, replica: Modelled) -> None:
        running: list[Any] = replica.break_off(at)
        for attempt in running:
            self._add_late(attempt)

    def _add_late(self, attempt: Attempt) -> None:
        """What an engine computed for a request that was over, up to the end of its step, is the request's."""
        if self._taken is not None and attempt.exchange.row >= 0:
            self._taken.add(attempt.exchange)

    def close(self, at: float) -> None:
        """The run is over: whoever is being served has taken what was drawn until now."""
        for replica in self.replicas.values():
            if replica.state == "ready":
                self._break_off(at, replica)

    def throttle(self, at: float, name: str, slowdown: float) -> None:
        """Clocks run so many times slower: computing takes longer, reading memory does not."""
        replica = self.replicas[name]
        if replica.set_clock(at, slowdown):
            self._arrange(replica)

    def cap(self, at: float, name: str, cap_w: float) -> None:
        """A replica's accelerators together draw no more than that from now on; infinity: no cap."""
        replica = self.replicas[name]
        if replica.set_cap(at, cap_w):
            self._arrange(replica)

    def slow(self, at: float, name: str, factor: float) -> None:
        """Everything takes ``factor`` times as long (a bad version, a sick machine); 1 mends it."""
        replica = self.replicas[name]
        if replica.set_slowness(at, factor):
            self._arrange(replica)

    def drain(self, at: float, name: str, *, wanted: bool = False) -> None:
        """Take a replica out of service softly, or back in."""
        self.tell(at, ReplicaDraining(at, name, drain=not wanted))

    def check(self) -> None:
        """Verify desk and driver against each other; raises ``AssertionError``."""
        self.desk.check()
        assert self.desk.tickets.keys() == self.open.keys(), "the desk and its driver differ on what is open"
