"""Everything a scenario names, made and joined, for a run that follows each request.

Platforms with their replicas on the ``ground`` that both levels share, the door before them and the callers.
"""

from __future__ import annotations

from .callers import Callers
from .crowd.call import Outcome
from .exchange import Exchange
from .front_door import FrontDoor
from .ground import Ground, Served
from .modelled import Modelled
from .operations import Deployed, Operations
from .platform import Platform
from .records import Account
from .scenario import Scenario, build_desk, build_models
from .scenario.build_models import Replica


class Assembly(Ground):
    """The parts of a run, by what they are. Errors: ScenarioMistake."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        super().__init__(scenario, seed)
        self.platforms = {region.name: self._platform(region.name, seed) for region in scenario.world.regions}
        self._join(Operations(self.kernel, self.placement, self._deploy()))
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
        )
        for name in self.operations.deployed:
            self.callers.requests.place("replica", name)
        self._begin(front_door)

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
        return self._accounts({name: platform.revenue_pico_usd for name, platform in self.platforms.items()})

    def all_warnings(self) -> list[str]:
        """What to distrust."""
        return list(dict.fromkeys([*self.warnings, *self.facility.warnings]))

    def _platform(self, region: str, seed: int) -> Platform:
        settings = build_desk.desk_settings(self.scenario, seed)
        links = build_models.link_tokens(self.scenario.models[0])
        return Platform(self.kernel, settings, self.bands, self._ended, name=region, link_tokens=links)

    def _ended(self, platform: Platform, exchange: Exchange, outcome: Outcome, at: float) -> None:
        self.callers.ended(platform, exchange, outcome, at)

    def _deploy(self) -> dict[str, Deployed]:
        """Give every replica its place and its engine."""
        return {
            asked.name: self._deployed(asked, served, place) for place, (asked, served) in enumerate(self._placed())
        }

    def _deployed(self, asked: Replica, served: Served, place: int) -> Deployed:
        model, profile = self.scenario.models[asked.model].name, served.profile
        platform = self.platforms[asked.region]
        times, request_s = profile.coefficients, profile.request_s
        replica = Modelled(asked.name, model, served.rules, times, served.power, place, request_s)
        platform.add(replica)
        return Deployed(platform, replica, served.weights, served.power)
