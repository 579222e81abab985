"""The door before all regions, in a world of flows: the same choices of ``control.regions`` as at request level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from underlay.control.regions import CHOICES, RegionSeen, Way
from underlay.twin.front_door import Tariffs
from underlay.twin.world.fabric import Fabric

from .crew import FlowRegion
from .pools import Pool

#: No way leads to any region that is up.
NOWHERE = -1


class Door:
    """Sends the calls of each region's callers for each model to a region, until it looks again."""

    def __init__(
        self,
        regions: Sequence[FlowRegion],
        models: int,
        pools: Mapping[tuple[int, int], Pool],
        fabric: Fabric,
        choice: str,
        rtt_max_s: float,
        tariffs: Tariffs,
    ) -> None:
        self.way_s = [[inf] * len(regions) for _ in regions]
        self.chosen = [[NOWHERE] * models for _ in regions]
        self._regions = regions
        self._places = {region.name: place for place, region in enumerate(regions)}
        self._models = models
        self._pools = pools
        self._fabric = fabric
        self._choose = CHOICES[choice]
        self._rtt_max_s = rtt_max_s
        self._tariffs = tariffs

    def look(self, at: float) -> None:
        """See how the regions and the ways to them are now."""
        names = list(self._places)
        seen = [self._look_at(model, at) for model in range(self._models)]
        for origin, name in enumerate(names):
            self.way_s[origin] = ways_s = [self._fabric.call_s(name, other) for other in names]
            open_ways = [Way(other, 2.0 * s) for other, s in zip(names, ways_s, strict=True) if s < inf]
            open_ways.sort(key=lambda way: way.rtt_s)
            for model in range(self._models):
                self.chosen[origin][model] = self._to(open_ways, seen[model])

    def _to(self, ways: Sequence[Way], seen: Mapping[str, RegionSeen]) -> int:
        if len(self._regions) == 1:
            return 0 if ways else NOWHERE
        choice = self._choose(ways, seen, self._rtt_max_s)
        return NOWHERE if choice is None else self._places[choice.region]

    def _look_at(self, model: int, at: float) -> dict[str, RegionSeen]:
        return {region.name: self._glance(place, region, model, at) for place, region in enumerate(self._regions)}

    def _glance(self, place: int, region: FlowRegion, model: int, at: float) -> RegionSeen:
        pool = self._pools.get((place, model))
        price, carbon = self._tariffs(region.name, at)
        if pool is None or not pool.ready or not region.up:
            return RegionSeen(False, usd_kwh=price, carbon_g_kwh=carbon)
        slots = pool.surface.slots * pool.ready
        return RegionSeen(True, min(slots, int(pool.running)), slots, int(pool.line), price, carbon)
