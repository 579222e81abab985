"""What stands where: region > site > hall > rack > server, each with its accelerators and its cap in watts.

A place has a path such as ``west/w1/a/r03/s1``. Servers are numbered through from 0, all those under one place side
by side, so whatever happens to a place happens to a range of numbers. A topology never changes: what is down, taken
or throttled is kept by whom it concerns. Refused here: power, links, replicas, clocks.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from underlay.domain.errors import NotFound
from underlay.physics.catalogue import accelerator as accelerator_named
from underlay.twin.world.mistake import ScenarioMistake

Level = Literal["region", "site", "hall", "rack", "server"]
LEVELS: tuple[Level, ...] = get_args(Level)

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*\Z")
_MOST_SERVERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """``count`` equal places of one level and what is in each; the level is that of their depth.

    One place is called ``name``; several are numbered from 1: ``r`` times 40 is r01 to r40. Servers have
    ``accelerators`` of kind ``accelerator`` each, and may say what they draw idle; other places have ``parts``.
    ``cap_w`` is what the place may draw, if it is capped. ``place`` is where in the world a region lies, such as
    ``azure/westus2``. ``steps`` say where in the scenario this was asked for.
    """

    name: str
    count: int = 1
    parts: Sequence[Plan] = ()
    accelerator: str = ""
    accelerators: int = 0
    cap_w: float | None = None
    idle_w: float | None = None
    place: str = ""
    steps: tuple[str | int, ...] = ()


class Node:
    """One place. Its servers are those numbered from ``first`` to before ``last``; ``id`` numbers all places.

    ``idle_w`` is what it draws with nothing running, if all servers under it say so, else None.
    """

    __slots__ = (
        "accelerators",
        "cap_w",
        "children",
        "first",
        "id",
        "idle_w",
        "last",
        "level",
        "name",
        "parent",
        "path",
        "place",
        "steps",
    )

    def __init__(self, name: str, level: Level, parent: Node | None, first: int, plan: Plan) -> None:
        self.name = name
        self.level: Level = level
        self.id = 0
        self.parent = parent
        self.path: str = name if parent is None else f"{parent.path}/{name}"
        self.place = plan.place
        self.steps = plan.steps
        self.cap_w = plan.cap_w
        self.idle_w: float | None = None
        self.children: list[Node] = []
        self.first = first
        self.last = first
        self.accelerators = 0

    @property
    def servers(self) -> range:
        """The numbers of its servers."""
        return range(self.first, self.last)

    def up(self, level: Level) -> Node:
        """The place of that level in which this one is (itself, if it is of that level)."""
        node = self
        while node.level != level:
            if node.parent is None:
                raise ValueError(f"{self.path} is not in a {level}.")
            node = node.parent
        return node

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        return self  # it never changes, so a snapshot of the world shares it

    def __repr__(self) -> str:
        return f"Node({self.path}, {self.last - self.first} servers, {self.accelerators} accelerators)"


class Server(Node):
    """One server: ``number`` among all, ``accelerator`` the kind that it has ``accelerators`` of."""

    __slots__ = ("accelerator", "number")

    def __init__(self, name: str, parent: Node | None, number: int, plan: Plan) -> None:
        super().__init__(name, "server", parent, number, plan)
        self.number = number
        self.last = number + 1
        self.accelerator = plan.accelerator
        self.accelerators = plan.accelerators
        self.idle_w = plan.idle_w


class Topology:
    """All places. Errors: ScenarioMistake for what cannot be built."""

    def __init__(self, regions: Sequence[Plan]) -> None:
        if not regions:
            raise ScenarioMistake((), "A world needs at least one region.")
        self.servers: list[Server] = []
        self.nodes: dict[str, Node] = {}
        self.regions: list[Node] = []
        self._firsts: list[int] = []
        self._build(regions, None, self.regions)
        self.accelerators = self._firsts[-1] + self.servers[-1].accelerators

    def node(self, path: str, steps: tuple[str | int, ...] = ()) -> Node:
        """The place with this path. Errors: NotFound; ScenarioMistake if ``steps`` say where it was asked for."""
        found = self.nodes.get(path)
        if found is not None:
            return found
        near = get_close_matches(path, self.nodes, n=1)
        meant = f"did you mean {near[0]}?" if near else f"regions are {', '.join(at.name for at in self.regions)}."
        message = f"There is no place {path!r}; {meant}"
        raise ScenarioMistake(steps, message) if steps else NotFound(message, param="where")

    def find(self, pattern: str) -> list[Node]:
        """All places of one level whose paths fit a pattern such as ``west/*/a/r0?``, in order."""
        if not any(sign in pattern for sign in "*?["):
            return [self.nodes[pattern]] if pattern in self.nodes else []
        parts = pattern.split("/")
        nodes = [node for node in self.regions if fnmatchcase(node.name, parts[0])]
        for part in parts[1:]:
            nodes = [child for node in nodes for child in node.children if fnmatchcase(child.name, part)]
        return nodes

    def at_level(self, level: Level) -> Iterator[Node]:
        """All places of one level, in order."""
        return (node for node in self.nodes.values() if node.level == level)

    def server_of_accelerator(self, number: int) -> tuple[Server, int]:
        """The server that has the accelerator with this number, counted through from 0, and which of its own."""
        index = bisect_right(self._firsts, number) - 1
        return self.servers[index], number - self._firsts[index]

    def __deepcopy__(self, memo: dict[int, Any]) -> Topology:
        return self  # it never changes, so a snapshot of the world shares it

    def _build(self, plans: Sequence[Plan], parent: Node | None, into: list[Node]) -> None:
        level = LEVELS[0 if parent is None else LEVELS.index(parent.level) + 1]
        for plan in plans:
            _check(plan, level)
            for name in _names(plan):
                node = self._add(name, level, parent, plan)
                into.append(node)

    def _add(self, name: str, level: Level, parent: Node | None, plan: Plan) -> Node:
        path = name if parent is None else f"{parent.path}/{name}"
        if path in self.nodes:
            raise ScenarioMistake((*plan.steps, "name"), f"There are two places {path}: each needs its own name.")
        if level == "server":
            return self._add_server(name, parent, plan)
        node = Node(name, level, parent, len(self.servers), plan)
        self._know(node)
        self._build(plan.parts, node, node.children)
        node.last = len(self.servers)
        node.accelerators = sum(child.accelerators for child in node.children)
        idle_w = [child.idle_w for child in node.children if child.idle_w is not None]
        node.idle_w = sum(idle_w) if len(idle_w) == len(node.children) else None
        _check_cap(node, plan)
        return node

    def _know(self, node: Node) -> None:
        node.id = len(self.nodes)
        self.nodes[node.path] = node

    def _add_server(self, name: str, parent: Node | None, plan: Plan) -> Server:
        number = len(self.servers)
        if number >= _MOST_SERVERS:
            raise ScenarioMistake(plan.steps, f"More than {_MOST_SERVERS:,} servers are not modelled.")
        server = Server(name, parent, number, plan)
        self._firsts.append(self._firsts[-1] + self.servers[-1].accelerators if number else 0)
        self.servers.append(server)
        self._know(server)
        _check_cap(server, plan)
        return server


def _names(plan: Plan) -> list[str]:
    if plan.count == 1:
        return [plan.name]
    digits = len(str(plan.count))
    return [f"{plan.name}{number:0{digits}}" for number in range(1, plan.count + 1)]


def _check(plan: Plan, level: Level) -> None:
    if not _NAME.match(plan.name):
        raise ScenarioMistake(
            (*plan.steps, "name"),
            f"{plan.name!r} is no name for a {level}: use small letters, digits and hyphens, as in west or r1.",
        )
    if plan.count < 1:
        raise ScenarioMistake(
            (*plan.steps, "count"), f"{plan.count} of {level} {plan.name}: there must be at least 1."
        )
    if plan.place and level != "region":
        raise ScenarioMistake((*plan.steps, "place"), f"A {level} has no place of its own: give it to its region.")
    if level == "server":
        _check_server(plan)
    elif plan.accelerator or plan.accelerators:
        raise ScenarioMistake(
            (*plan.steps, "accelerator"), f"A {level} has no accelerators of its own: give them to its servers."
        )
    elif not plan.parts:
        below = LEVELS[LEVELS.index(level) + 1]
        raise ScenarioMistake(plan.steps, f"The {level} {plan.name} is empty: it needs at least one {below}.")


def _check_server(plan: Plan) -> None:
    if plan.parts:
        raise ScenarioMistake(plan.steps, f"The server {plan.name} cannot have places in it.")
    if plan.accelerators < 1:
        raise ScenarioMistake(
            (*plan.steps, "accelerators"), f"{plan.accelerators} accelerators: a server needs at least 1 to serve."
        )
    try:
        accelerator_named(plan.accelerator)
    except NotFound as mistake:
        raise ScenarioMistake((*plan.steps, "accelerator"), mistake.message) from mistake


def _check_cap(node: Node, plan: Plan) -> None:
    if node.cap_w is None:
        return
    if not 0.0 < node.cap_w < float("inf"):
        raise ScenarioMistake((*plan.steps, "cap_w"), f"A cap must be above 0 W, {node.path} has {node.cap_w:g} W.")
    if node.idle_w is not None and node.cap_w < node.idle_w:
        raise ScenarioMistake(
            (*plan.steps, "cap_w"),
            f"{node.path} may draw {node.cap_w:,.0f} W, but draws {node.idle_w:,.0f} W with nothing running: raise "
            "the cap or take servers out.",
        )
