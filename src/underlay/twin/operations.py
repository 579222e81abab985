"""Whoever runs the replicas: starts them, loses them, slows them down, as whatever befalls the world demands.

Between the world (places, power, failures) and the platforms (desks, engines): here a replica has both its
accelerators and its place in a platform. What the world does comes in through the verbs of ``world.target`` and
``world.facility.Hands``; nothing here chooses who is hit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from underlay.physics.power import PowerCurve

from .kernel import Kernel
from .world.facility import Facility
from .world.outages import Outages
from .world.placement import Placement
from .world.servers import Load
from .world.storage import ColdStart, Weights

#: After cooling is whole again, people look and switch a site that shut itself down on again. Assumed.
SWITCH_ON_S = 900.0


class Verbs(Protocol):
    """A region, by what befalls it and its replicas (by name). ``up`` says whether its door is open."""

    name: str
    up: bool

    def start(self, at: float, name: str, /) -> None:
        """A replica is ready."""
        ...

    def silence(self, at: float, name: str, cause: str, /) -> None:
        """A replica says nothing more."""
        ...

    def slow(self, at: float, name: str, factor: float, /) -> None:
        """Everything takes ``factor`` times as long."""
        ...

    def throttle(self, at: float, name: str, factor: float, /) -> None:
        """Clocks run ``factor`` times slower: of a replica, or of whatever the facility knows by that name."""
        ...

    def shut(self, at: float, /) -> None:
        """The door is gone, with everybody inside."""
        ...

    def reopen(self) -> None:
        """The door is open again."""
        ...


class Replica(Load, Protocol):
    """What is to be known of a replica here: its state, and which share of its requests fails."""

    state: str
    fail_share: float


class Deployed(NamedTuple):
    """A replica with all that belongs to it."""

    platform: Verbs
    replica: Replica
    weights: Weights
    power: PowerCurve | None


class Operations:
    """All replicas of all regions. ``happenings`` are what befell the world (time, text).

    ``facility``, ``cold`` and ``outages`` act through it, and are handed in once they are made.
    """

    facility: Facility
    cold: ColdStart
    outages: Outages

    def __init__(self, kernel: Kernel, placement: Placement, deployed: Mapping[str, Deployed]) -> None:
        self.kernel = kernel
        self.placement = placement
        self.deployed = deployed
        self.happenings: list[tuple[float, str]] = []
        self._placed: dict[str, None] = {}

    def start_all(self, at: float) -> None:
        """Everything is ready when the run begins."""
        for name in self.deployed:
            self.ready(at, name)

    def ready(self, at: float, name: str) -> None:
        """A start came to its end."""
        one = self.deployed[name]
        slots = self.placement.slots[name]
        curve = one.power
        self._placed[name] = None
        self.facility.place(
            at,
            name,
            [slot.server for slot in slots],
            [slot.accelerators for slot in slots],
            one.replica,
            method=curve.method if curve else "assumed",
            note=curve.note if curve else "",
        )
        one.platform.start(at, name)

    # What faults and failures do (``world.target.Target``).

    def replicas(self) -> Sequence[str]:
        """All replicas, whatever their state."""
        return list(self.deployed)

    def kill(self, replica: str, at: float, cause: str) -> None:
        """It is gone, and nobody says so: it is noticed in time."""
        self.cold.cancel(replica)
        self.deployed[replica].platform.silence(at, replica, cause)
        self._leave(at, replica)

    def restart(self, replica: str, at: float) -> None:
        """Start it, cold."""
        one = self.deployed[replica]
        one.platform.reopen()
        if one.replica.state != "ready" and self.cold.phase(replica) is None and self._has_power(replica):
            self.cold.begin(replica, at, one.weights)

    def slow(self, replica: str, factor: float, at: float) -> None:
        """Its steps take ``factor`` times as long as they would."""
        self.deployed[replica].platform.slow(at, replica, factor)

    def stick(self, replica: str, at: float, *, stuck: bool) -> None:
        """It takes requests and nothing comes of them; or it goes on."""
        one = self.deployed[replica]
        if stuck:
            one.platform.silence(at, replica, "stuck")
        elif one.replica.state != "ready":
            self.restart(replica, at)

    def fail_share(self, replica: str, share: float, at: float) -> None:
        """That share of its requests fails from now on."""
        del at
        self.deployed[replica].replica.fail_share = share

    def power(self, path: str, share: float, at: float) -> None:
        """That share of the power feeding a place is left; with some of it, what had none is started again."""
        self.facility.feed(at, path, share)
        if share > 0.0:
            self._start_again(at, path)

    def cooling(self, path: str, share: float, at: float) -> None:
        """That share of the cooling of a place is left; whole again, people switch on what shut itself down."""
        node = self.placement.topology.node(path)
        where = node.path if node.level in {"region", "site"} else node.up("site").path
        self.facility.fail_cooling(at, where, 1.0 - share)
        if share >= 1.0:
            self.kernel.call(at + SWITCH_ON_S, self._switch_on, where)

    def _switch_on(self, at: float, path: str) -> None:
        node = self.placement.topology.node(path)
        for site in node.children if node.level == "region" else [node]:
            if self.facility.restore(at, site.path):
                self._start_again(at, site.path)

    def happened(self, at: float, text: str) -> None:
        """Something befell the world."""
        self.happenings.append((at, text))

    # What the facility does (``world.facility.Hands``).

    def throttle(self, at: float, name: str, factor: float) -> None:
        """Its clocks run ``factor`` times slower than they could."""
        self.deployed[name].platform.throttle(at, name, factor)

    def lose_power(self, at: float, name: str, cause: str) -> None:
        """Its servers are without power."""
        self.kill(name, at, cause)

    def _start_again(self, at: float, path: str) -> None:
        for name in self.placement.on(self.placement.topology.node(path)):
            if not self.outages.is_down(name) and self._has_power(name):
                self.restart(name, at)

    def _has_power(self, name: str) -> bool:
        return all(self.facility.has_power(slot.server) for slot in self.placement.slots[name])

    def _leave(self, at: float, name: str) -> None:
        """Its accelerators draw nothing more for it; a region with nothing on has no door either."""
        if name in self._placed:
            del self._placed[name]
            self.facility.remove(at, name)
        platform = self.deployed[name].platform
        if platform.up and not self._stands(platform.name):
            platform.shut(at)

    def _stands(self, region: str) -> bool:
        """Whether any server of a region is in service: on one of them its gateway runs."""
        servers = self.placement.topology.node(region).servers
        return any(not self.placement.is_out(server) and self.facility.has_power(server) for server in servers)
