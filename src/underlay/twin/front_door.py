"""The door before all regions: what a name server or an anycast address is to the callers.

It looks at the regions and at the ways there now and then, as health checks do, and lets ``control.regions``
choose. What it has seen is up to ``LOOK_S`` old: calls that go to a region lost since are turned away there, as
they would be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf

from underlay.control.regions import CHOICES, RegionSeen, Way

from .kernel import Kernel
from .platform import Platform
from .world.fabric import Fabric

#: How often regions are looked at. Assumed: usual health checks of balancers run every 1 to 10 s.
LOOK_S = 5.0

#: Price (USD per kWh) and carbon (grams per kWh) of a region at a time, None where nobody knows.
Tariffs = Callable[[str, float], tuple[float | None, float | None]]


class FrontDoor:
    """Sends each call to a region, by a choice of ``control.regions.CHOICES``."""

    def __init__(
        self,
        kernel: Kernel,
        platforms: Mapping[str, Platform],
        fabric: Fabric,
        choice: str,
        rtt_max_s: float,
        tariffs: Tariffs,
    ) -> None:
        self._kernel = kernel
        self._platforms = platforms
        self._fabric = fabric
        self._choose = CHOICES[choice]
        self._rtt_max_s = rtt_max_s
        self._tariffs = tariffs
        self._only = next(iter(platforms)) if len(platforms) == 1 else None
        self._seen: dict[str, dict[str, RegionSeen]] = {}
        self._ways: dict[str, list[Way]] = {}
        self._way_s: dict[str, dict[str, float]] = {}

    def begin(self) -> None:
        """Look at the regions from now on."""
        self._look(self._kernel.at, None)

    def seen(self, model: str) -> Mapping[str, RegionSeen]:
        """Every region as it was seen last."""
        return self._seen.get(model) or self._look_at(model)

    def ways(self, place: str) -> list[Way]:
        """The regions that can be reached from near one, the nearest first."""
        return self._ways[place]

    def way_s(self, place: str, region: str) -> float:
        """One way from near a region to a region."""
        return self._way_s[place][region]

    def choose(self, place: str, model: str) -> tuple[str, float] | None:
        """The region for a call from near a region, and one way to it; None if no way leads to any that is up."""
        ways = self._ways[place]
        if self._only is not None:
            return (self._only, self._way_s[place][self._only]) if ways else None
        choice = self._choose(ways, self.seen(model), self._rtt_max_s)
        return None if choice is None else (choice.region, self._way_s[place][choice.region])

    def _look(self, at: float, _: None) -> None:
        for place in self._platforms:
            found = {region: self._fabric.call_s(place, region) for region in self._platforms}
            self._way_s[place] = found
            ways = [
                Way(region, 2.0 * way_s) for region, way_s in found.items() if way_s < inf
            ]  # others are cut off
            self._ways[place] = sorted(ways, key=lambda way: way.rtt_s)
        for model in list(self._seen):
            self._look_at(model)
        self._kernel.call(at + LOOK_S, self._look)

    def _look_at(self, model: str) -> dict[str, RegionSeen]:
        at = self._kernel.at
        found = {name: self._glance(platform, model, at) for name, platform in self._platforms.items()}
        self._seen[model] = found
        return found

    def _glance(self, platform: Platform, model: str, at: float) -> RegionSeen:
        desk = platform.desk.of_model(model)
        pool = desk.pool
        price, carbon = self._tariffs(platform.name, at)
        ready = platform.up and pool.ready > 0
        return RegionSeen(ready, pool.load, pool.slots, desk.waiting(), price, carbon)
