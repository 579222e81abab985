"""What both levels of a run stand on: places, what feeds, cools and connects them, what befalls them.

Made as a scenario says, and joined. What serves calls (desks and engines, or flows), who sends them where and who
makes them is for those who build on it: ``assembly`` and ``fluid.world``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from underlay.control.deferral import Outlook
from underlay.domain.errors import BadRequest
from underlay.physics import power
from underlay.physics.climate import HOUR_S
from underlay.physics.grid import Signal
from underlay.physics.power import PowerCurve
from underlay.physics.profiles import Profile

from .engine import PagedRules, SlotRules
from .kernel import Kernel
from .ledger.weights import Weighing, weighing
from .money import money
from .operations import Operations
from .records import Account
from .scenario import Scenario, build_crowds, build_energy, build_faults, build_models, build_world
from .scenario.build_models import Replica
from .world.facility import TICK_S, Facility
from .world.failures import Failures
from .world.faults import Faults
from .world.kept import Kept
from .world.links import Links
from .world.outages import Outages
from .world.place_book import PlaceLevel
from .world.placement import Placement
from .world.power_tree import nodes_of
from .world.storage import ColdStart, Weights

_LEVELS: dict[str, PlaceLevel] = {"sites": "site", "halls": "hall", "racks": "rack"}


class Served(NamedTuple):
    """What replicas of one model on one kind of accelerator share.

    It is looked at for each of their steps: when each of 1,000 replicas had its own, none of them was at hand, and
    a request took a tenth longer.
    """

    profile: Profile
    rules: PagedRules | SlotRules
    power: PowerCurve | None
    weights: Weights
    weighing: Weighing | None


class Ground:
    """The parts that both levels have, by what they are. Errors: ScenarioMistake."""

    operations: Operations
    facility: Facility

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.kernel = Kernel(seed)
        self.topology = build_world.topology(scenario)
        self.placement = Placement(self.topology)
        self.warnings: dict[str, None] = {}
        self.crowds = build_crowds.crowds(scenario)
        for crowd in self.crowds:
            self.warnings |= dict.fromkeys(crowd.crowd.warnings())
        self.bands = {tenant: band for crowd in self.crowds for tenant, band in crowd.tenants.items()}
        self._served: dict[tuple[int, str], Served] = {}
        self._prices: dict[str, tuple[Signal | None, Signal | None]] = {}
        self._kept = Kept(scenario.world.storage.source)

    def happenings(self) -> list[tuple[float, str]]:
        """What befell the world until now, in order."""
        return sorted([*self.operations.happenings, *self.facility.happenings], key=lambda each: each[0])

    def _placed(self) -> Iterator[tuple[Replica, Served]]:
        """Every replica that is asked for, once it has its accelerators."""
        for asked in build_models.replicas(self.scenario):
            group = self.scenario.models[asked.model].name
            self.placement.place(
                asked.name, asked.accelerators, asked.accelerator, within=asked.region, group=group
            )
            served = self._served.get((asked.model, asked.accelerator))
            if served is None:
                served = self._served[asked.model, asked.accelerator] = self._serving(asked)
            slots = self.placement.slots[asked.name]
            self._kept.add(self.topology.servers[slots[0].server], served.weights)
            yield asked, served

    def _serving(self, asked: Replica) -> Served:
        model = self.scenario.models[asked.model]
        profile = build_models.profile(model, asked.accelerator)
        self.warnings |= dict.fromkeys(profile.warnings(context_tokens=model.context_tokens))
        rules = build_models.rules(model, asked.accelerator)
        curve = self._power(asked, profile)
        weights = Weights.of(model.model, model.precision)
        follows = self.scenario.report.ledger == "requests"
        weighed = weighing(profile, curve, model.model) if follows else None
        return Served(profile, rules, curve, weights, weighed)

    def _power(self, asked: Replica, profile: Profile) -> PowerCurve | None:
        """What it draws: as metered with its profile, else as published of its accelerator, if anything is."""
        model = self.scenario.models[asked.model]
        if profile.power is not None:
            return build_energy.curve(profile.power, asked.accelerator, asked.accelerators)
        try:
            return power.find(asked.accelerator, model.model, asked.accelerators, model.precision)
        except BadRequest as error:
            self.warnings[f"Energy of {asked.accelerator} is not accounted: {error.message}"] = None
            return None

    def _join(self, operations: Operations, facility: type[Facility] = Facility, tick_s: float = TICK_S) -> None:
        """Connect, feed and cool what was placed, and let befall it what may, by whoever runs the replicas."""
        self.operations = operations
        self.fabric = build_world.fabric(self.scenario, self.topology, Links(self.kernel))
        equipped = build_energy.equipment(self.scenario, self.topology)
        self._supplies = supplies = build_energy.supplies(self.scenario, self.topology, equipped)
        self.warnings |= dict.fromkeys(build_energy.unknown_power(self.scenario))
        self.facility = operations.facility = facility(
            self.kernel, nodes_of(self.topology), equipped, supplies, operations, tick_s=tick_s
        )
        self._befall(operations)

    def _befall(self, operations: Operations) -> None:
        """What may go wrong with it."""
        scenario = self.scenario
        starts = build_world.start_settings(scenario)
        operations.cold = cold = ColdStart(self.kernel, self.fabric, self.placement, starts, operations.ready)
        operations.outages = outages = Outages(self.kernel, self.placement, operations, scenario.world.spare_after)
        self.faults = Faults(self.kernel, build_faults.faults(scenario), self.fabric, outages, operations)
        if scenario.world.failures.enabled:
            factor = scenario.world.failures.factor
            Failures(self.kernel, self.topology, outages, cold, factor=factor).begin(0.0)

    def _tariffs(self, region: str, at: float) -> tuple[float | None, float | None]:
        """What a kWh costs in a region now, in USD and in grams of carbon."""
        prices = self._prices.get(region)
        if prices is None:
            supplied = self._supplies[self.topology.node(region).children[0].path]
            prices = self._prices[region] = (supplied.price, supplied.carbon)
        price, carbon = prices
        return price.at(at) if price else None, carbon.at(at) if carbon else None

    def _outlook(self, region: str) -> Outlook:
        """What a kWh will cost in a region in each hour of a day, as a forecast that comes true would say."""
        told = [self._tariffs(region, (hour + 0.5) * HOUR_S) for hour in range(24)]
        usd_kwh = tuple(price for price, _ in told if price is not None)
        carbon_g_kwh = tuple(grams for _, grams in told if grams is not None)
        return Outlook(carbon_g_kwh, usd_kwh)

    def places(self) -> list[Account]:
        """What sites, halls and racks took until now, as far down as the report tells."""
        level = _LEVELS.get(self.scenario.report.places)
        return [] if level is None else self.facility.feeders.place_accounts(level)

    def _accounts(self, revenue_pico_usd: Mapping[str, int]) -> list[Account]:
        """The totals until now, with what each region's requests brought in."""
        at = self.kernel.at
        self.facility.settle(at)
        earned = money(self.scenario, self.topology, revenue_pico_usd, at / 3600.0)
        return [*self.facility.accounts(), *self._kept.accounts(at), *earned]
