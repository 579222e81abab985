"""The desk: the one door to the decisions. Events in, effects out.

``assemble(settings)`` is the only way to make one; ``handle(event)`` the only way to change one. Decided here
is only the order in which the rooms are asked (identity, admission, routing, recovery, metering) and who holds
which lease: load on a replica is taken when it is chosen and given back exactly once, whatever happens. It
refuses to know clocks, dice, sockets and files: events say when, drivers do the rest, and the same events
always give the same effects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from underlay.domain.answer import Usage
from underlay.domain.errors import Overloaded, UnderlayError
from underlay.domain.keys import Key
from underlay.domain.policy import DeskSettings, ModelPolicy

from . import admission, identity, metering, recovery, routing
from .effects import Admitted, AnyEffect, Cancel, Close, Cut, Dispatch, Eject, Hold, Refuse, WakeAt
from .events import (
    AnyEvent,
    Arrived,
    AttemptFailed,
    ClientGone,
    Finished,
    FirstToken,
    KeyChanged,
    Progress,
    ReplicaLost,
    ReplicaSeen,
    SettingsChanged,
    Tick,
)
from .lifecycles import REPLICA, TICKET, step
from .routing import Replica


class Ticket:
    """One request on the desk, from its admission to its end."""

    __slots__ = (
        "arrived",
        "attempts",
        "cut",
        "key",
        "policy",
        "replica",
        "reserved",
        "seen",
        "state",
        "tried",
        "until",
        "usage",
    )

    def __init__(self, arrived: Arrived, key: Key, policy: ModelPolicy, reserved: int) -> None:
        self.arrived = arrived
        self.key = key
        self.policy = policy
        self.reserved = reserved
        self.until = arrived.at
        self.state = "arrived"
        self.attempts = 0
        self.replica: Replica | None = None  # whose lease it holds
        self.tried: set[str] = set()
        self.seen = False  # the caller has been sent some of the answer
        self.cut = False
        self.usage = Usage()

    def step(self, happening: str) -> None:
        """Take a step of the life-cycle."""
        self.state = step(TICKET, self.state, happening)


class Desk:
    """The state behind the decisions. Made by ``assemble``."""

    def __init__(self, settings: DeskSettings) -> None:
        self.tickets: dict[str, Ticket] = {}
        self.replicas: dict[str, Replica] = {}
        self.keys: dict[str, Key] = {}  # by digest
        self.meters: dict[str, admission.Meter] = {}  # by key id
        self.waiting: dict[str, dict[str, Ticket]] = {}  # by model, in order of arrival
        self._revoked_from: dict[str, float] = {}  # by key id, where that time is still to come
        self._turn = 0
        self._wake_at: float | None = None
        self._handlers: dict[type, Callable[[Any], list[AnyEffect]]] = {
            Arrived: self._arrived,
            FirstToken: self._first_token,
            Progress: self._progress,
            Finished: self._finished,
            AttemptFailed: self._attempt_failed,
            ClientGone: self._client_gone,
            ReplicaSeen: self._replica_seen,
            ReplicaLost: self._replica_lost,
            KeyChanged: self._key_changed,
            SettingsChanged: self._settings_changed,
            Tick: self._tick,
        }
        self._adopt(settings)

    def handle(self, event: AnyEvent) -> list[AnyEffect]:
        """Take in what happened; returns what is to be done, in order."""
        return self._handlers[type(event)](event)

    def _adopt(self, settings: DeskSettings) -> None:
        self.settings = settings
        self.models = {policy.name: policy for policy in settings.models}
        self._route = routing.POLICIES[settings.routing]

    # The prompt's way in.

    def _arrived(self, event: Arrived) -> list[AnyEffect]:
        assert event.ticket not in self.tickets, f"ticket {event.ticket} arrived twice"
        try:
            ticket = self._admit(event)
        except UnderlayError as error:
            return [_refusal(event.ticket, error, "refused at admission")]
        key = ticket.key
        admitted = Admitted(event.ticket, key.id, key.tenant, f"key {key.id} of {key.tenant}, within its limits")
        return [admitted, *self._place(ticket, event.at)]

    def _admit(self, event: Arrived) -> Ticket:
        key = identity.identify(self.keys, event.digests, event.at)
        policy = admission.model_policy(self.models, event)
        identity.permit(key, event.model)
        admission.check_size(event, policy, self.settings)
        if self._must_wait(event) and self._waiting_count() >= self.settings.waiting_max:
            raise Overloaded(
                f"the platform is full: {self.settings.waiting_max} requests already wait", retry_after_s=1.0
            )
        reserved = admission.tokens_to_reserve(event)
        self.meters[key.id].admit(reserved, event.at)
        ticket = Ticket(event, key, policy, reserved)
        self.tickets[event.ticket] = ticket
        return ticket

    def _patience(self, ticket: Ticket, at: float) -> float:
        """Until when the ticket waits from now on; a deadline counts until its caller has got something."""
        until, deadline_s = at + self.settings.wait_max_s, ticket.arrived.deadline_s
        return until if deadline_s is None or ticket.seen else min(until, ticket.arrived.at + deadline_s)

    def _must_wait(self, event: Arrived) -> bool:
        if self._line(event.model):
            return True
        return not routing.candidates(self.replicas.values(), event.model, event.strands, frozenset())

    def _waiting_count(self) -> int:
        return sum(len(queue) for queue in self.waiting.values())

    def _place(self, ticket: Ticket, at: float) -> list[AnyEffect]:
        """Give the ticket to a replica, or make it wait behind those that came before."""
        if not self._line(ticket.arrived.model) and (dispatch := self._dispatch(ticket)):
            return [dispatch]
        return self._hold(ticket, at)

    def _line(self, model: str) -> bool:
        """Whether newcomers must stand in line. Those who wait for another replica than failed them are no line."""
        return any(not ticket.tried for ticket in self.waiting.get(model, {}).values())

    def _dispatch(self, ticket: Ticket, prefix: str = "") -> AnyEffect | None:
        """Take a lease for the ticket; ``None`` if no replica takes it now."""
        arrived = ticket.arrived
        free = routing.candidates(self.replicas.values(), arrived.model, arrived.strands, ticket.tried)
        if not free:
            return None
        replica, why = self._route(free)
        self._turn += 1
        replica.turn = self._turn
        replica.load += arrived.strands
        ticket.replica = replica
        ticket.attempts += 1
        ticket.step("dispatch")
        resume = ticket.seen and ticket.attempts > 1
        return Dispatch(arrived.ticket, replica.name, ticket.attempts, resume, prefix + why)

    def _hold(self, ticket: Ticket, at: float, *, first: bool = False, why: str = "") -> list[AnyEffect]:
        model, name = ticket.arrived.model, ticket.arrived.ticket
        queue = self.waiting.setdefault(model, {})
        ticket.step("hold")
        place = len(queue) + 1
        if first:  # it has been served before: most of those who wait have not
            ahead = {other: waits for other, waits in queue.items() if waits.attempts}
            place = len(ahead) + 1
            self.waiting[model] = {**ahead, name: ticket, **queue}
        else:
            queue[name] = ticket
        ticket.until = max(self._patience(ticket, at), at)
        hold = Hold(name, place, ticket.until, why or self._why_wait(model))
        return [hold, *self._wake(ticket.until)]

    def _why_wait(self, model: str) -> str:
        replicas = [replica for replica in self.replicas.values() if replica.model == model]
        ready = sum(replica.state == "ready" for replica in replicas)
        return f"every slot of {ready} ready replicas is in use" if ready else "no replica is ready yet"

    def _wake(self, at: float) -> list[AnyEffect]:
        if self._wake_at is not None and self._wake_at <= at:
            return []
        self._wake_at = at
        return [WakeAt(at)]

    def _drain_queue(self, model: str) -> list[AnyEffect]:
        """Dispatch those who wait, first come first served, while replicas take them.

        One that waits for another replica than failed it lets the others pass.
        """
        effects: list[AnyEffect] = []
        queue = self.waiting.get(model, {})
        served: list[str] = []
        for name, ticket in queue.items():
            dispatch = self._dispatch(ticket, "waited; ")
            if dispatch is not None:
                served.append(name)
                effects.append(dispatch)
            elif not ticket.tried:
                break
        for name in served:
            del queue[name]
        if not queue:
            self.waiting.pop(model, None)
        return effects

    # The answer's way out.

    def _current(self, name: str, attempt: int) -> Ticket | None:
        """The ticket, if this attempt is still the one that counts; late words of dead attempts are not."""
        ticket = self.tickets.get(name)
        if ticket is None or ticket.state != "running" or ticket.attempts != attempt:
            return None
        return ticket

    def _first_token(self, event: FirstToken) -> list[AnyEffect]:
        ticket = self._current(event.ticket, event.attempt)
        if ticket is not None:
            ticket.seen = ticket.arrived.streaming
            if not ticket.usage.prompt_tokens:  # the prompt is counted once, however many attempts it takes
                ticket.usage = Usage(event.prompt_tokens, event.cached_tokens, ticket.usage.completion_tokens)
        return []

    def _progress(self, event: Progress) -> list[AnyEffect]:
        ticket = self.tickets.get(event.ticket)
        if ticket is not None and ticket.state == "running":
            usage = ticket.usage
            ticket.usage = Usage(usage.prompt_tokens, usage.cached_tokens, event.completion_tokens)
        return []

    def _finished(self, event: Finished) -> list[AnyEffect]:
        ticket = self._current(event.ticket, event.attempt)
        if ticket is None:
            return []
        if ticket.replica is not None:
            ticket.replica.strikes = 0
        ticket.step("finish")
        ticket.usage = event.usage
        return self._end(ticket, event.at, "finished", "every strand ended as the engine said")

    def _client_gone(self, event: ClientGone) -> list[AnyEffect]:
        ticket = self.tickets.get(event.ticket)
        if ticket is None:
            return []
        ticket.usage = event.usage
        cancel = self._cancel(ticket)
        ticket.step("leave")
        why = "cut off by us" if ticket.cut else "the caller left"
        return [*cancel, *self._end(ticket, event.at, "client_gone", f"{why}; billed what the engine produced")]

    def _cancel(self, ticket: Ticket) -> list[AnyEffect]:
        if ticket.replica is None:
            return []
        return [Cancel(ticket.arrived.ticket, ticket.replica.name, ticket.attempts)]

    def _end(self, ticket: Ticket, at: float, outcome: Any, why: str, **error: str) -> list[AnyEffect]:
        """Give back everything the ticket held, book it, and let the next in."""
        name, model = ticket.arrived.ticket, ticket.arrived.model
        self._release(ticket)
        del self.tickets[name]
        self._leave_queue(ticket)
        self._settle(ticket, at)
        booked = metering.charge(name, ticket.key, model, ticket.policy.price, ticket.usage, outcome)
        return [booked, Close(name, outcome, why, **error), *self._drain_queue(model)]

    def _release(self, ticket: Ticket) -> None:
        """Give back the lease, once."""
        if ticket.replica is not None:
            ticket.replica.load -= ticket.arrived.strands
            ticket.replica = None

    def _leave_queue(self, ticket: Ticket) -> None:
        queue = self.waiting.get(ticket.arrived.model)
        if queue is not None:
            queue.pop(ticket.arrived.ticket, None)
            if not queue:
                del self.waiting[ticket.arrived.model]

    def _settle(self, ticket: Ticket, at: float) -> None:
        self.meters[ticket.key.id].settle(ticket.reserved, ticket.usage.total_tokens, at)

    # When things break.

    def _attempt_failed(self, event: AttemptFailed) -> list[AnyEffect]:
        ticket = self._current(event.ticket, event.attempt)
        if ticket is None or ticket.replica is None:
            return []
        replica = ticket.replica
        if event.failure == "rejected":
            return self._give_up(ticket, event.at, "bad_request", event.detail, "the engine rejected the request")
        usage = ticket.usage
        ticket.usage = Usage(usage.prompt_tokens, usage.cached_tokens, event.completion_tokens)
        ejected = self._strike(replica, event.at)
        meaning = f"{replica.name} {recovery.MEANING[event.failure]}"
        return [*ejected, *self._recover(ticket, event.at, meaning, event.detail)]

    def _strike(self, replica: Replica, at: float) -> list[AnyEffect]:
        if not recovery.strike(replica, self.settings, at):
            return []
        replica.state = step(REPLICA, replica.state, "strike_out")
        why = f"{replica.strikes} failures in a row"
        return [Eject(replica.name, replica.suspect_until, why), *self._wake(replica.suspect_until)]

    def _recover(self, ticket: Ticket, at: float, meaning: str, detail: str) -> list[AnyEffect]:
        """Send the ticket to another replica if that is right, else end it with a visible error."""
        model = ticket.arrived.model
        assert ticket.replica is not None
        ticket.tried.add(ticket.replica.name)
        self._release(ticket)
        what, reason = recovery.verdict(
            attempts=ticket.attempts, settings=self.settings, seen=ticket.seen, resumable=ticket.arrived.resumable
        )
        if what == "give_up":
            return self._give_up(ticket, at, "upstream_failed", f"{meaning}; {reason}. {detail}".strip(), meaning)
        why = f"{meaning}; {reason}; "
        dispatch = self._dispatch(ticket, why)
        placed = [dispatch] if dispatch else self._hold(ticket, at, first=True, why=why + self._why_wait(model))
        return [*placed, *self._drain_queue(model)]

    def _give_up(self, ticket: Ticket, at: float, reason: str, message: str, why: str) -> list[AnyEffect]:
        ticket.step("fail")
        return self._end(ticket, at, "failed", why, reason=reason, message=message)

    def _replica_lost(self, event: ReplicaLost) -> list[AnyEffect]:
        replica = self.replicas.get(event.replica)
        if replica is None or replica.state == "lost":
            return []
        replica.state = step(REPLICA, replica.state, "lose")
        effects: list[AnyEffect] = []
        for ticket in [t for t in self.tickets.values() if t.replica is replica]:
            effects += self._cancel(ticket)
            effects += self._recover(ticket, event.at, f"{replica.name} {recovery.MEANING['lost']}", event.cause)
        return effects

    def _replica_seen(self, event: ReplicaSeen) -> list[AnyEffect]:
        replica = self.replicas.get(event.replica)
        if replica is None:
            replica = Replica(event.replica, event.model, event.slots, event.generation)
            self.replicas[event.replica] = replica
        elif replica.generation != event.generation or replica.state == "lost":
            return self._reborn(replica, event)
        return self._drain_queue(replica.model)

    def _reborn(self, replica: Replica, event: ReplicaSeen) -> list[AnyEffect]:
        """Trust it again: those it failed before its restart need not wait for another one any more."""
        happening = "restart" if replica.state == "suspect" else "see"
        replica.state = step(REPLICA, replica.state, happening)
        replica.generation, replica.slots, replica.strikes = event.generation, event.slots, 0
        models = dict.fromkeys((replica.model, event.model))  # who waited for the old one looks elsewhere
        replica.model = event.model
        for ticket in self.tickets.values():
            ticket.tried.discard(replica.name)
        return [effect for model in models for effect in self._drain_queue(model)]

    # Keys, settings and time.

    def _key_changed(self, event: KeyChanged) -> list[AnyEffect]:
        key = event.key
        self.keys[key.digest] = key
        limits = self._limits(key)
        meter = self.meters.get(key.id)
        if meter is None:
            self.meters[key.id] = admission.Meter(limits)
        elif meter.limits != limits:
            meter.set(limits)
        self._revoked_from.pop(key.id, None)
        if key.revoked_s is None:
            return []
        if key.revoked_s > event.at:  # planned, or by a clock that is ahead of ours
            self._revoked_from[key.id] = key.revoked_s
            return self._wake(key.revoked_s)
        return self._cut_off(key.id)

    def _revoke(self, at: float) -> list[AnyEffect]:
        effects: list[AnyEffect] = []
        for key_id in [key_id for key_id, since in self._revoked_from.items() if since <= at]:
            del self._revoked_from[key_id]
            effects += self._cut_off(key_id)
        return effects

    def _cut_off(self, key_id: str) -> list[AnyEffect]:
        """A revoked key takes its open streams with it (Open WebUI's CVE-2026-44553 did not)."""
        effects: list[AnyEffect] = []
        for name, ticket in self.tickets.items():
            if ticket.key.id == key_id and not ticket.cut:
                ticket.cut = True
                effects.append(Cut(name, "invalid_api_key", "this key was revoked while the answer was streaming"))
        return effects

    def _limits(self, key: Key) -> Any:
        own, default = key.limits, self.settings.default_limits
        return type(own)(
            requests_per_minute=own.requests_per_minute or default.requests_per_minute,
            tokens_per_minute=own.tokens_per_minute or default.tokens_per_minute,
            concurrent=own.concurrent or default.concurrent,
        )

    def _settings_changed(self, event: SettingsChanged) -> list[AnyEffect]:
        self._adopt(event.settings)
        for key in self.keys.values():
            meter = self.meters[key.id]
            if meter.limits != (limits := self._limits(key)):
                meter.set(limits)
        return [effect for model in list(self.waiting) for effect in self._drain_queue(model)]

    def _tick(self, event: Tick) -> list[AnyEffect]:
        self._wake_at = None
        effects = [*self._forgive(event.at), *self._expire_due(event.at), *self._revoke(event.at)]
        due = [t.until for queue in self.waiting.values() for t in queue.values()]
        due += self._revoked_from.values()
        due += [r.suspect_until for r in self.replicas.values() if r.state == "suspect"]
        return effects + (self._wake(min(due)) if due else [])

    def _forgive(self, at: float) -> list[AnyEffect]:
        effects: list[AnyEffect] = []
        for replica in self.replicas.values():
            if replica.state == "suspect" and replica.suspect_until <= at:
                replica.state = step(REPLICA, replica.state, "forgive")
                replica.strikes = self.settings.strikes_max - 1  # the next failure sends it away again
                effects += self._drain_queue(replica.model)
        return effects

    def _expire_due(self, at: float) -> list[AnyEffect]:
        over = [t for queue in self.waiting.values() for t in queue.values() if t.until <= at]
        for ticket in over:  # all of them first: one that leaves lets others in, and those must be none of these
            self._leave_queue(ticket)
        return [effect for ticket in over for effect in self._expire(ticket, at)]

    def _expire(self, ticket: Ticket, at: float) -> list[AnyEffect]:
        waited_s = at - ticket.arrived.at
        message = f"no replica was free within {waited_s:.0f} s; the platform is busy"
        if ticket.attempts:  # it ran before: the caller may have part of an answer, so this is a failure
            return self._give_up(ticket, at, "upstream_failed", message, "waited too long for another replica")
        ticket.step("refuse")
        arrived = ticket.arrived
        del self.tickets[arrived.ticket]
        self._settle(ticket, at)
        passed = arrived.deadline_s is not None and arrived.at + arrived.deadline_s <= at
        reason = "deadline_exceeded" if passed else "overloaded"  # SDKs try again after ours, not after theirs
        refuse = Refuse(arrived.ticket, reason, message, "waited too long", retry_after_s=1.0)
        return [refuse, *self._drain_queue(arrived.model)]

    # The books.

    def check(self) -> None:
        """Verify the whole state; raises ``AssertionError`` on the first thing that does not add up."""
        for name, replica in self.replicas.items():
            leases = sum(t.arrived.strands for t in self.tickets.values() if t.replica is replica)
            assert replica.load == leases, f"{name} carries {replica.load}, its leases are {leases}"
        for name, ticket in self.tickets.items():
            assert ticket.state in ("waiting", "running"), f"{name} is {ticket.state}"
            assert (ticket.replica is not None) == (ticket.state == "running"), f"{name}: lease and state differ"
            queued = name in self.waiting.get(ticket.arrived.model, {})
            assert queued == (ticket.state == "waiting"), f"{name}: queue and state differ"
        for key_id, meter in self.meters.items():
            mine = sum(t.key.id == key_id for t in self.tickets.values())
            assert meter.open_requests == mine, f"{key_id}: {meter.open_requests} open, {mine} tickets"
        waiting = {name for queue in self.waiting.values() for name in queue}
        assert waiting <= self.tickets.keys(), "someone waits without a ticket"
        assert all(self.waiting.values()), "an empty queue was kept"


def _refusal(ticket: str, error: UnderlayError, why: str) -> Refuse:
    return Refuse(ticket, error.reason, error.message, why, error.param, error.retry_after_s)


def assemble(settings: DeskSettings) -> Desk:
    """Make a desk. The live platform, the twin and the replay all come through here; nobody else makes one."""
    return Desk(settings)
