"""Everything a scenario names, made and joined.

Platforms with their replicas, the places they stand in, what feeds and connects them, the door before them and
the callers.
"""

from __future__ import annotations

from typing import NamedTuple

from underlay.domain.errors import BadRequest
from underlay.physics import power
from underlay.physics.grid import Signal
from underlay.physics.power import PowerCurve
from underlay.physics.profiles import Profile

from .callers import Callers
from .crowd.call import Outcome
from .engine import PagedRules, SlotRules
from .exchange import Exchange
from .front_door import FrontDoor
from .kernel import Kernel
from .modelled import Modelled
from .money import money
from .operations import Deployed, Operations
from .platform import Platform
from .records import Account
from .scenario import Scenario, build_crowds, build_desk, build_energy, build_faults, build_models, build_world
from .scenario.build_models import Replica
from .world.facility import Facility
from .world.failures import Failures
from .world.faults import Faults
from .world.links import Links
from .world.outages import Outages
from .world.placement import Placement
from .world.power_tree import nodes_of
from .world.storage import ColdStart, Weights


class _Build(NamedTuple):
    """What replicas of one model on one kind of accelerator share.

    It is looked at for each of their steps: when each of 1,000 replicas had its own, none of them was at hand, and
    a request took a tenth longer.
    """

    profile: Profile
    rules: PagedRules | SlotRules
    power: PowerCurve | None
    weights: Weights


class Assembly:
    """The parts of a run, by what they are. Errors: ScenarioMistake."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.kernel = Kernel(seed)
        self._seed = seed
        self.topology = build_world.topology(scenario)
        self.placement = Placement(self.topology)
        self.warnings: dict[str, None] = {}
        self._prices: dict[str, tuple[Signal | None, Signal | None]] = {}
        crowds = build_crowds.crowds(scenario)
        for crowd in crowds:
            self.warnings |= dict.fromkeys(crowd.crowd.warnings())
        bands = {tenant: band for crowd in crowds for tenant, band in crowd.tenants.items()}
        self.platforms = {region.name: self._platform(region.name, bands) for region in scenario.world.regions}
        self.operations = Operations(self.kernel, self.placement, self._deploy())
        self.links = Links(self.kernel)
        self.fabric = build_world.fabric(scenario, self.topology, self.links)
        self.operations.facility = self.facility = self._supply()
        self._befall()
        front_door = FrontDoor(
            self.kernel,
            self.platforms,
            self.fabric,
            scenario.policies.region_choice,
            scenario.policies.region_rtt_max,
            self._tariffs,
        )
        self.callers = Callers(
            self.kernel,
            self.platforms,
            [crowd.crowd for crowd in crowds],
            front_door,
            duration_s=scenario.duration,
            model=scenario.models[0].name,
        )
        for name in self.operations.deployed:
            self.callers.requests.place("replica", name)
        self._begin(front_door)

    def _supply(self) -> Facility:
        """What feeds and cools all servers."""
        scenario = self.scenario
        equipped = build_energy.equipment(scenario, self.topology)
        self._supplies = supplies = build_energy.supplies(scenario, self.topology, equipped)
        for warning in build_energy.unknown_power(scenario):
            self.warnings[warning] = None
        return Facility(self.kernel, nodes_of(self.topology), equipped, supplies, self.operations)

    def _befall(self) -> None:
        """What may go wrong with it."""
        scenario, operations = self.scenario, self.operations
        starts = build_world.start_settings(scenario)
        operations.cold = cold = ColdStart(self.kernel, self.fabric, self.placement, starts, operations.ready)
        operations.outages = outages = Outages(self.kernel, self.placement, operations)
        self.faults = Faults(self.kernel, build_faults.faults(scenario), self.fabric, outages, operations)
        if scenario.world.failures.enabled:
            factor = scenario.world.failures.factor
            Failures(self.kernel, self.topology, outages, cold, factor=factor).begin(0.0)

    def _begin(self, front_door: FrontDoor) -> None:
        self.operations.start_all(0.0)
        self.facility.start()
        front_door.begin()

    def check(self) -> None:
        """Verify every platform; raises ``AssertionError``."""
        for platform in self.platforms.values():
            platform.check()

    def sample(self) -> dict[str, float]:
        """What there is to see of the sites."""
        return self.facility.sample()

    def accounts(self) -> list[Account]:
        """The totals of the run until now."""
        at = self.kernel.at
        self.facility.settle(at)
        return [*self.facility.accounts(), *money(self.scenario, self.topology, self.platforms, at / 3600.0)]

    def happenings(self) -> list[tuple[float, str]]:
        """What befell the world until now, in order."""
        return sorted([*self.operations.happenings, *self.facility.happenings], key=lambda each: each[0])

    def all_warnings(self) -> list[str]:
        """What to distrust."""
        return list(dict.fromkeys([*self.warnings, *self.facility.warnings]))

    def _platform(self, region: str, bands: dict[str, str]) -> Platform:
        settings = build_desk.desk_settings(self.scenario, self._seed)
        links = build_models.link_tokens(self.scenario.models[0])
        return Platform(self.kernel, settings, bands, self._ended, name=region, link_tokens=links)

    def _ended(self, platform: Platform, exchange: Exchange, outcome: Outcome, at: float) -> None:
        self.callers.ended(platform, exchange, outcome, at)

    def _deploy(self) -> dict[str, Deployed]:
        """Give every replica its place and its engine."""
        deployed: dict[str, Deployed] = {}
        builds: dict[tuple[int, str], _Build] = {}
        for asked in build_models.replicas(self.scenario):
            model = self.scenario.models[asked.model]
            self.placement.place(
                asked.name, asked.accelerators, asked.accelerator, within=asked.region, group=model.name
            )
            build = builds.get((asked.model, asked.accelerator))
            if build is None:
                build = builds[asked.model, asked.accelerator] = self._build(asked)
            deployed[asked.name] = self._deployed(asked, build, len(deployed))
        return deployed

    def _build(self, asked: Replica) -> _Build:
        model = self.scenario.models[asked.model]
        profile = build_models.profile(model, asked.accelerator)
        self.warnings |= dict.fromkeys(profile.warnings(context_tokens=model.context_tokens))
        rules = build_models.rules(model, asked.accelerator)
        return _Build(profile, rules, self._power(asked), Weights.of(model.model, model.precision))

    def _deployed(self, asked: Replica, build: _Build, place: int) -> Deployed:
        model, profile = self.scenario.models[asked.model].name, build.profile
        platform = self.platforms[asked.region]
        times, power, request_s = profile.coefficients, build.power, profile.request_s
        replica = Modelled(asked.name, model, build.rules, times, power, place, request_s)
        platform.add(replica)
        return Deployed(platform, replica, build.weights, power)

    def _power(self, asked: Replica) -> PowerCurve | None:
        """What it draws; an accelerator of which nobody published the power draws nothing that is known."""
        model = self.scenario.models[asked.model]
        try:
            return power.find(asked.accelerator, model.model, asked.accelerators, model.precision)
        except BadRequest as error:
            self.warnings[f"Energy of {asked.accelerator} is not accounted: {error.message}"] = None
            return None

    def _tariffs(self, region: str, at: float) -> tuple[float | None, float | None]:
        prices = self._prices.get(region)
        if prices is None:
            supplied = self._supplies[self.topology.node(region).children[0].path]
            prices = self._prices[region] = (supplied.price, supplied.carbon)
        price, carbon = prices
        return price.at(at) if price else None, carbon.at(at) if carbon else None
