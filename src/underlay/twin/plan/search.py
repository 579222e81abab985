"""The best of all plans: how many replicas of which kind in each region, and which client goes where.

An integer program, solved to a proven gap (``program``). Chosen are whole replicas and whole servers; the load of
every client is shared among the regions that it may reach, and within a region among kinds. For each region that
may be lost there is a second sharing, of the whole peak among the others. Among plans that are equally good the
load is then brought to the nearest, and spread evenly, with the replicas as they are.

Refused here: why there is no plan (``diagnosis``), and how sure its numbers are (``bands``).
"""

from __future__ import annotations

from math import inf, isfinite
from typing import NamedTuple

from underlay.twin.plan.problem import Problem
from underlay.twin.plan.program import GAP, Program, Status

#: When nothing else tells plans apart: full replicas beside empty ones count as so many seconds of round trip.
_EVENNESS = 0.05
#: How much of what is made least may be given up for nearness: as much as is left open anyway.
_SLACK = GAP


class Found(NamedTuple):
    """A plan. ``replicas`` and ``servers`` by region and kind or accelerator; ``flows`` by client, region, kind.

    Flows are requests per second at the peak. ``bound`` is what no plan is below, ``gap`` the distance from it.
    """

    status: Status
    objective: float
    bound: float
    gap: float
    replicas: dict[tuple[int, int], int]
    servers: dict[tuple[int, str], int]
    flows: dict[tuple[int, int, int], float]


class _Columns:
    """The columns of a problem's program."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.program = program = Program()
        regions, kinds = range(len(problem.regions)), range(len(problem.kinds))
        self.replicas = {
            (r, k): program.column(self._on_cost(r, k), high=problem.most(r, k), whole=True)
            for r in regions
            for k in kinds
        }
        self.servers = {
            (r, name): program.column(self._server_cost(r, name), whole=True)
            for r in regions
            for name in problem.servers
        }
        self.flows = {
            (c, r, k): program.column(problem.kw_per_request(r, k) * problem.regions[r].per_kwh)
            for c, _ in problem.loads()
            for r in regions
            if problem.reach[c][r]
            for k in kinds
        }
        self.most = program.column(high=1.0)  # the greatest part of its capacity that anybody uses
        self._add_rows()

    def _on_cost(self, region: int, kind: int) -> float:
        at = self.problem.regions[region]
        return self.problem.kinds[kind].on_w * at.pue * 1e-3 * at.per_kwh

    def _server_cost(self, region: int, name: str) -> float:
        at, server = self.problem.regions[region], self.problem.servers[name]
        return server.per_hour + server.base_w * at.pue * 1e-3 * at.per_kwh

    def _add_rows(self) -> None:
        problem, program = self.problem, self.program
        for client, load in problem.loads():
            program.row(((v, 1.0) for (c, _, _), v in self.flows.items() if c == client), low=load, high=load)
        for (r, k), replicas in self.replicas.items():
            here = [(v, 1.0) for (_, region, kind), v in self.flows.items() if (region, kind) == (r, k)]
            program.row([*here, (replicas, -problem.kinds[k].capacity_per_s)], high=0.0)
        self._add_places()
        self._add_bounds()
        if problem.regions_min > 1:
            self._add_least_regions()
        if problem.one_kind:
            for r in range(len(problem.regions)):
                self._add_one_kind(r)
        if problem.survives_region:
            for lost in range(len(problem.regions)):
                self._add_loss(lost)

    def _add_bounds(self) -> None:
        """What one region may take of the load, and draw."""
        for r, region in enumerate(self.problem.regions):
            if region.share_max < 1.0:
                here = [(v, 1.0) for (_, at, _), v in self.flows.items() if at == r]
                self.program.row(here, high=region.share_max * self.problem.peak_per_s)
            if isfinite(region.power_cap_w):
                self.program.row(self._watts(r), high=region.power_cap_w / region.pue)

    def _add_places(self) -> None:
        """Every replica stands in a server, and of those there are not more than there may be."""
        problem, program = self.problem, self.program
        for (r, name), servers in self.servers.items():
            size = problem.servers[name].accelerators
            need = [
                (v, float(problem.kinds[k].accelerators))
                for (at, k), v in self.replicas.items()
                if at == r and problem.kinds[k].accelerator == name
            ]
            program.row([*need, (servers, -float(size))], high=0.0)
        for name, most in problem.available.items():
            if name in problem.servers:
                each = float(problem.servers[name].accelerators)
                program.row(((v, each) for (_, n), v in self.servers.items() if n == name), high=float(most))
        for r, region in enumerate(problem.regions):
            if isfinite(region.accelerators_max):
                here = [
                    (v, float(problem.servers[n].accelerators)) for (at, n), v in self.servers.items() if at == r
                ]
                program.row(here, high=region.accelerators_max)

    def _watts(self, region: int) -> list[tuple[int, float]]:
        """IT watts of a region with all its replicas fully loaded."""
        servers = [(v, self.problem.servers[n].base_w) for (at, n), v in self.servers.items() if at == region]
        return servers + [(v, self.problem.kinds[k].full_w) for (at, k), v in self.replicas.items() if at == region]

    def _add_least_regions(self) -> None:
        used = []
        for r in range(len(self.problem.regions)):
            here = self.program.column(high=1.0, whole=True)
            replicas = [(v, -1.0) for (at, _), v in self.replicas.items() if at == r]
            self.program.row([(here, 1.0), *replicas], high=0.0)
            used.append((here, 1.0))
        self.program.row(used, low=float(self.problem.regions_min))

    def _add_one_kind(self, region: int) -> None:
        """At most one kind."""
        chosen = []
        for k in range(len(self.problem.kinds)):
            here = self.program.column(high=1.0, whole=True)
            most = self.problem.most(region, k)
            self.program.row([(self.replicas[region, k], 1.0), (here, -most)], high=0.0)
            chosen.append((here, 1.0))
        self.program.row(chosen, high=1.0)

    def _add_loss(self, lost: int) -> None:
        """Without one region the others carry the peak."""
        problem, program = self.problem, self.program
        others = [r for r in range(len(problem.regions)) if r != lost]
        ways = {(c, r): program.column() for c, _ in problem.loads() for r in others if problem.reach_lost[c][r]}
        for client, load in problem.loads():
            program.row(((v, 1.0) for (c, _), v in ways.items() if c == client), low=load, high=load)
        for r in others:
            carried = [(v, -problem.kinds[k].capacity_per_s) for (at, k), v in self.replicas.items() if at == r]
            program.row([*((v, 1.0) for (_, at), v in ways.items() if at == r), *carried], high=0.0)


def search(problem: Problem, time_limit_s: float = 20.0, *, gap: float = GAP) -> Found:
    """The best plan; ``infeasible`` if there is none, ``limit`` if time ran out before the best was proven."""
    columns = _Columns(problem)
    first = columns.program.solve(time_limit_s, gap=gap)
    if not first.values:
        return Found(first.status, inf, inf, inf, {}, {}, {})
    replicas = {key: round(first.values[v]) for key, v in columns.replicas.items() if round(first.values[v])}
    servers = {key: round(first.values[v]) for key, v in columns.servers.items() if round(first.values[v])}
    values = _nearest(columns, first.values, first.objective) or first.values
    flows = {key: values[v] for key, v in columns.flows.items() if values[v] > 1e-9 * problem.peak_per_s}
    return Found(first.status, first.objective, first.bound, first.gap, replicas, servers, flows)


def _nearest(columns: _Columns, values: tuple[float, ...], objective: float) -> tuple[float, ...]:
    """The same replicas, with the load brought to the nearest and spread evenly; empty if that fails."""
    problem, program = columns.problem, columns.program
    costs = program.costs
    for column in (*columns.replicas.values(), *columns.servers.values()):
        program.fix(column, round(values[column]))
    most = objective + _SLACK * max(abs(objective), 1e-9)
    program.row(((v, cost) for v, cost in enumerate(costs) if cost), high=most)
    for (r, k), replicas in columns.replicas.items():
        here = [(v, 1.0) for (_, at, kind), v in columns.flows.items() if (at, kind) == (r, k)]
        capacity = problem.kinds[k].capacity_per_s * round(values[replicas])
        if here and capacity:
            program.row([*here, (columns.most, -capacity)], high=0.0)
    nearness = [0.0] * len(costs)
    for (c, r, _), v in columns.flows.items():
        nearness[v] = problem.rtt_s[c][r] / problem.peak_per_s
    nearness[columns.most] = _EVENNESS
    program.cost(nearness)
    return program.solve(gap=GAP).values
