"""How does power add up from servers to feeders, and what is lost on the way?

Region > site > hall > rack > server, each level an array whose parents are places in the array above: a walk from
all servers to all feeders is five sums over numbers, however many servers there are. Refused here: where the watts
come from, caps, clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from underlay.domain.errors import NotFound
from underlay.physics.lookup import named
from underlay.twin.world.topology import LEVELS, Level, Topology

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


class PowerNode(NamedTuple):
    """One place: its path, the place of its parent among all nodes (-1: none), and what it may draw (None: all)."""

    path: str
    parent: int
    level: Level
    cap_w: float | None = None


class Where(NamedTuple):
    """A node by its level and its place there."""

    level: Level
    place: int


class Climb(NamedTuple):
    """Joules on the way up: what racks and halls pass on to those below them and lose, and what sites take up."""

    rack_load: Floats
    rack_loss: Floats
    hall_load: Floats
    hall_loss: Floats
    site_load: Floats


def summed(places: Places, values: Any, count: int) -> Floats:
    """The sum of the values that belong to each of so many places."""
    return np.bincount(places, values, minlength=count).astype(np.float64, copy=False)


def nodes_of(topology: Topology) -> list[PowerNode]:
    """All places of a topology; parents come before what is in them."""
    return [
        PowerNode(node.path, -1 if node.parent is None else node.parent.id, node.level, node.cap_w)
        for node in topology.nodes.values()
    ]


class PowerTree:
    """The tree as arrays. Caps, ``parents`` and ``of_server`` are by level; losses are per rack and per hall.

    Errors: ValueError if a node is not directly under one of the level above.
    """

    __slots__ = (
        "caps_w",
        "counts",
        "fed_w",
        "hall_fixed_w",
        "hall_share",
        "of_server",
        "parents",
        "paths",
        "rack_share",
        "where",
    )

    def __init__(self, nodes: Sequence[PowerNode]) -> None:
        self.where: dict[str, Where] = {}
        self.paths: dict[Level, list[str]] = {level: [] for level in LEVELS}
        parents: dict[Level, list[int]] = {level: [] for level in LEVELS}
        caps: dict[Level, list[float]] = {level: [] for level in LEVELS}
        for node in nodes:
            parents[node.level].append(self._parent(node, nodes))
            caps[node.level].append(np.inf if node.cap_w is None else node.cap_w)
            self.where[node.path] = Where(node.level, len(self.paths[node.level]))
            self.paths[node.level].append(node.path)
        self.counts = {level: len(paths) for level, paths in self.paths.items()}
        self.parents: dict[Level, Places] = {level: np.array(of, dtype=np.int64) for level, of in parents.items()}
        self.caps_w: dict[Level, Floats] = {level: np.array(watts) for level, watts in caps.items()}
        #: What is left of a broken feed, beside the caps.
        self.fed_w: dict[Level, Floats] = {level: np.full(count, np.inf) for level, count in self.counts.items()}
        self.of_server = self._ancestors()
        self.rack_share = np.zeros(self.counts["rack"])
        self.hall_share = np.zeros(self.counts["hall"])
        self.hall_fixed_w = np.zeros(self.counts["hall"])

    def find(self, path: str) -> Where:
        """The node with this path. Errors: NotFound, with what was perhaps meant."""
        return named(self.where, path, "place")

    def servers(self, where: Where) -> Places:
        """The servers under a node."""
        return np.flatnonzero(self.of_server[where.level] == where.place)

    def sum_servers(self, level: Level, values: Any) -> Floats:
        """The sum over the servers under each node of a level."""
        return summed(self.of_server[level], values, self.counts[level])

    def climb(self, server_joules: Floats, seconds: float, halls_on: npt.NDArray[np.bool_]) -> Climb:
        """From the servers' plugs to where sites take power up, with the losses of racks and halls."""
        rack_load = self.sum_servers("rack", server_joules)
        rack_loss = rack_load * self.rack_share
        hall_load = self._sum("hall", self.parents["rack"], rack_load + rack_loss)
        hall_loss = hall_load * self.hall_share + self.hall_fixed_w * halls_on * seconds
        site_load = self._sum("site", self.parents["hall"], hall_load + hall_loss)
        return Climb(rack_load, rack_loss, hall_load, hall_loss, site_load)

    def sum_sites(self, values: Floats) -> Floats:
        """The sum over the sites of each region."""
        return self._sum("region", self.parents["site"], values)

    def _sum(self, level: Level, parents: Places, values: Floats) -> Floats:
        return summed(parents, values, self.counts[level])

    def _parent(self, node: PowerNode, nodes: Sequence[PowerNode]) -> int:
        depth = LEVELS.index(node.level)
        above = nodes[node.parent] if node.parent >= 0 else None
        if (above.level if above else None) != (LEVELS[depth - 1] if depth else None):
            raise ValueError(
                f"The {node.level} {node.path} must stand in a {LEVELS[depth - 1] if depth else 'world'}."
            )
        try:
            return self.find(above.path).place if above else -1
        except NotFound as mistake:
            raise ValueError(f"{node.path} comes before what it stands in.") from mistake

    def _ancestors(self) -> dict[Level, Places]:
        found: dict[Level, Places] = {"server": np.arange(self.counts["server"])}
        below: Level = "server"
        for level in reversed(LEVELS[:-1]):
            found[level] = self.parents[below][found[below]]
            below = level
        return found
