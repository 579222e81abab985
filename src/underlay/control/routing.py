"""Which replica, and why?

Decided from the leases the desk itself holds on each replica (never from scraped gauges, which lag and make
routers herd). Only replicas of the right model that are ready and have a slot free are looked at. A policy is
a plain function from candidates to a choice; ``POLICIES`` maps the setting to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence


class Replica:
    """What the desk knows of a replica. ``load`` counts leased strands; ``turn`` is when it was last chosen."""

    __slots__ = ("generation", "load", "model", "name", "slots", "state", "strikes", "suspect_until", "turn")

    def __init__(self, name: str, model: str, slots: int, generation: int) -> None:
        self.name = name
        self.model = model
        self.slots = slots
        self.generation = generation
        self.state = "ready"
        self.load = 0
        self.strikes = 0
        self.suspect_until = 0.0
        self.turn = 0

    @property
    def free_slots(self) -> int:
        """Slots without a lease."""
        return self.slots - self.load

    def takes(self, strands: int) -> bool:
        """Whether this many strands may start now; an idle replica takes more than its slots, in turns."""
        return self.free_slots >= strands or self.load == 0


Policy = Callable[[Sequence[Replica]], tuple[Replica, str]]


def least_loaded(candidates: Sequence[Replica]) -> tuple[Replica, str]:
    """Choose the smallest share of slots in use; among equals the one not chosen for longest."""
    chosen = min(candidates, key=lambda replica: (replica.load / replica.slots, replica.turn))
    return chosen, f"least loaded of {len(candidates)} with a free slot: {chosen.load} of {chosen.slots} in use"


POLICIES: dict[str, Policy] = {"least_loaded": least_loaded}


def candidates(
    replicas: Iterable[Replica], model: str, strands: int, avoid: frozenset[str] | set[str]
) -> list[Replica]:
    """The ready replicas of ``model`` that take ``strands`` now; those to ``avoid`` only if no other is ready."""
    ready = [replica for replica in replicas if replica.model == model and replica.state == "ready"]
    fresh = [replica for replica in ready if replica.name not in avoid] or ready
    return [replica for replica in fresh if replica.takes(strands)]
