"""The desk: the one door to the decisions. Events in, effects out.

``assemble(settings)`` is the only way to make one; ``handle(event)`` the only way to change one. Decided here
is only the order in which the rooms are asked (identity, admission, accounts, the model's own desk with its
line and its routing, recovery, metering), and that whatever a request took (reservation, place in line, leases)
is given back exactly once, whatever happens. It refuses to know clocks, dice, sockets and files: events say
when, drivers do the rest, and the same events always give the same effects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from underlay.domain.answer import Usage
from underlay.domain.errors import DeadlinePassed, LimitReached, Overloaded, UnderlayError
from underlay.domain.policy import Band, DeskSettings

from . import admission, appointments, identity, metering, recovery, routing
from .agenda import Agenda
from .caller_desk import CallerDesk
from .deferral_desk import DeferralDesk
from .effects import (
    Admitted,
    Cancel,
    Close,
    Effects,
    Hold,
    Outcome,
    Refuse,
    Replay,
    WakeAt,
)
from .events import (
    AnyEvent,
    Arrived,
    AttemptFailed,
    BudgetSpent,
    ClientGone,
    EnergySettled,
    Finished,
    FirstToken,
    GridSeen,
    KeyChanged,
    Probed,
    Progress,
    ReplicaDraining,
    ReplicaLost,
    ReplicaSeen,
    SettingsChanged,
    Tick,
)
from .fleet import Lease
from .idempotency import Requests
from .model_desk import ModelDesk
from .replica_desk import ReplicaDesk
from .ticket import Standing, Ticket

#: Longer deadlines are the defaults of SDKs (ten minutes), which hang up themselves: no appointment for those.
_DEADLINE_MAX_S = 60.0
#: Where nobody but the replica that just failed could try again, it is given this long to be found dead or well.
_BREATH_S = 0.25


class Desk:
    """The state behind the decisions. Made by ``assemble``."""

    def __init__(self, settings: DeskSettings) -> None:
        self.settings = settings
        self.tickets: dict[str, Ticket] = {}
        self._callers = CallerDesk(self, settings)
        self._deferral = DeferralDesk(self, settings)
        self.keys, self.accounts = self._callers.keys, self._callers.accounts
        self.requests = Requests(settings.idempotency_s, settings.idempotency_max)
        self.desks: dict[str, ModelDesk] = {}  # by model
        self.agenda = Agenda({**appointments.STAND, "revoke": self._callers.is_to_be_revoked})
        self._appointed = self.agenda.heap
        self._fleet = fleet = ReplicaDesk(self)
        self.replicas = fleet.replicas
        self._appointments: dict[str, Callable[[Any, float], Effects]] = {
            "expire": self._expire,
            "retry": self._retry,
            "forgive": fleet.forgive,
            "ramp": fleet.ramp,
            "drain": fleet.drain_is_over,
            "deadline": self._deadline_is_over,
            "guest": self.serve,
            "revoke": self._callers.revoke,
            "hedge": self._hedge,
            "meter": self._callers.meter_is_silent,
        }
        self._handlers: dict[type, Callable[[Any], Effects]] = {
            Arrived: self._arrived,
            FirstToken: self._first_token,
            Progress: self._progress,
            Finished: self._finished,
            AttemptFailed: self._attempt_failed,
            ClientGone: self._client_gone,
            ReplicaSeen: fleet.seen,
            ReplicaLost: fleet.lost,
            ReplicaDraining: fleet.draining,
            Probed: fleet.probed,
            BudgetSpent: self._callers.budget_spent,
            EnergySettled: self._callers.energy_settled,
            GridSeen: self._deferral.grid_seen,
            KeyChanged: self._callers.key_changed,
            SettingsChanged: self._settings_changed,
            Tick: self._tick,
        }
        self._adopt(settings)

    def handle(self, event: AnyEvent) -> Effects:
        """Take in what happened; returns what is to be done, in order."""
        effects = self._handlers[type(event)](event)
        if self._appointed and (alarm := self.agenda.next_alarm()) is not None:
            effects.append(WakeAt(alarm))
        return effects

    def _adopt(self, settings: DeskSettings) -> None:
        routing.POLICIES[settings.routing]  # first: an unknown one must change nothing
        self.settings = settings
        self.policies = {policy.name: policy for policy in settings.models}
        self._tariffs = {policy.name: metering.Tariff(policy.price) for policy in settings.models}
        self._own_tariffs = metering.own_tariffs(settings)

    def of_model(self, model: str) -> ModelDesk:
        """The desk of a model."""
        desk = self.desks.get(model)
        if desk is None:
            desk = self.desks[model] = ModelDesk(model, self.settings, self.accounts)
        return desk

    # The prompt's way in.

    def _arrived(self, event: Arrived) -> Effects:
        assert event.ticket not in self.tickets, f"ticket {event.ticket} arrived twice"
        try:
            return self._take_in(event)
        except UnderlayError as error:
            return [_refusal(event.ticket, error, "refused at admission")]

    def _take_in(self, event: Arrived) -> Effects:
        asked = (event.digests, event.model, event.operation, event.band)
        standing = self._callers.standings.get(asked)
        if standing is None or event.at >= standing.until:
            standing = self._callers.remember(asked, self._standing(event))
        admission.check_size(event, standing.policy, self.settings)
        ticket = Ticket(event, standing)
        model = ticket.model
        model.size_up(ticket)
        if event.idempotency[0]:
            name, body = event.idempotency
            original = self.requests.begin(ticket.tenant, name, body, event.ticket, event.at)
            if original is not None:
                return self._replay(ticket, original)
        put_off = self._deferral.consider(ticket, event.at) if event.defer_s is not None else ""
        waits = bool(put_off) or model.must_wait()
        try:
            shed = self._admit(ticket, event, waits)
        except UnderlayError:
            self.requests.ended(event.ticket, False, event.at)
            raise
        self.tickets[event.ticket] = ticket
        if event.deadline_s is not None and event.deadline_s <= _DEADLINE_MAX_S:
            self.agenda.add(event.at + event.deadline_s, "deadline", ticket)
        effects: Effects = [Admitted(event.ticket, ticket.key.id, ticket.tenant, standing.why, standing.band_name)]
        effects += shed
        if put_off:
            return effects + self._hold(ticket, event.at, f"{put_off}; ")
        behind = (waits and model.must_wait()) or model.held_back(ticket, event.at)  # others come before it
        if behind or not model.dispatch(ticket, event.at, effects):
            effects += self._hold(ticket, event.at)
        elif model.hedger.share:
            self._arrange_hedge(model)
        return effects

    def _standing(self, event: Arrived) -> Standing:
        """Who asks for what, and what bounds them; raises what is wrong with that."""
        key = identity.identify(self.keys, event.digests, event.at)
        policy = admission.model_policy(self.policies, event)
        identity.permit(key, event.model)
        usual, model = self._tariffs[event.model], self.of_model(event.model)
        tariff = self._own_tariffs.get((key.tenant, event.model), usual)
        holding, band = self.accounts.holding(key, event.model), self._callers.band(key, event.band)
        return Standing(key, identity.ends_at(key), policy, tariff, model, holding, band)

    def _admit(self, ticket: Ticket, event: Arrived, waits: bool) -> Effects:
        """Reserve what the request may take, or raise why it is refused; if it waits, another may have to go."""
        model, holding = ticket.model, ticket.holding
        if event.deadline_s is not None and model.too_late(ticket, event.at):
            raise DeadlinePassed("no replica can produce a first token before the deadline of this request")
        tokens, pico_usd, microjoules = ticket.prompt_tokens + (event.max_tokens or 0) * event.strands, 0, 0
        if holding.capped:
            tokens, pico_usd, microjoules = self._callers.to_reserve(ticket)
        shed: Effects = []
        if waits:
            holding.check(tokens, pico_usd, event.at, microjoules)  # its own fault comes first
            shed = self._make_room(ticket)
        ticket.held = holding.admit(tokens, pico_usd, event.at, microjoules)
        return shed

    def _replay(self, ticket: Ticket, original: str) -> Effects:
        ticket.step("replay")
        key, why = ticket.key, f"the same request was answered as {original}; nothing is charged"
        return [Admitted(ticket.name, key.id, key.tenant, why), Replay(ticket.name, original, why)]

    def _make_room(self, ticket: Ticket) -> Effects:
        """Refuse a newcomer that would wait in vain; in a full line, somebody less urgent goes for it."""
        model = ticket.model
        if not ticket.latest_at:
            model.refuse_the_hopeless(ticket)
        if sum(desk.waiting() for desk in self.desks.values()) < self.settings.waiting_max:
            return []
        spared = self._deferral.spare(ticket) or model.line.spare(ticket.band, ticket.tenant)
        if spared is None:
            raise Overloaded(
                f"the platform is full: {self.settings.waiting_max} requests already wait", retry_after_s=1.0
            )
        spared.model.remove(spared)
        message = f"the platform is full: {self.settings.waiting_max} requests wait, and this one is less urgent"
        return self._send_away(spared, ticket.arrived.at, "the line is full, and others come before it", message)

    def _hold(self, ticket: Ticket, at: float, why: str = "") -> Effects:
        model = ticket.model
        ticket.step("hold")
        ticket.since = ticket.at = at
        ticket.until = max(at, self._until(ticket, at))
        model.push(ticket, first=ticket.attempts > 0)
        served = self.serve(model, at)
        if ticket.state != "waiting":
            return served
        self.agenda.add(ticket.until, "expire", ticket)
        if ticket.not_before > at:
            self.agenda.add(ticket.not_before, "retry", ticket)
        return [Hold(ticket.name, model.place(ticket), ticket.until, why + model.why_wait(ticket)), *served]

    def _until(self, ticket: Ticket, at: float) -> float:
        """Until when the ticket waits from now on; its band's patience, and its deadline until it got something."""
        if ticket.latest_at and not ticket.attempts:
            return ticket.given_up_at
        until, deadline_s = at + ticket.model.band_patience_s(ticket), ticket.arrived.deadline_s
        return until if deadline_s is None or ticket.seen else min(until, ticket.arrived.at + deadline_s)

    def serve(self, model: ModelDesk, at: float) -> Effects:
        """Let in whoever can go now."""
        if not model.aside and not model.line.size:
            return []
        effects, late = model.serve_line(at)
        while model.postponed:
            put_off = model.postponed.pop()
            self.agenda.add(put_off.not_before, "retry", put_off)
        for ticket in late:
            effects += self._send_away(ticket, at, "it has waited too long for the line there is")
        if model.line.size and model.pool.open and model.look_again(at):
            self.agenda.add(model.kept_until, "guest", model)
        self._arrange_hedge(model)
        return effects

    def _send_away(self, ticket: Ticket, at: float, why: str, message: str = "") -> Effects:
        """End one that was taken out of the line: refuse it if it never ran, else fail it, as it may have begun."""
        message = message or f"no replica was free within {at - ticket.arrived.at:.0f} s; the platform is busy"
        if ticket.attempts:
            return self._give_up(ticket, at, "upstream_failed", message, f"waited for another replica; {why}")
        ticket.step("refuse")
        self._forget(ticket, at, finished=False)
        ticket.holding.settle(ticket.held, 0, 0, at)
        arrived = ticket.arrived
        passed = arrived.deadline_s is not None and arrived.at + arrived.deadline_s <= at
        if not passed and ticket.model.too_late(ticket, at):
            passed, message = True, "no replica can produce a first token before the deadline of this request"
        reason = "deadline_exceeded" if passed else "overloaded"  # SDKs try again after ours, not after theirs
        return [Refuse(ticket.name, reason, message, why, retry_after_s=1.0)]

    # The answer's way out.

    def _first_token(self, event: FirstToken) -> Effects:
        ticket = self.tickets.get(event.ticket)
        if ticket is None or (lease := ticket.lease_of(event.attempt)) is None:
            return []
        effects = self._decide_race(ticket, lease, event.at) if ticket.rival is not None else []
        ticket.seen = ticket.arrived.streaming
        model = ticket.model
        model.first_token(ticket, lease, event)
        usage = ticket.usage
        if not usage.prompt_tokens:  # the prompt is counted once, however many attempts it takes
            ticket.usage = Usage(event.prompt_tokens, event.cached_tokens, usage.completion_tokens)
        if ticket.holding.capped:
            effects += self._callers.watch(ticket, event.at)
        if model.line.size:  # its adaptive limit may have room again
            effects += self.serve(model, event.at)
        return effects

    def _decide_race(self, ticket: Ticket, winner: Lease, at: float) -> Effects:
        """The first to speak wins; the other's work is dropped before anybody sees or pays any of it."""
        assert ticket.lease is not None
        assert ticket.rival is not None
        loser = ticket.rival if winner is ticket.lease else ticket.lease
        ticket.lease, ticket.rival = winner, None
        ticket.model.release(ticket, loser, at)
        cancel = Cancel(ticket.name, loser.replica.name, loser.attempt)
        return [cancel, *self.serve(ticket.model, at), *self._fleet.released(loser.replica)]

    def _progress(self, event: Progress) -> Effects:
        ticket = self.tickets.get(event.ticket)
        if ticket is None or ticket.state != "running":
            return []
        usage = ticket.usage
        ticket.usage = Usage(usage.prompt_tokens, usage.cached_tokens, event.completion_tokens)
        ticket.model.served(ticket, event.completion_tokens)
        return self._callers.watch(ticket, event.at) if ticket.holding.capped else []

    def _finished(self, event: Finished) -> Effects:
        ticket = self.tickets.get(event.ticket)
        if ticket is None or (lease := ticket.lease_of(event.attempt)) is None:
            return []
        effects = self._decide_race(ticket, lease, event.at) if ticket.rival is not None else []
        ticket.model.finished(ticket, lease, event.usage.completion_tokens, event.at)
        ticket.step("finish")
        ticket.usage = event.usage
        effects += self._end(ticket, event.at, "finished", "every strand ended as the engine said")
        effects += self._fleet.praise(lease.replica, event.at)
        return effects

    def _client_gone(self, event: ClientGone) -> Effects:
        ticket = self.tickets.get(event.ticket)
        if ticket is None:
            return []
        ticket.usage = event.usage
        cancels = _cancels(ticket)
        if ticket.state == "waiting":
            ticket.model.remove(ticket)
        ticket.step("leave")
        why = "cut off by us" if ticket.cut else "the caller left"
        return [*cancels, *self._end(ticket, event.at, "client_gone", f"{why}; billed what the engine produced")]

    def _end(
        self, ticket: Ticket, at: float, outcome: Outcome, why: str, reason: str = "", message: str = ""
    ) -> Effects:
        """Give back everything the ticket held, book it, and let the next in."""
        model, lease, rival, usage = ticket.model, ticket.lease, ticket.rival, ticket.usage
        if lease is not None:
            model.release(ticket, lease, at)
        if rival is not None:
            model.release(ticket, rival, at)
        ticket.lease = ticket.rival = None
        model.served(ticket, usage.completion_tokens)
        self._forget(ticket, at, finished=outcome == "finished")
        booked = metering.charge(ticket.name, ticket.key, model.name, ticket.standing.tariff, usage, outcome)
        used = 0 if outcome == "failed" else usage.total_tokens
        ticket.holding.settle(ticket.held, used, booked.cost_pico_usd, at)
        if ticket.held.microjoules:
            self._callers.await_meter(ticket, at)
        effects: Effects = [booked, Close(ticket.name, outcome, why, reason, message)]
        if model.aside or model.line.size:
            effects += self.serve(model, at)
        if lease is not None and lease.replica.state != "ready":
            effects += self._fleet.released(lease.replica)
        if rival is not None and rival.replica.state != "ready":
            effects += self._fleet.released(rival.replica)
        return effects

    def _forget(self, ticket: Ticket, at: float, *, finished: bool) -> None:
        del self.tickets[ticket.name]
        if ticket.model.hedger.share:
            ticket.model.hedger.gone(ticket.name)
        if ticket.arrived.idempotency[0]:
            self.requests.ended(ticket.name, finished, at)

    def _deadline_is_over(self, ticket: Ticket, at: float) -> Effects:
        """Nobody waits for its first token any more: what is computed for it is waste."""
        if ticket.state != "running":  # of what was due at the same time, a drain came before it
            return []
        cancels = _cancels(ticket)
        message = f"no answer within {ticket.arrived.deadline_s:g} s, the deadline of this request"
        return [*cancels, *self._give_up(ticket, at, "deadline_exceeded", message, "its deadline passed")]

    # Hedges.

    def _arrange_hedge(self, model: ModelDesk) -> None:
        next_at = model.hedger.next_at() if model.hedger.share else None
        if next_at is not None:
            self.agenda.add(next_at, "hedge", model)

    def _hedge(self, model: ModelDesk, at: float) -> Effects:
        effects: Effects = []
        utilisation = model.pool.load / model.pool.slots if model.pool.slots else 1.0
        for name in model.hedger.due(at, utilisation):
            ticket = self.tickets.get(name)
            if ticket is not None and ticket.state == "running":
                model.hedge(ticket, at, effects)
        self._arrange_hedge(model)
        return effects

    # When things break.

    def _attempt_failed(self, event: AttemptFailed) -> Effects:
        ticket = self.tickets.get(event.ticket)
        if ticket is None or (lease := ticket.lease_of(event.attempt)) is None:
            return []
        if event.failure == "rejected":
            why = "the engine rejected the request"
            cancels = _cancels(ticket, but=lease)
            return [*cancels, *self._give_up(ticket, event.at, "bad_request", event.detail, why)]
        ejected = self._fleet.strike(lease.replica, event.at)
        if ticket.rival is not None:
            return [*ejected, *self._drop_one(ticket, lease, event.at)]
        usage = ticket.usage
        ticket.usage = Usage(usage.prompt_tokens, usage.cached_tokens, event.completion_tokens)
        meaning = f"{lease.replica.name} {recovery.MEANING[event.failure]}"
        return [*ejected, *self._recover(ticket, event.at, meaning, event.detail)]

    def _drop_one(self, ticket: Ticket, failed: Lease, at: float) -> Effects:
        """One of two attempts failed before a first token: the other goes on."""
        if failed is ticket.lease:
            ticket.lease = ticket.rival
        ticket.rival = None
        ticket.tried |= {failed.replica.name}
        ticket.model.release(ticket, failed, at)
        return [*self.serve(ticket.model, at), *self._fleet.released(failed.replica)]

    def move(self, ticket: Ticket, lease: Lease, at: float, meaning: str, detail: str) -> Effects:
        """End an attempt whose replica is gone, and go on without it."""
        if ticket.rival is not None:
            return self._drop_one(ticket, lease, at)
        return self._recover(ticket, at, meaning, detail)

    def _recover(self, ticket: Ticket, at: float, meaning: str, detail: str) -> Effects:
        """Send the ticket to another replica if that is right, else end it with a visible error."""
        lease, model = ticket.lease, ticket.model
        assert lease is not None
        replica = lease.replica
        ticket.tried |= {replica.name}
        model.release(ticket, lease, at)
        model.hedger.gone(ticket.name)
        ticket.lease = None
        drained = self._fleet.released(replica)
        what, reason = recovery.verdict(
            attempts=ticket.attempts, settings=self.settings, seen=ticket.seen, resumable=ticket.arrived.resumable
        )
        if what == "give_up" or ticket.cut:
            message = f"{meaning}; {reason}. {detail}".strip()
            return [*self._give_up(ticket, at, "upstream_failed", message, meaning), *drained]
        ticket.not_before = self._not_before(ticket, what, at)
        why = f"{meaning}; {reason}; "
        effects: Effects = []
        if ticket.not_before <= at and model.dispatch(ticket, at, effects, why):
            return [*effects, *self.serve(model, at), *drained]
        return [*self._hold(ticket, at, why), *drained]

    def _not_before(self, ticket: Ticket, what: recovery.Verdict, at: float) -> float:
        """When to try again: at once, if the retry budget allows it and there is somebody else to ask."""
        ready_at = at if ticket.model.others(ticket) else at + _BREATH_S * ticket.attempts
        if what == "restart" and not ticket.model.retries.spend(at):
            ticket.owes_retry = True
            ready_at = max(ready_at, ticket.model.retries.ready_at(at))
        return ready_at

    def _give_up(self, ticket: Ticket, at: float, reason: str, message: str, why: str) -> Effects:
        ticket.step("fail")
        return self._end(ticket, at, "failed", why, reason=reason, message=message)

    # Keys, settings and time.

    def _settings_changed(self, event: SettingsChanged) -> Effects:
        bands = self.settings.bands
        self._adopt(event.settings)
        self._rank_anew(bands)
        self._callers.adopt(event.settings)
        self.accounts.configure(event.settings)
        self.requests.kept_s, self.requests.kept_max = event.settings.idempotency_s, event.settings.idempotency_max
        for desk in self.desks.values():
            desk.adopt(event.settings)
            if bands != event.settings.bands:
                desk.count_in([ticket for ticket in self.tickets.values() if ticket.model is desk], event.at)
        began = self._deferral.adopt(event.settings, event.at)
        return began + [effect for desk in list(self.desks.values()) for effect in self.serve(desk, event.at)]

    def _rank_anew(self, was: tuple[Band, ...]) -> None:
        """Each request keeps its band by name; where that is gone, by rank, as far as there are so many."""
        last = len(self.settings.bands) - 1
        places = {band.name: index for index, band in enumerate(self.settings.bands)}
        for ticket in self.tickets.values():
            ticket.band = places.get(was[ticket.band].name, min(ticket.band, last))

    def _tick(self, event: Tick) -> Effects:
        self.agenda.alarm_at = None
        self.requests.expire(event.at)
        due = dict.fromkeys(self.agenda.due(event.at))  # who waited twice until the same moment ends once
        over = [what for kind, what in due if kind == "expire"]
        for ticket in over:  # all of them first: one that leaves lets others in, and those must be none of these
            ticket.model.remove(ticket)
        effects: Effects = []
        for kind, what in due:
            effects += self._appointments[kind](what, event.at)
        for model in dict.fromkeys(ticket.model for ticket in over):
            effects += self.serve(model, event.at)
        return effects

    def _retry(self, ticket: Ticket, at: float) -> Effects:
        if ticket.put_off:
            return self._deferral.turn(ticket, at)
        return self.serve(ticket.model, at)

    def _expire(self, ticket: Ticket, at: float) -> Effects:
        return self._send_away(ticket, at, "waited too long")

    # What others may look at.

    def waiting(self) -> int:
        """How many requests wait."""
        return sum(desk.waiting() for desk in list(self.desks.values()))

    def queue_place(self, name: str) -> int | None:
        """The place of one that waits, from 1; ``None`` if it does not."""
        ticket = self.tickets.get(name)
        if ticket is None or ticket.state != "waiting":
            return None
        return ticket.model.place(ticket)

    # The books.

    def check(self) -> None:
        """Verify the whole state; raises ``AssertionError`` on the first thing that does not add up."""
        tickets = self.tickets.values()
        for name, replica in self.replicas.items():
            leases = [lease for t in tickets for lease in t.leases() if lease.replica is replica]
            strands = sum(lease.strands for lease in leases)
            assert replica.load == strands, f"{name} carries {replica.load}, its leases are {strands}"
            ahead = sum(lease.uncached_tokens for lease in leases if lease.prefilling)
            assert replica.prefill_tokens == ahead, f"{name} prefills {replica.prefill_tokens}, its leases {ahead}"
        for name, ticket in self.tickets.items():
            assert ticket.state in ("waiting", "running"), f"{name} is {ticket.state}"
            assert (ticket.lease is not None) == (ticket.state == "running"), f"{name}: lease and state differ"
            assert ticket.rival is None or ticket.lease is not None, f"{name}: a hedge beside nothing"
        waiting = {t.name for desk in self.desks.values() for t in desk.everyone_waiting()}
        assert waiting == {t.name for t in tickets if t.state == "waiting"}, "queue and state differ"
        for desk in self.desks.values():
            desk.check()
        self.requests.check()
        opened: dict[str, int] = {}
        for ticket in tickets:
            opened[ticket.key.id] = opened.get(ticket.key.id, 0) + 1
        self.accounts.check(opened, [(t.key, t.model.name, t.held) for t in tickets])


def _cancels(ticket: Ticket, but: Lease | None = None) -> Effects:
    return [Cancel(ticket.name, each.replica.name, each.attempt) for each in ticket.leases() if each is not but]


def _refusal(ticket: str, error: UnderlayError, why: str) -> Refuse:
    if isinstance(error, LimitReached):
        why = "over a limit of its own"
    return Refuse(ticket, error.reason, error.message, why, error.param, error.retry_after_s)


def assemble(settings: DeskSettings) -> Desk:
    """Make a desk. The live platform, the twin and the replay all come through here; nobody else makes one."""
    return Desk(settings)
