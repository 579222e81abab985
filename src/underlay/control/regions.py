"""Which region answers a call?

Decided here from what was last seen of each region (whether a replica of the model is ready there, how busy they
are, what its electricity costs and emits) and from the way there. What was seen is always a little old: a region
that failed since is found closed at its door. It refuses to know replicas, callers' names and clocks; within the
region its own desk decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

#: A region is busy when so much of its slots is taken, or somebody waits: beyond it queues grow quickly.
BUSY_SHARE = 0.85


class RegionSeen(NamedTuple):
    """A region as it was seen last, for one model. Prices in USD per kWh, carbon in grams per kWh, if known."""

    ready: bool
    load: int = 0
    slots: int = 0
    waiting: int = 0
    usd_kwh: float | None = None
    carbon_g_kwh: float | None = None

    @property
    def busy(self) -> bool:
        """Whether more calls would have to wait, or soon will."""
        return self.waiting > 0 or self.load >= BUSY_SHARE * self.slots


class Way(NamedTuple):
    """A region, and the round trip from the caller to it."""

    region: str
    rtt_s: float


class Choice(NamedTuple):
    """The region, and why in words."""

    region: str
    why: str


Choose = Callable[[Sequence[Way], Mapping[str, RegionSeen], float], Choice | None]


def nearest(ways: Sequence[Way], seen: Mapping[str, RegionSeen], _rtt_max_s: float) -> Choice | None:
    """The nearest region that is up."""
    for place, way in enumerate(ways):
        if seen[way.region].ready:
            return Choice(way.region, "the nearest that is up" if place else "the nearest")
    return None


def spill(ways: Sequence[Way], seen: Mapping[str, RegionSeen], rtt_max_s: float) -> Choice | None:
    """The nearest region that is up and not busy; if all within reach are busy, the one with most room.

    The next region costs a few tens of milliseconds, a queue costs seconds.
    """
    up = _within(ways, seen, rtt_max_s)
    for place, way in enumerate(up):
        if not seen[way.region].busy:
            return Choice(way.region, "nearer ones are busy" if place else "the nearest")
    if not up:
        return None
    least = min(up, key=lambda way: _pressure(seen[way.region]))
    return Choice(least.region, "all are busy, and it is the least")


def cheapest(ways: Sequence[Way], seen: Mapping[str, RegionSeen], rtt_max_s: float) -> Choice | None:
    """Of those within reach that are not busy, the one with the lowest price of electricity."""
    return _by(ways, seen, rtt_max_s, "usd_kwh", "the cheapest electricity within reach")


def greenest(ways: Sequence[Way], seen: Mapping[str, RegionSeen], rtt_max_s: float) -> Choice | None:
    """Of those within reach that are not busy, the one whose electricity emits least."""
    return _by(ways, seen, rtt_max_s, "carbon_g_kwh", "the lowest carbon within reach")


#: By the name of the setting.
CHOICES: Mapping[str, Choose] = {
    "nearest": nearest,
    "spill": spill,
    "cheapest": cheapest,
    "greenest": greenest,
}


def _by(
    ways: Sequence[Way], seen: Mapping[str, RegionSeen], rtt_max_s: float, figure: str, why: str
) -> Choice | None:
    """The least of a figure among regions with room; a region whose figure is not known is not chosen for it."""
    idle = [way for way in _within(ways, seen, rtt_max_s) if not seen[way.region].busy]
    known = [(getattr(seen[way.region], figure), way) for way in idle]
    told = [(value, way) for value, way in known if value is not None]
    if not told:
        return spill(ways, seen, rtt_max_s)
    return Choice(min(told, key=lambda each: each[0])[1].region, why)


def _within(ways: Sequence[Way], seen: Mapping[str, RegionSeen], rtt_max_s: float) -> list[Way]:
    """Regions that are up and within reach; farther ones only if there are no others."""
    up = [way for way in ways if seen[way.region].ready]
    return [way for way in up if way.rtt_s <= rtt_max_s] or up


def _pressure(seen: RegionSeen) -> float:
    return (seen.load + seen.waiting) / max(1, seen.slots)
