"""What the accelerators of a run cost by the hour, used or not, and what its requests brought in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from .records import Account
from .scenario import Scenario, build_world
from .world.topology import Node, Topology

PICO = 1e-12
_ALL_HOURS = "all accelerators by the hour, busy or not"


def money(scenario: Scenario, places: Topology, revenue_pico_usd: Mapping[str, int], hours: float) -> list[Account]:
    """Accounts of every region (its revenue is told); accelerators of which nobody knows the price are left out."""
    prices = {kind.accelerator: build_world.usd_per_hour(kind) for kind in scenario.world.servers}
    known = {kind: usd for kind, usd in prices.items() if usd is not None}
    accounts = []
    for region in places.regions:
        usd = [known[kind] * count for kind, count in accelerators_of(region, places).items() if kind in known]
        if usd:
            accounts.append(
                Account.of(region.path, "accelerators_cost", sum(usd) * hours, "USD", "assumed", _ALL_HOURS)
            )
        earned = revenue_pico_usd[region.name] * PICO
        if earned:
            accounts.append(
                Account.of(region.path, "revenue", earned, "USD", "modelled", "tokens at the models' prices")
            )
    return accounts


def accelerators_of(region: Node, places: Topology) -> Counter[str]:
    """How many there are of each kind in a region."""
    counts: Counter[str] = Counter()
    for number in region.servers:
        counts[places.servers[number].accelerator] += places.servers[number].accelerators
    return counts
