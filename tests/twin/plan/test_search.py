"""The search against counting everything out."""

from dataclasses import replace
from itertools import combinations, product
from math import ceil, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.twin.plan.builders import problem

from underlay.twin.plan.problem import Kind, Problem, Region, Server
from underlay.twin.plan.program import Program
from underlay.twin.plan.search import search

MOST = 4


def carries(task, capacity, reach, peak):
    """Hall's condition: every set of clients finds enough in the regions that any of them may reach."""
    clients = range(len(task.shares))
    for size in range(1, len(task.shares) + 1):
        for some in combinations(clients, size):
            asked = sum(task.shares[c] * peak for c in some)
            if asked > sum(cap for r, cap in enumerate(capacity) if any(reach[c][r] for c in some)) + 1e-9:
                return False
    return True


def fits(task, counts):
    """Whether a choice of replicas keeps all bounds; with it the servers that it takes."""
    capacity = [sum(n * k.capacity_per_s for n, k in zip(row, task.kinds, strict=True)) for row in counts]
    servers = {}
    for r, row in enumerate(counts):
        for name, server in task.servers.items():
            taken = sum(n * k.accelerators for n, k in zip(row, task.kinds, strict=True) if k.accelerator == name)
            servers[r, name] = ceil(taken / server.accelerators)
    for name, most in task.available.items():
        if sum(count * task.servers[name].accelerators for (_, n), count in servers.items() if n == name) > most:
            return None
    for r, region in enumerate(task.regions):
        watts = sum(count * task.servers[n].base_w for (at, n), count in servers.items() if at == r)
        watts += sum(n * k.full_w for n, k in zip(counts[r], task.kinds, strict=True))
        if watts * region.pue > region.power_cap_w + 1e-6:
            return None
        if (
            sum(c * task.servers[n].accelerators for (at, n), c in servers.items() if at == r)
            > region.accelerators_max
        ):
            return None
        if task.one_kind and sum(n > 0 for n in counts[r]) > 1:
            return None
    if sum(any(row) for row in counts) < task.regions_min:
        return None
    open_to = [min(cap, at.share_max * task.peak_per_s) for cap, at in zip(capacity, task.regions, strict=True)]
    if not carries(task, open_to, task.reach, task.peak_per_s):
        return None
    if task.survives_region:
        for lost in range(len(capacity)):
            left = [0.0 if r == lost else cap for r, cap in enumerate(capacity)]
            if not carries(task, left, task.reach_lost, task.peak_per_s):
                return None
    return servers


def choices(task):
    cells = len(task.regions) * len(task.kinds)
    for flat in product(range(MOST + 1), repeat=cells):
        size = len(task.kinds)
        yield [flat[r * size : (r + 1) * size] for r in range(len(task.regions))]


def counted_out(task):
    """The least cost of all choices, energy of requests left out (there is none in these problems)."""
    best = inf
    for counts in choices(task):
        servers = fits(task, counts)
        if servers is None:
            continue
        cost = 0.0
        for (r, name), count in servers.items():
            at, server = task.regions[r], task.servers[name]
            cost += count * (server.per_hour + server.base_w * at.pue * 1e-3 * at.per_kwh)
        for r, row in enumerate(counts):
            at = task.regions[r]
            cost += sum(n * k.on_w * at.pue * 1e-3 * at.per_kwh for n, k in zip(row, task.kinds, strict=True))
        best = min(best, cost)
    return best


tens = st.integers(1, 40).map(lambda whole: whole / 10)


@st.composite
def problems(draw):
    regions, kinds, clients = 2, draw(st.integers(1, 2)), draw(st.integers(1, 2))
    accelerators = ("x", "y") if draw(st.booleans()) else ("x", "x")
    made = tuple(
        Kind(
            f"k{k}",
            accelerators[k],
            draw(st.sampled_from([1, 2])),
            draw(tens),
            draw(st.sampled_from([0, 500])),
            0.0,
        )
        for k in range(kinds)
    )
    names = sorted({kind.accelerator for kind in made})
    flags = st.sampled_from([True, True, True, False])
    return Problem(
        regions=tuple(
            Region(
                f"r{r}",
                draw(st.sampled_from([1.0, 1.5])),
                draw(tens),
                power_cap_w=draw(st.sampled_from([inf, inf, 3000.0])),
                share_max=draw(st.sampled_from([1.0, 1.0, 0.6])),
                accelerators_max=draw(st.sampled_from([inf, inf, 4.0])),
            )
            for r in range(regions)
        ),
        kinds=made,
        servers={name: Server(draw(st.sampled_from([2, 4])), 300.0, draw(tens)) for name in names},
        peak_per_s=draw(tens),
        mean_per_s=0.1,
        shares=tuple(1 / clients for _ in range(clients)),
        rtt_s=tuple(tuple(0.01 for _ in range(regions)) for _ in range(clients)),
        reach=tuple(tuple(draw(flags) for _ in range(regions)) for _ in range(clients)),
        reach_lost=tuple(tuple(draw(flags) for _ in range(regions)) for _ in range(clients)),
        available={"x": draw(st.integers(2, 8))} if draw(st.booleans()) else {},
        regions_min=draw(st.sampled_from([1, 1, 2])),
        survives_region=draw(st.sampled_from([False, False, True])),
        one_kind=draw(st.booleans()),
    )


@quick
@given(problems())
def test_the_search_finds_what_counting_out_finds(task):
    # What is counted out stops at four replicas of a kind; the search is held to the same.
    bounded = {name: min(task.available.get(name, 99), 99) for name in task.servers}
    found = search(replace(task, available=bounded))
    best = counted_out(task)
    if any(count > MOST for count in found.replicas.values()):
        assert found.objective <= best + 1e-6
        return
    assert found.objective == pytest.approx(best, rel=1e-3, abs=1e-6)
    if found.replicas:
        counts = [[found.replicas.get((r, k), 0) for k in range(len(task.kinds))] for r in range(2)]
        assert fits(task, counts) is not None
        assert sum(found.flows.values()) == pytest.approx(task.peak_per_s)
        assert found.bound <= found.objective + 1e-9


@quick
@given(st.lists(st.tuples(tens, tens, st.integers(0, 900)), min_size=1, max_size=2), tens, tens)
def test_energy_of_requests_is_counted_where_they_are_served(kinds, first_price, second_price):
    """One client, so the best flows for some replicas are found by filling the cheapest first."""
    made = tuple(Kind(f"k{k}", "x", 1, cap, 0.0, float(joules)) for k, (cap, _, joules) in enumerate(kinds))
    task = problem(peak_per_s=4.0, mean_per_s=2.0)
    task = replace(
        task,
        kinds=made,
        servers={"x": Server(1, 0.0, 0.5)},
        regions=(Region("r0", 1.2, first_price), Region("r1", 1.0, second_price, share_max=0.7)),
    )
    best = inf
    for counts in choices(task):
        if fits(task, counts) is None:
            continue
        cost = 0.5 * sum(map(sum, counts))
        slots = sorted(
            (task.kw_per_request(r, k) * task.regions[r].per_kwh, r, n * made[k].capacity_per_s)
            for r, row in enumerate(counts)
            for k, n in enumerate(row)
        )
        left, room = 4.0, [4.0, 0.7 * 4.0]
        for price, r, capacity in slots:
            taken = min(left, room[r], capacity)
            left, room[r], cost = left - taken, room[r] - taken, cost + taken * price
        best = min(best, cost if left < 1e-9 else inf)
    found = search(task)
    if all(count <= MOST for count in found.replicas.values()):
        assert found.objective == pytest.approx(best, rel=1e-3)
    else:
        assert found.objective <= best * (1 + 1e-3)


def test_without_one_region_the_others_carry_the_peak():
    found = search(problem((2.5,), regions=3, survives_region=True))
    per_region = [found.replicas.get((r, 0), 0) * 2.5 for r in range(3)]
    assert sum(per_region) - max(per_region) >= 10.0
    assert search(problem((2.5,), regions=3)).objective < found.objective


def test_equal_plans_serve_from_nearby_and_evenly():
    task = problem((5.0,), clients=2, regions_min=2)
    found = search(task)
    assert found.flows == pytest.approx({(0, 0, 0): 5.0, (1, 1, 0): 5.0})
    alone = search(problem((1.0,), regions=1, shares=(1.0,)))
    assert alone.replicas == {(0, 0): 10}


def test_only_allowed_pairs_are_used():
    found = search(problem((2.0, 5.0), allowed=frozenset({(0, 0), (1, 1)})))
    assert set(found.replicas) <= {(0, 0), (1, 1)}
    assert search(problem((2.0,), allowed=frozenset({(1, 0)}))).replicas == {(1, 0): 5}


def test_equal_problems_have_equal_plans():
    task = problem((1.7, 3.1), regions=3, clients=2, survives_region=True)
    assert search(task) == search(task)


def test_a_program_tells_whether_it_can_be_solved():
    program = Program()
    column = program.column(1.0, whole=True)
    program.row([(column, 1.0)], low=2.5)
    assert program.solve().values == (3,)
    program.row([(column, 1.0)], high=2.0)
    assert program.solve().status == "infeasible"


def test_the_search_says_nothing_on_stdout(capfd):
    search(problem())
    assert capfd.readouterr() == ("", "")
