"""The world of a run of flows: the same places, failures, faults, links and energy, with pools instead of desks.

Everything a scenario names is made as at request level, down to every replica's place; only what serves calls is a
flow. Pools that differ in nothing share one measured surface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from underlay.domain.errors import BadRequest
from underlay.physics import power
from underlay.physics.grid import Signal
from underlay.physics.power import PowerCurve
from underlay.physics.profiles import Profile
from underlay.twin.engine import PagedRules, SlotRules
from underlay.twin.kernel import Kernel
from underlay.twin.money import money
from underlay.twin.operations import Deployed
from underlay.twin.records import Account
from underlay.twin.scenario import (
    Scenario,
    build_crowds,
    build_desk,
    build_energy,
    build_faults,
    build_models,
    build_world,
)
from underlay.twin.scenario.build_models import Replica
from underlay.twin.scenario.needs import replicas_in
from underlay.twin.world.failures import Failures
from underlay.twin.world.faults import Faults
from underlay.twin.world.links import Links
from underlay.twin.world.outages import Outages
from underlay.twin.world.placement import Placement
from underlay.twin.world.power_tree import nodes_of
from underlay.twin.world.storage import ColdStart, Weights

from .crew import Crew, FlowRegion
from .demand import Demand, Floats, Kind
from .door import Door
from .grouped import Group, GroupedFacility, Unit
from .pools import Pool
from .station import Pooled
from .surface import POOL_MAX, Surface, measured_settings

if TYPE_CHECKING:
    from underlay.twin.modelled import Modelled
    from underlay.twin.platform import Platform

#: Runs longer than this look at what is drawn once a minute.
_LONG_S = 4 * 3600.0
_LONG_TICK_S = 60.0


class _Served(NamedTuple):
    """What all replicas of one model on one accelerator have in common."""

    profile: Profile
    rules: PagedRules | SlotRules
    power: PowerCurve | None
    weights: Weights


class FlowWorld:
    """The parts of a run of flows. Errors: ScenarioMistake."""

    def __init__(self, scenario: Scenario, seed: int, times_s: Floats) -> None:
        self.scenario = scenario
        self.kernel = Kernel(seed)
        self.warnings: dict[str, None] = {}
        self.topology = build_world.topology(scenario)
        self.placement = Placement(self.topology)
        self.settings = build_desk.desk_settings(scenario, seed)
        self.regions = [FlowRegion(region.name) for region in scenario.world.regions]
        self._listen(times_s)
        self.pools: dict[tuple[int, int], Pool] = {}
        self.surfaces: dict[Pooled, Surface] = {}
        self.groups: dict[str, Group] = {}
        self.units: dict[str, Unit] = {}
        self._served: dict[tuple[int, str], _Served] = {}
        self.crew = Crew(self.kernel, self.placement, self._deploy())
        self.crew.groups, self.crew.units = self.groups, self.units
        self.fabric = build_world.fabric(scenario, self.topology, Links(self.kernel))
        self._supply()
        self._befall()
        policies = scenario.policies
        self.door = Door(
            self.regions,
            len(scenario.models),
            self.pools,
            self.fabric,
            policies.region_choice,
            policies.region_rtt_max,
            self._tariffs,
        )
        self.crew.start_all(0.0)
        self.facility.start()

    def _listen(self, times_s: Floats) -> None:
        """Learn who calls, and how the calls of each model are made up over the whole run."""
        scenario = self.scenario
        crowds = build_crowds.crowds(scenario)
        for crowd in crowds:
            self.warnings |= dict.fromkeys(crowd.crowd.warnings())
        self._bands = tuple(sorted((tenant, band) for crowd in crowds for tenant, band in crowd.tenants.items()))
        models = [model.name for model in scenario.models]
        self.demand = Demand(
            self.kernel, [crowd.crowd for crowd in crowds], models, [region.name for region in self.regions]
        )
        self.rates_per_s = self.demand.rates(times_s)
        if any(kind.ordered for kind in self.demand.kinds):
            self.warnings[
                "Recorded calls are drawn by chance in fluid mode: bursts and shared prefixes are lost."
            ] = None

    def _kinds(self, model: int) -> tuple[tuple[Kind, float, float], ...]:
        """Who calls a model, each with its part of the calls, and the part of its own calls that is for it."""
        calls = self.rates_per_s.sum(axis=0)
        own: dict[int, float] = {}
        whole: dict[int, float] = {}
        for stream, count in zip(self.demand.streams, calls.tolist(), strict=True):
            whole[stream.kind] = whole.get(stream.kind, 0.0) + count
            if stream.model == model:
                own[stream.kind] = own.get(stream.kind, 0.0) + count
        total = sum(own.values())
        return tuple(
            (self.demand.kinds[kind], count / total, count / whole[kind]) for kind, count in own.items() if count
        )

    def _deploy(self) -> dict[str, Deployed]:
        """Give every replica its place and its pool."""
        deployed = {}
        places = {region.name: place for place, region in enumerate(self.regions)}
        for asked in build_models.replicas(self.scenario):
            model = self.scenario.models[asked.model]
            slots = self.placement.place(
                asked.name, asked.accelerators, asked.accelerator, within=asked.region, group=model.name
            )
            served = self._serving(asked)
            pool = self._pool(places[asked.region], asked, served)
            hall = self.topology.servers[slots[0].server].up("hall").path
            group = self.groups.get(name := f"{model.name} in {hall}")
            if group is None:
                group = self.groups[name] = Group(name, pool, served.power)
            region = self.regions[pool.region]
            unit = self.units[asked.name] = region.replicas[asked.name] = Unit(asked.name, group)
            # They have the verbs that are used of a platform and a replica, and nothing else of theirs.
            deployed[asked.name] = Deployed(
                cast("Platform", region), cast("Modelled", unit), served.weights, served.power
            )
        return deployed

    def _serving(self, asked: Replica) -> _Served:
        key = (asked.model, asked.accelerator)
        found = self._served.get(key)
        if found is None:
            model = self.scenario.models[asked.model]
            profile = build_models.profile(model, asked.accelerator)
            self.warnings |= dict.fromkeys(profile.warnings(context_tokens=model.context_tokens))
            found = self._served[key] = _Served(
                profile,
                build_models.rules(model, asked.accelerator),
                self._power(asked),
                Weights.of(model.model, model.precision),
            )
        return found

    def _power(self, asked: Replica) -> PowerCurve | None:
        model = self.scenario.models[asked.model]
        try:
            return power.find(asked.accelerator, model.model, asked.accelerators, model.precision)
        except BadRequest as error:
            self.warnings[f"Energy of {asked.accelerator} is not accounted: {error.message}"] = None
            return None

    def _pool(self, region: int, asked: Replica, served: _Served) -> Pool:
        pool = self.pools.get((region, asked.model))
        if pool is None:
            surface = self._surface(asked, served)
            pool = self.pools[region, asked.model] = Pool(region, asked.model, surface, self.settings)
            self.regions[region].pools.append(pool)
        return pool

    def _surface(self, asked: Replica, served: _Served) -> Surface:
        """The surface of a pool; one for all that do not differ."""
        model = self.scenario.models[asked.model]
        measured = min(replicas_in(model, asked.region), POOL_MAX)
        rules = served.rules
        slots = rules.max_sequences if isinstance(rules, PagedRules) else rules.slots
        pooled = Pooled(
            model.name,
            rules,
            served.profile.coefficients,
            served.profile.request_s,
            served.power,
            measured_settings(self.settings, measured, slots),
            self._bands,
            self._kinds(asked.model),
            measured,
            build_models.link_tokens(model),
        )
        found = self.surfaces.get(pooled)
        if found is None:
            dice = self.kernel.stream(f"surface {len(self.surfaces)}")
            found = self.surfaces[pooled] = Surface(pooled, dice.getrandbits(32))
        return found

    def _supply(self) -> None:
        equipped = build_energy.equipment(self.scenario, self.topology)
        self._supplies = supplies = build_energy.supplies(self.scenario, self.topology, equipped)
        self.warnings |= dict.fromkeys(build_energy.unknown_power(self.scenario))
        self.facility = GroupedFacility(self.kernel, nodes_of(self.topology), equipped, supplies, self.crew)
        if self.scenario.duration > _LONG_S:
            self.facility.tick_s = _LONG_TICK_S
        self.crew.facility = self.facility
        self._prices: dict[str, tuple[Signal | None, Signal | None]] = {}

    def _befall(self) -> None:
        scenario, crew = self.scenario, self.crew
        starts = build_world.start_settings(scenario)
        crew.cold = cold = ColdStart(self.kernel, self.fabric, self.placement, starts, crew.ready)
        crew.outages = outages = Outages(self.kernel, self.placement, crew)
        faults = build_faults.faults(scenario)
        self.faults = Faults(self.kernel, faults, self.fabric, outages, crew)
        for fault in faults:
            if fault.settings.get("failing"):
                self.warnings[f"Requests that fail in a bad version ({fault.where}) are not followed by flows."] = (
                    None
                )
        if scenario.world.failures.enabled:
            factor = scenario.world.failures.factor
            Failures(self.kernel, self.topology, outages, cold, factor=factor).begin(0.0)

    def _tariffs(self, region: str, at: float) -> tuple[float | None, float | None]:
        prices = self._prices.get(region)
        if prices is None:
            supplied = self._supplies[self.topology.node(region).children[0].path]
            prices = self._prices[region] = (supplied.price, supplied.carbon)
        price, carbon = prices
        return price.at(at) if price else None, carbon.at(at) if carbon else None

    def sample(self, busy_share: dict[str, float]) -> dict[str, float]:
        """What there is to see now, by the names of the request level; ``busy_share`` is by region."""
        found: dict[str, float] = {}
        for region in self.regions:
            waiting = sum(pool.line for pool in region.pools)
            found[f"{region.name}.replicas"] = float(sum(pool.ready for pool in region.pools))
            found[f"{region.name}.waiting"] = waiting
            found[f"{region.name}.running"] = sum(pool.running for pool in region.pools)
            found[f"{region.name}.utilisation"] = busy_share[region.name]
        return {name: float(value) for name, value in found.items()} | self.facility.sample()

    def accounts(self) -> list[Account]:
        """The totals of the run until now."""
        at = self.kernel.at
        self.facility.settle(at)
        platforms = cast("dict[str, Platform]", {region.name: region for region in self.regions})
        return [*self.facility.accounts(), *money(self.scenario, self.topology, platforms, at / 3600.0)]

    def happenings(self) -> list[tuple[float, str]]:
        """What befell the world until now, in order."""
        return sorted([*self.crew.happenings, *self.facility.happenings], key=lambda each: each[0])
