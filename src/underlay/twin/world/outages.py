"""Which replicas are down because of what is out of service, and when may they come back?

A replica is down as long as anything that it runs on is out, for however many reasons at once; with the last reason
gone it is started again, or, if it waits longer than ``spare_after_s``, on other accelerators where there are free
ones. Nothing starts where accelerators cannot be had (``hold``). Whoever takes something out gets an ``Outage``
and hands it back. Refused here: why and for how long, how long a start takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from underlay.twin.kernel import Kernel
from underlay.twin.world.placement import NoRoom, Placement
from underlay.twin.world.target import Target
from underlay.twin.world.topology import Node


class Outage:
    """Something out of service, and the replicas that it ``hit``.

    A place; or one accelerator (``number``) of a server; or, with no place at all, only those replicas.
    """

    __slots__ = ("cause", "hit", "node", "number")

    def __init__(self, cause: str, node: Node | None, number: int | None = None) -> None:
        self.cause = cause
        self.node = node
        self.number = number
        self.hit: list[str] = []


class Outages:
    """What is out of service now, and what that does to replicas. Everything happens at ``at``, which is now."""

    def __init__(
        self, kernel: Kernel, placement: Placement, target: Target, spare_after_s: float | None = None
    ) -> None:
        self.kernel = kernel
        self.placement = placement
        self.target = target
        self.spare_after_s = spare_after_s
        self._reasons: dict[str, dict[Outage, None]] = {}
        self._held: dict[str, int] = {}
        self._waiting: dict[str, None] = {}

    def lose(self, node: Node, at: float, cause: str, number: int | None = None) -> Outage:
        """A place goes out of service, or one accelerator of a server, with what runs there."""
        outage = Outage(cause, node, number)
        if number is None:
            outage.hit = self.placement.on(node)
            for server in node.servers:
                self.placement.withdraw(server)
        else:
            replica = self.placement.using(node.first, number)
            outage.hit = [replica] if replica is not None else []
            self.placement.break_accelerator(node.first, number, broken=True)
        for replica in outage.hit:
            self._down(replica, outage, at)
        return outage

    def bar(self, replicas: Sequence[str], at: float, cause: str) -> Outage:
        """These replicas end, and cannot come up again for a reason of their own."""
        outage = Outage(cause, None)
        outage.hit = list(replicas)
        for replica in outage.hit:
            self._down(replica, outage, at)
        return outage

    def regain(self, outage: Outage, at: float) -> None:
        """It is in service again; who waited for nothing else is started."""
        node, number = outage.node, outage.number
        if node is not None and number is not None:
            self.placement.break_accelerator(node.first, number, broken=False)
        elif node is not None:
            for server in node.servers:
                self.placement.restore(server)
        for replica in outage.hit:
            reasons = self._reasons.get(replica)
            if reasons is None or outage not in reasons:
                continue  # it has moved since, or is gone for good
            del reasons[outage]
            self._up_if_nothing_is_left(replica, at)

    def crash(self, replica: str, at: float, cause: str) -> None:
        """The process of a replica ends; it is started again at once, if its hardware is there."""
        self.target.kill(replica, at, cause)
        if replica not in self._reasons:
            self._start(replica, at)

    def forget(self, replica: str) -> None:
        """A replica was taken away for good, by decision: nothing here starts it again."""
        self._reasons.pop(replica, None)
        self._waiting.pop(replica, None)

    def is_down(self, replica: str) -> bool:
        """Whether something that a replica runs on is out of service."""
        return replica in self._reasons

    def hold(self, path: str) -> None:
        """From now on nothing can be started in a place, as no accelerators can be had there."""
        self._held[path] = self._held.get(path, 0) + 1

    def release(self, path: str, at: float) -> None:
        """Take back one ``hold``; who waited is started."""
        self._held[path] -= 1
        if not self._held[path]:
            del self._held[path]
        waiting, self._waiting = self._waiting, {}
        for replica in waiting:
            self._start(replica, at)

    def may_start(self, path: str) -> bool:
        """Whether anything can be started in a place (whoever scales up asks this too)."""
        return not any(path == held or path.startswith(f"{held}/") for held in self._held)

    def _down(self, replica: str, outage: Outage, at: float) -> None:
        reasons = self._reasons.setdefault(replica, {})
        if not reasons:
            self._waiting.pop(replica, None)
            self.target.kill(replica, at, outage.cause)
        reasons[outage] = None
        if self.spare_after_s is not None and outage.node is not None:
            self.kernel.call(at + self.spare_after_s, self._move, (replica, outage))

    def _up_if_nothing_is_left(self, replica: str, at: float) -> None:
        if not self._reasons[replica]:
            del self._reasons[replica]
            self._start(replica, at)

    def _start(self, replica: str, at: float) -> None:
        server = self.placement.topology.servers[self.placement.slots[replica][0].server]
        if self.may_start(server.path):
            self.target.restart(replica, at)
        else:
            self._waiting[replica] = None

    def _move(self, at: float, what: tuple[str, Outage]) -> None:
        """A replica that still waits for what it lost gets other accelerators of its region, if there are any."""
        replica, outage = what
        reasons = self._reasons.get(replica, {})
        if outage not in reasons:
            return
        server = self.placement.topology.servers[self.placement.slots[replica][0].server]
        try:
            self.placement.move(replica, server.accelerator, within=server.up("region").path)
        except NoRoom:
            return
        self.target.happened(at, f"{replica} moved away from {server.path} ({outage.cause})")
        self._reasons[replica] = {reason: None for reason in reasons if reason.node is None}
        self._up_if_nothing_is_left(replica, at)
