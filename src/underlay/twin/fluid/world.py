"""The world of a run of flows: the same places, failures, faults, links and energy, with pools instead of desks.

Everything a scenario names is made as at request level, down to every replica's place; only what serves calls is a
flow. Pools that differ in nothing share one measured surface.
"""

from __future__ import annotations

from underlay.twin.ground import Ground, Served
from underlay.twin.operations import Deployed
from underlay.twin.records import Account
from underlay.twin.scenario import Scenario, build_desk, build_faults, build_models
from underlay.twin.scenario.build_models import Replica
from underlay.twin.scenario.needs import replicas_in
from underlay.twin.world.facility import TICK_S

from .crew import Crew, FlowRegion
from .demand import Demand, Floats, Kind
from .door import Door
from .grouped import Group, GroupedFacility, Unit
from .pools import Pool
from .station import Pooled
from .surface import POOL_MAX, Surface, measured_settings

#: Runs longer than this look at what is drawn once a minute.
_LONG_S = 4 * 3600.0
_LONG_TICK_S = 60.0


class FlowWorld(Ground):
    """The parts of a run of flows. Errors: ScenarioMistake."""

    def __init__(self, scenario: Scenario, seed: int, times_s: Floats) -> None:
        super().__init__(scenario, seed)
        self.settings = build_desk.desk_settings(scenario, seed)
        self.regions = [FlowRegion(region.name) for region in scenario.world.regions]
        self._listen(times_s)
        self.pools: dict[tuple[int, int], Pool] = {}
        self.surfaces: dict[Pooled, Surface] = {}
        self._deploy()
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
        self.operations.start_all(0.0)
        self.facility.start()

    def _listen(self, times_s: Floats) -> None:
        """Learn who calls, and how the calls of each model are made up over the whole run."""
        models = [model.name for model in self.scenario.models]
        self.demand = Demand(
            self.kernel, [crowd.crowd for crowd in self.crowds], models, [region.name for region in self.regions]
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

    def _deploy(self) -> None:
        """Give every replica its place and its pool, and join them with the world."""
        deployed = {}
        by_group: dict[str, FlowRegion] = {}
        places = {region.name: place for place, region in enumerate(self.regions)}
        for asked, served in self._placed():
            pool = self._pool(places[asked.region], asked, served)
            region = self.regions[pool.region]
            server = self.topology.servers[self.placement.slots[asked.name][0].server]
            name = f"{self.scenario.models[asked.model].name} in {server.up('hall').path}"
            group = region.groups.get(name)
            if group is None:
                group = region.groups[name] = Group(name, pool, served.power)
                by_group[name] = region
            unit = region.replicas[asked.name] = Unit(asked.name, group)
            deployed[asked.name] = Deployed(region, unit, served.weights, served.power)
        crew = Crew(self.kernel, self.placement, deployed, by_group)
        self._join(crew, GroupedFacility, _LONG_TICK_S if self.scenario.duration > _LONG_S else TICK_S)
        for fault in build_faults.faults(self.scenario):
            if fault.settings.get("failing"):
                self.warnings[f"Requests that fail in a bad version ({fault.where}) are not followed by flows."] = (
                    None
                )

    def _pool(self, region: int, asked: Replica, served: Served) -> Pool:
        pool = self.pools.get((region, asked.model))
        if pool is None:
            surface = self._surface(asked, served)
            pool = self.pools[region, asked.model] = Pool(region, asked.model, surface, self.settings)
            self.regions[region].pools.append(pool)
        return pool

    def _surface(self, asked: Replica, served: Served) -> Surface:
        """The surface of a pool; one for all that do not differ."""
        model = self.scenario.models[asked.model]
        measured = min(replicas_in(model, asked.region), POOL_MAX)
        pooled = Pooled(
            model.name,
            served.rules,
            served.profile.coefficients,
            served.profile.request_s,
            served.power,
            measured_settings(self.settings, measured, served.rules.slots),
            tuple(sorted(self.bands.items())),
            self._kinds(asked.model),
            measured,
            build_models.link_tokens(model),
        )
        found = self.surfaces.get(pooled)
        if found is None:
            dice = self.kernel.stream(f"surface {len(self.surfaces)}")
            found = self.surfaces[pooled] = Surface(pooled, dice.getrandbits(32))
        return found

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
        return self._accounts({region.name: region.revenue_pico_usd for region in self.regions})
