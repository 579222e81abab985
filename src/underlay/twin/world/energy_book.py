"""Where did the energy go, and what did it cost in carbon, water and money?

One row of sums for each site. The leaves (accelerators busy and idle, host), the losses on the way and cooling add
up to what the feeder delivered; that is tested, not arranged: the feeder's sum is made from the tree, the others
from the servers. Refused here: watts, rates over time, requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from underlay.domain.figures import JOULES_KWH, Method, weakest
from underlay.twin.records import Account
from underlay.twin.run_ledger import CLOSES, LEAST_J
from underlay.twin.world.power_tree import Floats

BUSY, IDLE, HOST, CHAIN, COOLING, IT, FEEDER, CARBON, PRICE, WATER_ON, WATER_OFF, ACTIVE, HOURS = range(13)


class Kind(NamedTuple):
    """What a column of the book is called and means; ``scale`` turns its sums into the unit."""

    name: str
    unit: str
    boundary: str
    scale: float = 1.0


KINDS = (
    Kind("accelerators_busy", "kWh", "accelerators while they compute", 1 / JOULES_KWH),
    Kind("accelerators_idle", "kWh", "accelerators that are on and wait", 1 / JOULES_KWH),
    Kind("host", "kWh", "processors, memory, drives, network cards and fans", 1 / JOULES_KWH),
    Kind("power_chain_loss", "kWh", "power supplies, racks, distribution, uninterruptible supply", 1 / JOULES_KWH),
    Kind("cooling", "kWh", "fans, pumps and chillers of the site", 1 / JOULES_KWH),
    Kind("energy_it", "kWh", "servers at their plugs: what PUE counts as IT", 1 / JOULES_KWH),
    Kind("energy_feeder", "kWh", "the site's feeder: everything above", 1 / JOULES_KWH),
    Kind("carbon", "gCO2e", "feeder energy, location-based average of the grid"),
    Kind("electricity_cost", "USD", "feeder energy"),
    Kind("water_on_site", "L", "evaporated by cooling on site"),
    Kind("water_off_site", "L", "evaporated by the power stations of the country, for feeder energy"),
    Kind("host_active", "kWh", "what of the hosts' energy goes with busy accelerators", 1 / JOULES_KWH),
    Kind("accelerator_hours", "h", "time in which accelerators computed, added up", 1 / 3600.0),
)
#: What the feeder delivers.
PARTS = (BUSY, IDLE, HOST, CHAIN, COOLING)


class EnergyBook:
    """The sums of every site; a column that nobody could fill for one of the sites is not told for it.

    ``marks`` are what the sums had come to at the end of each hour, or of the first settling after it.
    """

    __slots__ = ("known", "marks", "sums")

    def __init__(self, sites: int) -> None:
        self.sums = np.zeros((len(KINDS), sites))
        self.known = np.ones((len(KINDS), sites), dtype=np.bool_)
        self.marks: list[tuple[float, Floats]] = [(0.0, self.sums.copy())]

    def add(self, kind: int, values: Floats) -> None:
        """Add to a column, one value for each site."""
        self.sums[kind] += values

    def mark(self, at: float) -> None:
        """All that was drawn up to now is written."""
        if at // 3600.0 > self.marks[-1][0] // 3600.0:
            self.marks.append((at, self.sums.copy()))

    def check(self) -> None:
        """The feeder of every site delivered what its parts took, to 1e-9. Raises ``AssertionError``."""
        parts, fed = self.sums[list(PARTS)].sum(axis=0), self.sums[FEEDER]
        assert np.allclose(parts, fed, rtol=CLOSES, atol=LEAST_J), f"{parts} J of {fed} J at the feeders"

    def accounts(
        self, regions: Sequence[str], region_of_site: Sequence[int], methods: Mapping[int, Sequence[Method]]
    ) -> list[Account]:
        """The totals of each region and of everywhere (no name); ``methods`` are by column and site."""
        places = [(name, [s for s, r in enumerate(region_of_site) if r == n]) for n, name in enumerate(regions)]
        places.append(("", list(range(len(region_of_site)))))
        return [
            self._account(place, sites, kind, methods[kind])
            for place, sites in places
            for kind in range(len(KINDS))
            if sites and self.known[kind, sites].all()
        ]

    def _account(self, place: str, sites: Sequence[int], kind: int, methods: Sequence[Method]) -> Account:
        said = KINDS[kind]
        value = float(self.sums[kind, sites].sum() * said.scale)
        method = weakest(methods[site] for site in sites)
        return Account.of(place, said.name, value, said.unit, method, said.boundary)

    def pue(self, sites: Sequence[int]) -> float:
        """Feeder energy for each joule of IT; not a number where there was none."""
        it_j = float(self.sums[IT, sites].sum())
        return float(self.sums[FEEDER, sites].sum()) / it_j if it_j else float("nan")
