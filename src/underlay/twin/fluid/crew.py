"""Regions and replicas in a world of flows, and who runs them: the same verbs as at request level.

A region keeps count of who is ready in which pool; whoever fails, is slow or comes back does so one by one, by
name, through the same world. So equal seeds break the same replicas at both levels.
"""

from __future__ import annotations

from collections.abc import Mapping

from underlay.twin.kernel import Kernel
from underlay.twin.operations import Deployed, Operations
from underlay.twin.world.placement import Placement

from .grouped import Group, Unit
from .pools import Pool


class FlowRegion:
    """What ``Platform`` is to the request level: its replicas, by the verbs that befall them.

    ``lost_at`` are the times at which everybody who was being served was lost.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = True
        self.revenue_pico_usd = 0
        self.replicas: dict[str, Unit] = {}
        self.groups: dict[str, Group] = {}
        self.pools: list[Pool] = []
        self.lost_at: list[float] = []

    def start(self, _at: float, name: str) -> None:
        """A replica is ready."""
        unit = self.replicas[name]
        unit.state = "ready"
        unit.group.pool.count(unit.pace, 1)

    def silence(self, _at: float, name: str, _cause: str) -> None:
        """A replica says nothing more."""
        unit = self.replicas[name]
        if unit.state == "ready":
            unit.group.pool.count(unit.pace, -1)
        unit.state = "down"

    def slow(self, _at: float, name: str, factor: float) -> None:
        """Everything takes ``factor`` times as long."""
        unit = self.replicas[name]
        ready = unit.state == "ready"
        if ready:
            unit.group.pool.count(unit.pace, -1)
        unit.slowness = factor
        if ready:
            unit.group.pool.count(unit.pace, 1)

    def throttle(self, at: float, name: str, factor: float) -> None:
        """The clocks of a group run ``factor`` times slower than they could."""
        group = self.groups[name]
        ready = [unit for member in group.members if (unit := self.replicas[member]).state == "ready"]
        for unit in ready:
            group.pool.count(unit.pace, -1)
        group.throttle(at, factor)
        for unit in ready:
            group.pool.count(unit.pace, 1)

    def shut(self, at: float) -> None:
        """The door is gone, with everybody inside."""
        self.up = False
        lost = [pool.lose_all() for pool in self.pools]
        if any(lost):
            self.lost_at.append(at)

    def reopen(self) -> None:
        """The door is open again."""
        self.up = True


class Crew(Operations):
    """Runs all replicas; what the facility says of a group goes to every one of it. ``regions`` are by group."""

    def __init__(
        self,
        kernel: Kernel,
        placement: Placement,
        deployed: Mapping[str, Deployed],
        regions: Mapping[str, FlowRegion],
    ) -> None:
        super().__init__(kernel, placement, deployed)
        self._regions = regions

    def throttle(self, at: float, name: str, factor: float) -> None:
        """The clocks of a group run ``factor`` times slower than they could."""
        self._regions[name].throttle(at, name, factor)

    def lose_power(self, at: float, name: str, cause: str) -> None:
        """Some servers under a group are without power: whoever stands on them is gone."""
        for member in list(self._regions[name].groups[name].members):
            if not self._has_power(member):
                self.kill(member, at, cause)
