"""Everything a scenario names, made and joined, for a run that follows each request.

Platforms with their replicas on the ``ground`` that both levels share, the door before them and the callers.
"""

from __future__ import annotations

from underlay.domain.figures import weakest

from .callers import Callers
from .crowd.call import Outcome
from .exchange import Exchange
from .front_door import FrontDoor
from .ground import Ground, Served
from .ledger.hours import hours_of
from .ledger.rates import rates_of
from .ledger.requests import request_columns
from .ledger.statements import Known, run_ledger
from .ledger.taken import Taken
from .modelled import Modelled
from .operations import Deployed, Operations
from .platform import Platform
from .power_caps import Pool, PowerCaps, Unit
from .records import Account
from .run_ledger import RunLedger
from .scenario import Scenario, build_desk, build_models
from .scenario.build_models import Replica
from .scenario.build_policies import cap_goals
from .waiting_room import Terms, WaitingRoom


class Assembly(Ground):
    """The parts of a run, by what they are. Errors: ScenarioMistake."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        super().__init__(scenario, seed)
        self._served_by: dict[str, Served] = {}
        self.taken = Taken() if scenario.report.ledger == "requests" else None
        self.platforms = {region.name: self._platform(region.name, seed) for region in scenario.world.regions}
        self._join(Operations(self.kernel, self.placement, self._deploy()))
        self.power_caps = self._power_caps()
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
            [crowd.crowd for crowd in self.crowds],
            front_door,
            duration_s=scenario.duration,
            model=scenario.models[0].name,
            waiting_room=self._waiting_room(front_door),
            taken=self.taken,
        )
        for name in self.operations.deployed:
            self.callers.requests.place("replica", name)
        self._begin(front_door)

    def _waiting_room(self, front_door: FrontDoor) -> WaitingRoom | None:
        policies = self.scenario.policies
        if policies.deferral == "none":
            return None
        terms = Terms(
            policies.deferral,
            policies.deferral_moves,
            policies.deferral_margin_s,
            policies.carbon_usd_per_tonne,
            self.scenario.duration,
        )
        outlooks = {name: self._outlook(name) for name in self.platforms}
        return WaitingRoom(self.kernel, self.platforms, front_door, outlooks, terms)

    def _power_caps(self) -> PowerCaps | None:
        section = self.scenario.policies.power_caps
        if section.mode == "none":
            return None
        units: dict[tuple[str, str], list[Unit]] = {}
        for name, one in self.operations.deployed.items():
            replica = self.platforms[one.platform.name].replicas[name]
            units.setdefault((one.platform.name, replica.model), []).append(Unit(replica, one.power))
        pools = [Pool(self.platforms[region], model, found) for (region, model), found in units.items()]
        return PowerCaps(self.kernel, pools, cap_goals(self.scenario), section.every)

    def _begin(self, front_door: FrontDoor) -> None:
        self.operations.start_all(0.0)
        self.facility.start()
        front_door.begin()
        if self.power_caps is not None:
            self.power_caps.begin()

    def check(self) -> None:
        """Verify every platform; raises ``AssertionError``."""
        for platform in self.platforms.values():
            platform.check()

    def sample(self) -> dict[str, float]:
        """What there is to see of the sites, and of caps on what accelerators draw."""
        capped = self.power_caps.sample() if self.power_caps is not None else {}
        return self.facility.sample() | capped

    def happenings(self) -> list[tuple[float, str]]:
        """What befell the world until now, and what was planned for it, in order."""
        planned = self.power_caps.happenings if self.power_caps is not None else []
        return sorted([*super().happenings(), *planned], key=lambda each: each[0])

    def accounts(self) -> list[Account]:
        """The totals of the run until now."""
        return self._accounts({name: platform.revenue_pico_usd for name, platform in self.platforms.items()})

    def ledger(self) -> RunLedger | None:
        """What each request took until now; None unless the scenario asks for it."""
        if self.taken is None:
            return None
        at = self.kernel.at
        self.facility.settle(at)
        feeders, requests = self.facility.feeders, self.callers.requests
        hours, rates = hours_of(feeders, at), rates_of(self.scenario, self.topology)
        columns = request_columns(requests, self.taken, hours, rates)
        return run_ledger(requests, self.taken, columns, hours, rates, self._known())

    def _known(self) -> Known:
        """How well energy is known: of the replicas, by what each drew."""
        feeders = self.facility.feeders
        methods = {kind: weakest(told) for kind, told in feeders.methods().items()}
        drawn = [
            (one.energy_joules, self._served_by[one.name])
            for platform in self.platforms.values()
            for one in platform.replicas.values()
        ]
        known = [(joules, served.power, served.weighing) for joules, served in drawn]
        told = [(joules, power, of) for joules, power, of in known if power is not None and of is not None]
        whole_j = sum(joules for joules, _, _ in told) or 1.0
        return Known(
            methods,
            sum(joules * power.error_mean for joules, power, _ in told) / whole_j,
            weakest([of.model.method for _, _, of in told] or ["assumed"]),
            sum(joules * of.model.error for joules, _, of in told) / whole_j,
        )

    def all_warnings(self) -> list[str]:
        """What to distrust."""
        return list(dict.fromkeys([*self.warnings, *self.facility.warnings]))

    def _platform(self, region: str, seed: int) -> Platform:
        settings = build_desk.desk_settings(self.scenario, seed)
        links = build_models.link_tokens(self.scenario.models[0])
        return Platform(
            self.kernel, settings, self.bands, self._ended, name=region, link_tokens=links, taken=self.taken
        )

    def _ended(self, platform: Platform, exchange: Exchange, outcome: Outcome, at: float) -> None:
        self.callers.ended(platform, exchange, outcome, at)
        if self.power_caps is not None:
            self.power_caps.ended(at, platform, exchange)

    def _deploy(self) -> dict[str, Deployed]:
        """Give every replica its place and its engine."""
        return {
            asked.name: self._deployed(asked, served, place) for place, (asked, served) in enumerate(self._placed())
        }

    def _deployed(self, asked: Replica, served: Served, place: int) -> Deployed:
        model, profile = self.scenario.models[asked.model].name, served.profile
        platform = self.platforms[asked.region]
        times, request_s = profile.coefficients, profile.request_s
        weights = served.weighing.weights if self.taken is not None and served.weighing is not None else None
        replica = Modelled(asked.name, model, served.rules, times, served.power, place, request_s, weights)
        platform.add(replica)
        self._served_by[asked.name] = served
        return Deployed(platform, replica, served.weights, served.power)
