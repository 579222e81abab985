"""What breaks by chance, when, and what goes down with it?

Each kind of failure strikes the whole population at its rate, as a Poisson process: there is one appointment, for
the next failure of all, and who it strikes is thrown then. One that strikes what is out already is none: so what is
out breaks no second time, and the others break no more often for it. An accelerator takes its replica with it, a
server all on it, a rack's switch the rack, the loss of a site the site; a broken process only itself. Refused here:
planned work, and failures that come together by more than what they share; those are scripted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import log

from underlay.physics.failure_rates import Domain, FailureRate, Repair, failure_rates, repairs
from underlay.twin.kernel import Kernel
from underlay.twin.world.outages import Outage, Outages
from underlay.twin.world.storage import ColdStart
from underlay.twin.world.topology import Node, Topology


class Failures:
    """The failures of one world, from ``begin`` on. ``factor`` times as many as published.

    ``counts`` are those that struck something in service, by component. A replaced server has lost what was on its
    drives, so ``starts`` is told.
    """

    def __init__(
        self,
        kernel: Kernel,
        topology: Topology,
        outages: Outages,
        starts: ColdStart,
        *,
        factor: float = 1.0,
        rates: Sequence[FailureRate] | None = None,
        ways: Mapping[Domain, Sequence[Repair]] | None = None,
    ) -> None:
        self.kernel = kernel
        self.topology = topology
        self.outages = outages
        self.starts = starts
        self.rates = failure_rates() if rates is None else rates
        self.ways = repairs() if ways is None else ways
        self.counts: dict[str, int] = {}
        self._racks = list(topology.at_level("rack"))
        self._sites = list(topology.at_level("site"))
        self._dice = kernel.stream("failures")
        population = {"accelerator": topology.accelerators, "rack": len(self._racks), "site": len(self._sites)}
        self._sums = list(accumulate(rate.per_s * population[rate.counted] * factor for rate in self.rates))

    @property
    def per_s(self) -> float:
        """How many failures a second are to be expected, with everything in service."""
        return self._sums[-1] if self._sums else 0.0

    def begin(self, at: float) -> None:
        """From now on things break."""
        if self.per_s > 0.0:
            self.kernel.call(at + self._dice.expovariate(self.per_s), self._strike)

    def _strike(self, at: float, what: object) -> None:
        del what
        self.begin(at)
        rate = self.rates[bisect_right(self._sums, self._dice.random() * self._sums[-1])]
        if rate.domain == "process":
            self._crash(rate, at)
        else:
            self._break(rate, at)

    def _crash(self, rate: FailureRate, at: float) -> None:
        server, number = self._accelerator()
        replica = self.outages.placement.using(server.first, number)
        if replica is None or self.outages.is_down(replica):
            return
        self._count(rate, at, replica)
        self.outages.crash(replica, at, rate.component)

    def _break(self, rate: FailureRate, at: float) -> None:
        node, number = self._victim(rate.domain)
        if self._is_out(node, number):
            return
        self._count(rate, at, node.path if number is None else f"accelerator {number} of {node.path}")
        outage = self.outages.lose(node, at, rate.component, number)
        way = self._way(rate.domain)
        self.kernel.call(at + self._repair_s(way), self._repaired, (outage, way))

    def _repaired(self, at: float, what: tuple[Outage, Repair]) -> None:
        outage, way = what
        if way.kind == "replace" and outage.node is not None and outage.node.level == "server":
            self.starts.forget(outage.node.first)
        self.outages.regain(outage, at)

    def _victim(self, domain: Domain) -> tuple[Node, int | None]:
        if domain == "rack":
            return self._dice.choice(self._racks), None
        if domain == "site":
            return self._dice.choice(self._sites), None
        server, number = self._accelerator()
        return server, number if domain == "accelerator" else None

    def _accelerator(self) -> tuple[Node, int]:
        return self.topology.server_of_accelerator(self._dice.randrange(self.topology.accelerators))

    def _is_out(self, node: Node, number: int | None) -> bool:
        """Whether what would break is out of service, itself or with all around it."""
        if number is not None and self.outages.placement.is_broken(node.first, number):
            return True
        return all(self.outages.placement.is_out(server) for server in node.servers)

    def _way(self, domain: Domain) -> Repair:
        ways = self.ways[domain]
        thrown = self._dice.random() * sum(way.share for way in ways)
        return ways[min(bisect_right(list(accumulate(way.share for way in ways)), thrown), len(ways) - 1)]

    def _repair_s(self, way: Repair) -> float:
        """Lognormal, with the mean that the way of repair has."""
        if not way.sigma:
            return way.mean_s
        return self._dice.lognormvariate(log(way.mean_s) - 0.5 * way.sigma**2, way.sigma)

    def _count(self, rate: FailureRate, at: float, struck: str) -> None:
        self.counts[rate.component] = self.counts.get(rate.component, 0) + 1
        self.outages.target.happened(at, f"{struck}: {rate.component}")
