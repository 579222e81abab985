"""The life of the replicas: seen, slow at first, struck, left alone, forgiven, drained, lost, reborn.

Decided here is what each step means for those who run on the replica and those who wait for one; ``recovery``
says when a step is due. What ran on one that is gone is handed back to the desk, which alone knows whether it
may go on elsewhere. It refuses to know keys, bills and prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from underlay.domain.policy import DeskSettings

from . import recovery
from .agenda import Agenda
from .effects import Cancel, Drained, Effects, Eject
from .events import Probed, ReplicaDraining, ReplicaLost, ReplicaSeen
from .fleet import Lease, Pool, Replica
from .lifecycles import REPLICA, step
from .model_desk import ModelDesk
from .ticket import Ticket


class Office(Protocol):
    """What the replicas' desk needs of the desk it is part of."""

    settings: DeskSettings
    tickets: dict[str, Ticket]
    agenda: Agenda

    def of_model(self, model: str) -> ModelDesk:
        """The desk of a model; made if there is none."""

    def serve(self, model: ModelDesk, at: float) -> Effects:
        """Let in whoever can go now."""

    def move(self, ticket: Ticket, lease: Lease, at: float, meaning: str, detail: str) -> Effects:
        """End an attempt whose replica is gone, and go on without it."""


class ReplicaDesk:
    """All replicas, by name."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self.replicas: dict[str, Replica] = {}

    # After an attempt.

    def released(self, replica: Replica) -> Effects:
        """A draining replica on which nothing runs any more is drained."""
        if replica.state == "draining" and replica.load == 0:
            return [Drained(replica.name, "nothing runs on it any more")]
        return []

    def praise(self, replica: Replica, at: float) -> Effects:
        """A replica finished an attempt; if that was measured, look whether it is far slower than its peers."""
        if replica.strikes or replica.ejections:
            recovery.praise(replica, at)
        limit = replica.limit
        if limit is None or limit.itl_at != at or replica.state != "ready":
            return []
        pool = self._pool(replica)
        why = recovery.outlier(pool, replica)
        if not why or not recovery.eject(pool, replica, self._office.settings, at):
            return []
        return self._eject(replica, at, why)

    def strike(self, replica: Replica, at: float) -> Effects:
        """Count a failure against a replica, and leave it alone if it was one too many."""
        pool = self._pool(replica)
        if not recovery.strike(pool, replica, self._office.settings, at):
            return []
        why = f"{replica.strikes} failures in a row" if replica.strikes > 1 else "it failed"
        return self._eject(replica, at, why)

    def _eject(self, replica: Replica, at: float, why: str) -> Effects:
        self._set_state(replica, "strike_out")
        self._office.agenda.add(replica.suspect_until, "forgive", replica)
        return [Eject(replica.name, replica.suspect_until, why), *self._hurry(replica, at)]

    def _hurry(self, gone: Replica, at: float) -> Effects:
        """One less carries the load: those that start slowly may be needed whole."""
        slow = [r for r in self._pool(gone).members.values() if r.ramp_from is not None and r.state == "ready"]
        return [effect for replica in slow for effect in self.ramp(replica, at)]

    # Steps of its life.

    def _pool(self, replica: Replica) -> Pool:
        return self._office.of_model(replica.model).pool

    def _set_state(self, replica: Replica, happening: str) -> None:
        state = step(REPLICA, replica.state, happening)
        self._pool(replica).set_state(replica, state)

    def lost(self, event: ReplicaLost) -> Effects:
        """A replica is gone: what ran on it goes elsewhere."""
        replica = self.replicas.get(event.replica)
        if replica is None or replica.state == "lost":
            return []
        return self._lose(replica, event.at, event.cause)

    def _lose(self, replica: Replica, at: float, cause: str) -> Effects:
        model = self._office.of_model(replica.model)
        self._set_state(replica, "lose")
        model.index.forget(replica)
        model.route.forget(replica)
        hurried = self._hurry(replica, at)
        return [*self._move_away(replica, at, f"{replica.name} {recovery.MEANING['lost']}", cause), *hurried]

    def _move_away(self, replica: Replica, at: float, meaning: str, detail: str) -> Effects:
        """Everything that runs on it goes elsewhere."""
        effects: Effects = []
        for ticket, lease in list(self._leases_on(replica)):
            effects.append(Cancel(ticket.name, replica.name, lease.attempt))
            effects += self._office.move(ticket, lease, at, meaning, detail)
        return effects

    def _leases_on(self, replica: Replica) -> Iterator[tuple[Ticket, Lease]]:
        if replica.load:
            for ticket in self._office.tickets.values():
                for lease in ticket.leases():
                    if lease.replica is replica:
                        yield ticket, lease

    def seen(self, event: ReplicaSeen) -> Effects:
        """A replica is there: known, new, or back from the dead."""
        replica = self.replicas.get(event.replica)
        if replica is None:
            model = self._office.of_model(event.model)
            replica = self.replicas[event.replica] = model.pool.join(event.replica, event.slots, event.generation)
        elif replica.generation == event.generation and replica.state != "lost":
            return self._office.serve(self._office.of_model(replica.model), event.at)
        else:
            return self._reborn(replica, event)
        return self._furnish(replica, event)

    def _furnish(self, replica: Replica, event: ReplicaSeen) -> Effects:
        """Give a replica that just started what it needs, and let those in who wait for it."""
        model = self._office.of_model(replica.model)
        tokens = event.cache_tokens or self._office.settings.index_tokens
        replica.blocks_max = max(1, int(tokens / model.index.block_tokens))
        replica.limit = model.limit_of(replica)
        return self._start_slowly(replica, event.at)

    def _reborn(self, replica: Replica, event: ReplicaSeen) -> Effects:
        """Trust it again: those it failed before its restart need not wait for another one any more."""
        moved: Effects = self._lose(replica, event.at, "it restarted") if replica.state != "lost" else []
        model = self._office.of_model(replica.model)
        for ticket in self._office.tickets.values():
            if replica.name in ticket.tried:
                ticket.tried -= {replica.name}
                ticket.not_before = 0.0
        if event.model != replica.model:
            model.pool.leave(replica)
            model.route.forget(replica)
            replica = self.replicas[event.replica] = self._office.of_model(event.model).pool.join(
                event.replica, event.slots, event.generation
            )
            moved += self._office.serve(model, event.at)  # who waited for it may wait for another of the old ones
        else:
            replica.generation, replica.strikes = event.generation, 0
            model.pool.resize(replica, event.slots)
            self._set_state(replica, "see")
        return [*moved, *self._furnish(replica, event)]

    def _start_slowly(self, replica: Replica, at: float) -> Effects:
        replica.ramp_from = at
        return self.ramp(replica, at)

    def ramp(self, replica: Replica, at: float) -> Effects:
        """Give one that came back the part of its slots that is due by now."""
        model = self._office.of_model(replica.model)
        again_at = recovery.ramp(replica, model.pool, self._office.settings, at)
        if again_at is not None:
            self._office.agenda.add(again_at, "ramp", replica)
        return self._office.serve(model, at)

    def forgive(self, replica: Replica, at: float) -> Effects:
        """Its time alone is over; the next failure sends it away again."""
        self._set_state(replica, "forgive")
        replica.strikes = self._office.settings.strikes_max - 1  # the next failure sends it away again
        return self._start_slowly(replica, at)

    def draining(self, event: ReplicaDraining) -> Effects:
        """Take a replica out of service, or back into it."""
        replica = self.replicas.get(event.replica)
        if replica is None or replica.state == "lost" or event.drain == (replica.state == "draining"):
            return []
        if not event.drain:
            self._set_state(replica, "restore")
            return self._office.serve(self._office.of_model(replica.model), event.at)
        self._set_state(replica, "drain")
        replica.drain_until = event.at + self._office.settings.drain_s
        self._office.agenda.add(replica.drain_until, "drain", replica)
        return [*self._hurry(replica, event.at), *self.released(replica)]

    def drain_is_over(self, replica: Replica, at: float) -> Effects:
        """The second phase: what still runs on it goes on elsewhere."""
        return self._move_away(replica, at, f"{replica.name} is drained", "Its time to finish is over")

    def probed(self, event: Probed) -> Effects:
        """Pass on how busy a replica is by its own count."""
        replica = self.replicas.get(event.replica)
        if replica is not None and replica.state == "ready":
            self._office.of_model(replica.model).route.probed(replica, event.running, event.waiting, event.at)
        return []
