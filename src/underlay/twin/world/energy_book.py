"""Where did the energy go, and what did it cost in carbon, water and money?

One row of sums for each site. The leaves (accelerators busy and idle, host), the losses on the way and cooling add
up to what the feeder delivered; that is tested, not arranged: the feeder's sum is made from the tree, the others
from the servers. Refused here: watts, rates over time, requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from underlay.domain.figures import JOULES_KWH, weakest
from underlay.twin.records import Account
from underlay.twin.world.power_tree import Floats

BUSY, IDLE, HOST, CHAIN, COOLING, IT, FEEDER, CARBON, PRICE, WATER_ON, WATER_OFF = range(11)


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
)


class EnergyBook:
    """The sums of every site; a column that nobody could fill for one of the sites is not told for it."""

    __slots__ = ("known", "sums")

    def __init__(self, sites: int) -> None:
        self.sums = np.zeros((len(KINDS), sites))
        self.known = np.ones((len(KINDS), sites), dtype=np.bool_)

    def add(self, kind: int, values: Floats) -> None:
        """Add to a column, one value for each site."""
        self.sums[kind] += values

    def accounts(
        self, regions: Sequence[str], region_of_site: Sequence[int], methods: Mapping[int, Sequence[str]]
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

    def _account(self, place: str, sites: Sequence[int], kind: int, methods: Sequence[str]) -> Account:
        said = KINDS[kind]
        value = float(self.sums[kind, sites].sum() * said.scale)
        return Account(place, said.name, value, said.unit, weakest(methods[site] for site in sites), said.boundary)

    def pue(self, sites: Sequence[int]) -> float:
        """Feeder energy for each joule of IT; not a number where there was none."""
        it_j = float(self.sums[IT, sites].sum())
        return float(self.sums[FEEDER, sites].sum()) / it_j if it_j else float("nan")
