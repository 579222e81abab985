"""Energy of many replicas without asking each: those of one model in one hall draw as one load.

They stand in the same pool, so all that are ready have used the same; the facility sees one load on all their
servers. When some of them come or go, the load is placed anew before time goes on. A hall's replicas are held back
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from underlay.domain.figures import Method
from underlay.physics.power import PowerCurve, power_share
from underlay.twin.world.facility import Facility
from underlay.twin.world.servers import Load

from .pools import Pace, Pool

#: After everything else at the same time, but before the facility's own tick.
_LAST = 8


class Group:
    """The replicas of one model in one hall. ``members`` are those that are ready, with their servers."""

    __slots__ = (
        "_busy_s",
        "_idle_w",
        "_joules",
        "_pool_busy_s",
        "_pool_joules",
        "_standing",
        "members",
        "name",
        "pool",
        "power",
        "slowdown",
    )

    def __init__(self, name: str, pool: Pool, power: PowerCurve | None) -> None:
        self.name = name
        self.pool = pool
        self.power = power
        self.slowdown = 1.0
        self.members: dict[str, tuple[Sequence[int], Sequence[int]]] = {}
        self._standing = 0
        self._idle_w = power.idle_w if power else 0.0
        self._busy_s = self._joules = self._pool_busy_s = self._pool_joules = 0.0

    def drawn(self, _at: float) -> tuple[float, float]:
        """How long each of its replicas has computed, and the joules of all of them."""
        pool = self.pool
        busy_s, joules = pool.busy_s - self._pool_busy_s, pool.joules - self._pool_joules
        self._pool_busy_s, self._pool_joules = pool.busy_s, pool.joules
        idle_joules = self._idle_w * busy_s
        above = max(0.0, joules - idle_joules) * power_share(self.slowdown)
        self._busy_s += busy_s
        self._joules += self._standing * (idle_joules + above if self.power else 0.0)
        return self._busy_s, self._joules

    def throttle(self, at: float, slowdown: float) -> None:
        """Its clocks run so many times slower from now on."""
        self.drawn(at)
        self.slowdown = slowdown

    def stand(self, at: float) -> tuple[list[int], list[int]]:
        """From now on those that are members draw; their servers, and how many accelerators they have in each."""
        self.drawn(at)
        self._standing = len(self.members)
        counts: dict[int, int] = {}
        for servers, accelerators in self.members.values():
            for server, count in zip(servers, accelerators, strict=True):
                counts[server] = counts.get(server, 0) + count
        return list(counts), list(counts.values())


class Unit:
    """One replica, as far as flows know it; what ``Modelled`` is to the request level."""

    __slots__ = ("fail_share", "group", "name", "slowness", "state")

    def __init__(self, name: str, group: Group) -> None:
        self.name = name
        self.group = group
        self.state = "down"
        self.slowness = 1.0
        self.fail_share = 0.0

    @property
    def pace(self) -> Pace:
        """How slow it is."""
        return Pace(self.group.slowdown, self.slowness)

    def drawn(self, at: float) -> tuple[float, float]:
        """Its group draws."""
        return self.group.drawn(at)


class GroupedFacility(Facility):
    """A facility that is told of replicas and reckons with their groups."""

    def __init__(self, *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **more)
        self._group_of: dict[str, Group] = {}
        self._said: dict[str, tuple[Method, str]] = {}
        self._changed: dict[str, Group] = {}

    def place(
        self,
        at: float,
        name: str,
        servers: Sequence[int],
        accelerators: Sequence[int],
        load: Load,
        *,
        method: Method = "assumed",
        note: str = "",
    ) -> None:
        """A replica runs from now on."""
        assert isinstance(load, Unit)
        group = self._group_of[name] = load.group
        self._said[group.name] = (method, note)
        self._change(at, group)
        group.members[name] = (servers, accelerators)

    def remove(self, at: float, name: str) -> None:
        """A replica has left its servers."""
        group = self._group_of.pop(name)
        self._change(at, group)
        del group.members[name]

    def _change(self, at: float, group: Group) -> None:
        """Write down what was drawn up to now; the group is placed anew after all that happens at this time."""
        self.settle(at)
        if not self._changed:
            self.kernel.call(at, self._place_changed, None, _LAST)
        self._changed[group.name] = group

    def _place_changed(self, at: float, _: None) -> None:
        changed, self._changed = self._changed, {}
        for name, group in changed.items():
            if name in self.feeders.servers.placed:
                super().remove(at, name)
            servers, accelerators = group.stand(at)
            if servers:
                method, note = self._said[name]
                super().place(at, name, servers, accelerators, group, method=method, note=note)
