"""What do a region's accelerators cost by the hour, in money and in what making them emitted, and one kWh more?

List prices or the scenario's; embodied carbon where somebody published it; marginal carbon of the region that a
scenario's region is like, and the contracts' carbon as the scenario states it. What is unknown for one accelerator
of a region is unknown for the region: not a number. Refused here: hours of the day.
"""

from __future__ import annotations

from math import nan

import numpy as np

from underlay.ledger.footprint import region_rates
from underlay.physics import embodied
from underlay.twin.money import accelerators_of
from underlay.twin.scenario import Scenario, build_world
from underlay.twin.world.topology import Topology

from .requests import Rates


def rates_of(scenario: Scenario, places: Topology) -> Rates:
    """The rates of each region, in their order."""
    prices = {kind.accelerator: build_world.usd_per_hour(kind) for kind in scenario.world.servers}
    usd, grams = [], []
    for region in places.regions:
        counts = accelerators_of(region, places)
        usd.append(_sum([(count, prices[kind]) for kind, count in counts.items()]))
        made = {kind: embodied.accelerator_hour(kind) for kind in counts}
        grams.append(
            _sum([(count, None if (one := made[kind]) is None else one.grams) for kind, count in counts.items()])
        )
    sections = scenario.world.regions
    marginal = [region_rates(section.like).carbon_marginal if section.like else None for section in sections]
    market = [section.market_carbon_g_per_kwh for section in sections]
    return Rates(
        np.array(usd),
        np.array(grams),
        np.array([nan if one is None else one.value for one in marginal]),
        np.array([nan if one is None else one for one in market], dtype=np.float64),
    )


def _sum(parts: list[tuple[int, float | None]]) -> float:
    return sum(nan if each is None else count * each for count, each in parts)
