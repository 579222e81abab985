"""Which links lie between two places, and how long is a message on its way between regions?

A server has a network card and local drives, a rack an uplink, a site its fabric and its shared storage, a region
its object store and its way out; between each two regions there is one link, as long as their round trip says. A
link is made when it is first asked for: a hundred thousand accelerators have tens of thousands of links that
nothing ever crosses. What joins the accelerators of one server is not here: its cost is in the time of a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from math import inf

from underlay.domain.errors import NotFound
from underlay.physics.round_trips import LAST_MILE_S, RoundTrip, position, round_trip
from underlay.twin.world.links import Links
from underlay.twin.world.mistake import ScenarioMistake
from underlay.twin.world.sharing import Link
from underlay.twin.world.topology import Node, Topology

#: Switches and cards hold this much before they drop it, in seconds of their rate; wide-area routers more. Assumed.
_BUFFER_S = 100e-6
_WIDE_BUFFER_S = 10e-3


@dataclass(frozen=True, slots=True)
class LinkRates:
    """What the links of a world carry, in bytes per second, one way.

    ``nic``: one 400 Gb/s port (``eth-400g``) of each server for everything but talk between accelerators.
    ``disk``: reading four local drives (``nvme-pcie5``) at once. ``storage``: the shared file system that was
    measured writing (``gpfs-jeanzay``), taken to read as fast. The others are assumed: four ports a rack, 32 ports
    a site; an object store that feeds fifty servers at their best; 800 Gb/s out of a region, 400 Gb/s between two.
    """

    nic: float = 50e9
    disk: float = 52e9
    uplink: float = 200e9
    fabric: float = 1.6e12
    storage: float = 57.5e9
    object_store: float = 400e9
    wan: float = 100e9
    wide: float = 50e9

    def __post_init__(self) -> None:
        for each in fields(self):
            if not 0.0 < getattr(self, each.name) < inf:
                raise ScenarioMistake((each.name,), "A link carries more than 0 bytes per second.")


#: The links that a place of each level has, by the last part of their names: the setting and the seconds to cross.
#: Latency of ports is published (``eth-400g``), that of storage and object store (to the first byte) assumed.
_OF_LEVEL: Mapping[str, Mapping[str, tuple[str, float, float]]] = {
    "region": {"wan": ("wan", 50e-6, _WIDE_BUFFER_S), "object-store": ("object_store", 5e-3, _WIDE_BUFFER_S)},
    "site": {"fabric": ("fabric", 2e-6, _BUFFER_S), "storage": ("storage", 500e-6, _BUFFER_S)},
    "rack": {"uplink": ("uplink", 2e-6, _BUFFER_S)},
    "server": {"nic": ("nic", 2e-6, _BUFFER_S), "disk": ("disk", 100e-6, _BUFFER_S)},
}


@dataclass(slots=True)
class Fabric:
    """All links of a world. ``round_trips_s`` overrides what is known of two regions, by their names, either way.

    Errors: ScenarioMistake for regions whose distance nobody knows.
    """

    topology: Topology
    links: Links
    rates: LinkRates = field(default_factory=LinkRates)
    round_trips_s: Mapping[tuple[str, str], float] = field(default_factory=dict)
    _ways: dict[tuple[str, str], list[Link]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        names = [region.name for region in self.topology.regions]
        for place, origin in enumerate(names):
            for goal in names[place + 1 :]:
                self.round_trip(origin, goal)

    def round_trip(self, origin: str, goal: str) -> RoundTrip:
        """There and back between two regions. Errors: ScenarioMistake if one has no known place."""
        for pair in ((origin, goal), (goal, origin)):
            if pair in self.round_trips_s:
                return RoundTrip(self.round_trips_s[pair], "assumed")
        if origin == goal:
            return round_trip(origin, goal)
        return round_trip(self._place(origin), self._place(goal))

    def link(self, name: str, steps: tuple[str | int, ...] = ()) -> Link:
        """A link by name: ``west/wan``, ``west/w1/a/r03/uplink``, ``east~west`` or a place, meaning its way out.

        Errors: NotFound; ScenarioMistake if ``steps`` say where it was asked for.
        """
        if "~" in name:
            ends = [self.topology.node(end, steps).name for end in sorted(name.split("~", 1))]
            return self._wide(ends[0], ends[1])
        node = self.topology.nodes.get(name)
        if node is not None and node.level in _OF_LEVEL:
            return self._of(node, next(iter(_OF_LEVEL[node.level])))
        path, _, last = name.rpartition("/")
        node = self.topology.node(path, steps)
        kinds = _OF_LEVEL.get(node.level, {})
        if last not in kinds:
            near = get_close_matches(last, kinds, n=1)
            meant = f"did you mean {near[0]}?" if near else f"it has {', '.join(kinds) or 'none'}."
            message = f"{path} has no link {last!r}; {meant}"
            raise ScenarioMistake(steps, message) if steps else NotFound(message, param="link")
        return self._of(node, last)

    def to_server(self, server: Node, source: str) -> list[Link]:
        """From ``object-store`` or ``storage`` to a server."""
        site = server.up("site")
        origin = self._of(server.up("region") if source == "object-store" else site, source)
        return [origin, self._of(site, "fabric"), self._of(server.up("rack"), "uplink"), self._of(server, "nic")]

    def disk(self, server: Node) -> Link:
        """The local drives of a server."""
        return self._of(server, "disk")

    def call_s(self, origin: str, goal: str) -> float:
        """One way between a caller near one region and the platform in a region; half of the last mile is in it."""
        return 0.5 * LAST_MILE_S + self.links.delay_s(self._way(origin, goal))

    def _place(self, region: str) -> str:
        node = self.topology.node(region)
        steps = (*node.steps, "place")
        if not node.place:
            raise ScenarioMistake(steps, f"Say where {region} is, such as azure/westeurope, or its round trips.")
        try:
            position(node.place)
        except NotFound as mistake:
            raise ScenarioMistake(steps, mistake.message) from mistake
        return node.place

    def _way(self, origin: str, goal: str) -> list[Link]:
        """A caller is near a region, but not in it: what ails the region's own way out does not concern them."""
        way = self._ways.get((origin, goal))
        if way is None:
            way = [self._of(self.topology.node(goal), "wan")]
            if origin != goal:
                way.insert(0, self._wide(*sorted((origin, goal))))
            self._ways[origin, goal] = way
        return way

    def _wide(self, origin: str, goal: str) -> Link:
        name = f"{origin}~{goal}"
        found = self.links.links.get(name)
        if found is None:
            one_way_s = 0.5 * self.round_trip(origin, goal).seconds
            found = self.links.add(name, self.rates.wide, one_way_s, _WIDE_BUFFER_S)
        return found

    def _of(self, node: Node, last: str) -> Link:
        name = f"{node.path}/{last}"
        found = self.links.links.get(name)
        if found is None:
            rate, latency_s, buffer_s = _OF_LEVEL[node.level][last]
            found = self.links.add(name, getattr(self.rates, rate), latency_s, buffer_s)
        return found
