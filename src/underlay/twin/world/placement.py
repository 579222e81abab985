"""On which accelerators does a replica run, and is there room for it?

A replica takes accelerators of one kind in one server if they fit there, else in servers of one rack, as what it
says between its steps must not leave the rack. Replicas of one group are spread evenly over regions, sites, halls,
racks and servers, in this order, so that what breaks takes as few of them as can be. Kept for each place is how
many of its servers have how many accelerators free, so a choice looks at the places of one level after the other
and not at all servers. Refused here: whether a replica should run at all, what it costs to start it, why something
is out of service, clocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from underlay.twin.world.topology import Node, Server, Topology


class NoRoom(Exception):
    """There are too few accelerators free, or not in one place; ``free`` says how many there are."""

    def __init__(self, message: str, free: int) -> None:
        super().__init__(message)
        self.message = message
        self.free = free


class Slot(NamedTuple):
    """Accelerators in one server: bit n of ``mask`` is its accelerator n."""

    server: int
    mask: int

    @property
    def accelerators(self) -> int:
        """How many accelerators."""
        return self.mask.bit_count()


class _Room:
    """Of one place and kind of accelerator: ``free`` are there in all.

    ``servers[n]`` of its servers and ``racks[n]`` of its racks have n of them.
    """

    __slots__ = ("free", "racks", "servers")

    def __init__(self) -> None:
        self.servers: list[int] = []
        self.racks: list[int] = []
        self.free = 0


class Placement:
    """What runs where. Servers and accelerators out of service are not given to anybody."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.slots: dict[str, tuple[Slot, ...]] = {}
        self._groups: dict[str, str] = {}
        self._members: dict[str, dict[int, int]] = {}  # by group and place
        self._on: dict[int, list[str]] = {}
        self._untaken = [(1 << server.accelerators) - 1 for server in topology.servers]
        self._broken: dict[int, int] = {}
        self._out: dict[int, int] = {}
        self._rooms: dict[str, dict[int, _Room]] = {}  # by kind of accelerator and place
        for server in topology.servers:
            self._recount(server, 0, server.accelerators)

    def place(
        self,
        replica: str,
        accelerators: int,
        kind: str,
        *,
        within: str = "",
        group: str = "",
    ) -> tuple[Slot, ...]:
        """Give a replica its accelerators, somewhere in the place ``within`` (everywhere if empty).

        Errors: NoRoom; NotFound if there is no such place; ValueError if the replica already has its accelerators.
        """
        if replica in self.slots:
            raise ValueError(f"The replica {replica} has its accelerators already.")
        nodes = [self.topology.node(within)] if within else self.topology.regions
        found = self._server(nodes, accelerators, kind, group)
        if found is not None:
            slots = [Slot(found.number, _lowest(self._free_mask(found.number), accelerators))]
        else:
            slots = self._across(nodes, accelerators, kind, group)
        if not slots:
            raise self._no_room(nodes, accelerators, kind, within)
        self._groups[replica] = group
        self._take(replica, tuple(slots))
        return self.slots[replica]

    def remove(self, replica: str) -> None:
        """Take its accelerators back. Errors: KeyError if it has none."""
        group = self._groups.pop(replica)
        for slot in self.slots.pop(replica):
            self._on[slot.server].remove(replica)
            self._change(slot.server, self._untaken[slot.server] | slot.mask)
            self._count_group(slot.server, group, -1)

    def move(self, replica: str, kind: str, within: str = "") -> tuple[Slot, ...]:
        """Give a replica other accelerators than it has. Errors: NoRoom, and it keeps what it has; KeyError."""
        had, group = self.slots[replica], self._groups[replica]
        self.remove(replica)
        try:
            return self.place(replica, sum(slot.accelerators for slot in had), kind, within=within, group=group)
        except NoRoom:
            self._groups[replica] = group
            self._take(replica, had)
            raise

    def on(self, node: Node) -> list[str]:
        """The replicas with accelerators in a place, in the order of its servers."""
        return list(dict.fromkeys(self._under(node)))

    def using(self, server: int, number: int) -> str | None:
        """Who runs on one accelerator of a server."""
        bit = 1 << number
        for replica in self._on.get(server, ()):
            if any(slot.server == server and slot.mask & bit for slot in self.slots[replica]):
                return replica
        return None

    def free(self, node: Node, kind: str) -> int:
        """How many accelerators of a kind are in service and not taken in a place."""
        room = self._rooms.get(kind, {}).get(node.id)
        return room.free if room else 0

    def withdraw(self, server: int) -> None:
        """A server goes out of service, for one reason more. Who runs there keeps its accelerators."""
        before = self._free_mask(server).bit_count()
        self._out[server] = self._out.get(server, 0) + 1
        if self._out[server] == 1:
            self._recount(self.topology.servers[server], before, None)

    def restore(self, server: int) -> None:
        """One reason less; with the last one the server is in service again."""
        self._out[server] -= 1
        if not self._out[server]:
            del self._out[server]
            self._recount(self.topology.servers[server], None, self._free_mask(server).bit_count())

    def is_out(self, server: int) -> bool:
        """Whether a server is out of service."""
        return server in self._out

    def is_broken(self, server: int, number: int) -> bool:
        """Whether one accelerator of a server is out of service."""
        return bool(self._broken.get(server, 0) >> number & 1)

    def break_accelerator(self, server: int, number: int, *, broken: bool) -> None:
        """One accelerator goes out of service, or comes back."""
        bit = 1 << number
        mask = self._broken.get(server, 0)
        before = self._free_mask(server).bit_count()
        self._broken[server] = mask | bit if broken else mask & ~bit
        self._recount_free(server, before)

    def _under(self, node: Node) -> Iterator[str]:
        for server in node.servers:
            yield from self._on.get(server, ())

    def _server(self, nodes: Sequence[Node], need: int, kind: str, group: str) -> Server | None:
        """The server to take, by way of the best place of each level; None if no server alone has so many free."""
        while True:
            best = self._best(nodes, need, kind, group, together=True)
            if best is None or isinstance(best, Server):
                return best
            nodes = best.children

    def _across(self, nodes: Sequence[Node], need: int, kind: str, group: str) -> list[Slot]:
        """Accelerators in several servers of one rack, those with most free first; none if no rack has so many."""
        rack = self._best(nodes, need, kind, group, together=False)
        while rack is not None and rack.level != "rack":
            rack = self._best(rack.children, need, kind, group, together=False)
        slots: list[Slot] = []
        for server in sorted(rack.children, key=lambda server: -self.free(server, kind)) if rack else ():
            mask = self._free_mask(server.first)
            slots.append(Slot(server.first, _lowest(mask, min(need, mask.bit_count()))))
            need -= slots[-1].accelerators
            if not need:
                break
        return slots

    def _best(self, nodes: Sequence[Node], need: int, kind: str, group: str, *, together: bool) -> Node | None:
        """Of the places with a server (or, if not ``together``, a rack) that has so many free, the one to choose.

        That with fewest of the group, and of those the emptiest; the first of equals.
        """
        rooms = self._rooms.get(kind, {})
        members = self._members.get(group, {})
        best, best_key = None, (0, 0)
        for node in nodes:
            room = rooms.get(node.id)
            if room is None or room.free < need:
                continue
            key = (members.get(node.id, 0), -room.free)
            if (best is None or key < best_key) and _has(room, node, need, together):
                best, best_key = node, key
        return best

    def _take(self, replica: str, slots: tuple[Slot, ...]) -> None:
        self.slots[replica] = slots
        for slot in slots:
            self._on.setdefault(slot.server, []).append(replica)
            self._change(slot.server, self._untaken[slot.server] & ~slot.mask)
            self._count_group(slot.server, self._groups[replica], 1)

    def _count_group(self, server: int, group: str, change: int) -> None:
        members = self._members.setdefault(group, {})
        node: Node | None = self.topology.servers[server]
        while node is not None:
            members[node.id] = members.get(node.id, 0) + change
            node = node.parent

    def _free_mask(self, server: int) -> int:
        """Accelerators of a server in service and not taken; none of a server that is out."""
        return 0 if server in self._out else self._untaken[server] & ~self._broken.get(server, 0)

    def _change(self, server: int, untaken: int) -> None:
        before = self._free_mask(server).bit_count()
        self._untaken[server] = untaken
        self._recount_free(server, before)

    def _recount_free(self, server: int, before: int) -> None:
        if server not in self._out:
            self._recount(self.topology.servers[server], before, self._free_mask(server).bit_count())

    def _recount(self, server: Server, before: int | None, after: int | None) -> None:
        """In all places around a server: it had ``before`` free and has ``after`` (None: it is not counted)."""
        rooms = self._rooms.setdefault(server.accelerator, {})
        change = (after or 0) - (before or 0)
        rack_before = 0
        node: Node | None = server
        while node is not None:
            room = rooms.get(node.id)
            if room is None:
                room = rooms[node.id] = _Room()
            if node.level == "rack":
                rack_before = room.free
            room.free += change
            _recount(room.servers, before or 0, after or 0)
            if node.level not in {"rack", "server"}:
                _recount(room.racks, rack_before, rack_before + change)
            node = node.parent

    def _no_room(self, nodes: Sequence[Node], need: int, kind: str, within: str) -> NoRoom:
        free = sum(self.free(node, kind) for node in nodes)
        where = f" in {within}" if within else ""
        together = ", but not together in one rack" if free >= need else ""
        return NoRoom(f"{need} x {kind} are needed{where}; {free} are free{together}.", free)


def _has(room: _Room, node: Node, need: int, together: bool) -> bool:
    """Whether so many are free in one server, or in one rack, of a place that has as many free in all."""
    if node.level == "server" or (node.level == "rack" and not together):
        return True
    return any((room.servers if together else room.racks)[need:])


def _recount(counts: list[int], before: int, after: int) -> None:
    """One of those counted by how many are free had ``before`` and has ``after``; none is not counted."""
    if len(counts) <= max(before, after):
        counts.extend([0] * (max(before, after) + 1 - len(counts)))
    if before:
        counts[before] -= 1
    if after:
        counts[after] += 1


def _lowest(mask: int, count: int) -> int:
    """The lowest ``count`` bits of those set."""
    taken = 0
    for _ in range(count):
        bit = mask & -mask
        taken |= bit
        mask ^= bit
    return taken
