"""A ring of hashed points: the same key meets the same replicas in the same order, whoever else comes or goes.

With a bound on load (Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", 2018): who
carries 1.25 times its part already is passed by. Its part is that of its slots in the slots of all that may be
chosen; those that may not count neither here nor there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from hashlib import blake2b
from math import ceil

from underlay.control.dice import Dice
from underlay.control.fleet import Pool, Replica
from underlay.control.prefixes import PrefixIndex

from .policy import Ask, Choice, allowed, choice, least_pressed, least_score, may

#: Points per replica: their shares of the keys then differ by some 6 %.
_POINTS = 256
#: How much above its part a replica may be loaded.
_BOUND = 1.25


class Ring:
    """The points of one pool's members. A change moves the points of those that came or went and of nobody else."""

    __slots__ = ("_names", "_points", "changed")

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._points: list[tuple[int, str]] = []
        self.changed = False

    def keep(self, members: Collection[str]) -> None:
        """Take in who came and leave out who went; looks closer only after a change."""
        if len(members) == len(self._names) and not self.changed:
            return
        self.changed = False
        gone = self._names.difference(members)
        if gone:
            self._points = [point for point in self._points if point[1] not in gone]
            self._names -= gone
        came = [name for name in members if name not in self._names]
        for name in came:
            self._points.extend(_points_of(name))
        if came:
            self._points.sort()  # two sorted runs: linear
            self._names.update(came)

    def walk(
        self, key: int, pool: Pool, among: frozenset[Replica] | None, bound: float
    ) -> tuple[Replica | None, int]:
        """Find the first candidate from ``key`` on whose load per slot is below ``bound``; count those passed."""
        points, passed = self._points, dict[str, None]()
        at = bisect_left(points, (key, ""))
        for step in range(at - len(points), at):  # negative places wrap around
            name = points[step][1]
            if name in passed:
                continue
            replica = pool.members.get(name)
            if replica is not None and may(replica, among):
                if replica.load < ceil(bound * replica.slots):
                    return replica, len(passed)
                passed[name] = None
        return None, len(passed)


class Rings:
    """A ring for each model."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[str, Ring] = {}

    def choose(
        self, key: int, whose: str, ask: Ask, candidates: Sequence[Replica], pool: Pool, index: PrefixIndex
    ) -> Choice:
        """Choose by ``key``, which is ``whose``; without one (0) the least score."""
        if not key:
            return _scored(ask, candidates, pool, index, f"no {whose} to go by")
        ring = self._of.get(pool.model)
        if ring is None:
            ring = self._of[pool.model] = Ring()
        ring.keep(pool.members.keys())
        chosen, passed = ring.walk(_spread(key), pool, allowed(candidates, pool), _bound(candidates, ask.strands))
        if chosen is None:
            return _scored(ask, candidates, pool, index, "no place on the ring has room")
        instead = f", past {passed} with more than {_BOUND} times their part" if passed else ""
        return choice(ask, chosen, index, f"its {whose}'s place on the ring{instead}")

    def forget(self, replica: Replica) -> None:
        """Look at the members again at the next choice."""
        ring = self._of.get(replica.model)
        if ring is not None:
            ring.changed = True


def _points_of(name: str) -> list[tuple[int, str]]:
    dice = Dice(int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big"))
    return sorted((dice.next(), name) for _ in range(_POINTS))


def _spread(key: int) -> int:
    """Spread keys that may be close to each other over the ring."""
    return Dice(key).next()


def _bound(candidates: Sequence[Replica], strands: int) -> float:
    """Return the load per slot that nobody is given more at; there is always one below it."""
    load = slots = 0
    for replica in candidates:
        load += replica.load
        slots += replica.slots
    return _BOUND * (load + strands) / slots


def _scored(ask: Ask, candidates: Sequence[Replica], pool: Pool, index: PrefixIndex, cause: str) -> Choice:
    best = least_score(ask, ask.chain, least_pressed(ask, candidates, pool), index)
    chosen = candidates[0] if best is None else best[0]
    return choice(ask, chosen, index, f"{cause}: least score")
