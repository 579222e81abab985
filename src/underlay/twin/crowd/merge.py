"""Several crowds as one: calls in the order of time, and what follows a call left to the crowd that made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from operator import attrgetter
from random import Random
from typing import NamedTuple

from .call import Call, Outcome
from .section import KnownCrowd

#: Over how long, and how finely, crowds are weighed against each other where no time is given.
_DAY_S, _MINUTE_S = 86_400, 60


class _Mark(NamedTuple):
    """Who made a call, and what that crowd itself had written on it."""

    place: int
    more: object


class Merged:
    """Crowds as one. Calls at the same time come in the order of the crowds."""

    def __init__(self, crowds: Sequence[KnownCrowd]) -> None:
        self.crowds = tuple(crowds)
        self.follows = any(crowd.follows for crowd in self.crowds)

    def calls(self, dice: Random) -> Iterator[Call]:
        """All calls, in order. Each crowd has dice of its own, whatever the others throw."""
        own = [Random(dice.getrandbits(64)) for _ in self.crowds]  # noqa: S311 -- it must repeat
        streams = [
            _marked(place, crowd.calls(throws)) if crowd.follows else crowd.calls(throws)
            for place, (crowd, throws) in enumerate(zip(self.crowds, own, strict=True))
        ]
        return streams[0] if len(streams) == 1 else merge(*streams, key=attrgetter("at"))

    def follow_up(self, call: Call, outcome: Outcome, at: float, dice: Random) -> Call | None:
        """What its own crowd makes of the end of a call."""
        mark = call.more
        if not isinstance(mark, _Mark):
            return None
        call.more = mark.more
        following = self.crowds[mark.place].follow_up(call, outcome, at, dice)
        call.more = mark
        if following is not None:
            following.more = _Mark(mark.place, following.more)
        return following

    def rate_per_s(self, at: float) -> float:
        """The sum of all rates."""
        return sum(crowd.rate_per_s(at) for crowd in self.crowds)

    def sample(self, count: int, dice: Random) -> list[Call]:
        """Typical calls of each crowd, as many as it has of all calls on the first day."""
        minutes = range(0, _DAY_S, _MINUTE_S)
        weights = [sum(crowd.rate_per_s(float(at)) for at in minutes) for crowd in self.crowds]
        if not sum(weights):
            return []
        chosen = dice.choices(range(len(weights)), weights, k=count)
        drawn = [iter(crowd.sample(chosen.count(place), dice)) for place, crowd in enumerate(self.crowds)]
        return [next(drawn[place]) for place in chosen]

    def check(self) -> None:
        """Let each read what it is made of."""
        for crowd in self.crowds:
            crowd.check()

    def tenant_bands(self) -> dict[str, str]:
        """Everybody who may call, and the band of each: that of the first crowd that knows one."""
        known: dict[str, str] = {}
        for crowd in self.crowds:
            for tenant, band in crowd.tenant_bands().items():
                known[tenant] = known.get(tenant) or band
        return known

    def warnings(self) -> tuple[str, ...]:
        """What to tell the reader, each once."""
        return tuple(dict.fromkeys(warning for crowd in self.crowds for warning in crowd.warnings()))


def _marked(place: int, calls: Iterator[Call]) -> Iterator[Call]:
    for call in calls:
        call.more = _Mark(place, call.more)
        yield call
