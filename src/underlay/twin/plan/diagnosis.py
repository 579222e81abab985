"""Why does nothing fit, and what would help? Bounds are dropped one at a time until something does.

What is told is what the best plan takes without the bound, so that whoever asked knows how far to move it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf

from underlay.twin.plan.places import Ways
from underlay.twin.plan.problem import Problem
from underlay.twin.plan.question import Question
from underlay.twin.plan.search import Found, search

_TIME_LIMIT_S = 10.0


def out_of_reach(question: Question, found: Ways, allowed: Sequence[Sequence[bool]], rtt_max_s: float) -> list[str]:
    """Clients whom no region may serve."""
    said = []
    for client, row in enumerate(allowed):
        if not any(row):
            nearest_s, nearest = min(
                (seconds, region.name)
                for seconds, region in zip(found.rtt_s[client], question.regions, strict=True)
            )
            said.append(
                f"{found.clients[client]}: the nearest region, {nearest}, is {nearest_s * 1e3:.0f} ms away, allowed"
                f" are {rtt_max_s * 1e3:.0f} ms; allow {nearest_s * 1e3:.0f} ms or name a nearer region"
            )
    return said


def out_of_reach_when_lost(question: Question, problem: Problem, found: Ways) -> list[str]:
    """Clients whom nobody may serve once one region is lost."""
    said = []
    for client, row in enumerate(problem.reach_lost):
        for lost, region in enumerate(question.regions):
            others = [r for r in range(len(row)) if r != lost]
            if any(row[r] for r in others):
                continue
            seconds, name = min((found.rtt_s[client][r], question.regions[r].name) for r in others)
            said.append(
                f"{found.clients[client]} when {region.name} is lost: the next region, {name}, is"
                f" {seconds * 1e3:.0f} ms away; allow that while a region is lost, or name a nearer one"
            )
    return said


def diagnose(problem: Problem) -> list[str]:
    """The bounds that stand in the way, each with what it would take; all together if no single one does."""
    said = []
    for about, relaxed in _relaxations(problem):
        found = search(relaxed, _TIME_LIMIT_S)
        if found.replicas:
            said.append(f"{about}; without it {_takes(relaxed, found)}")
    if not said:
        free = _freed(problem)
        found = search(free, _TIME_LIMIT_S)
        bounds = ", ".join(about for about, _ in _relaxations(problem))
        said.append(f"several bounds together ({bounds}); without any of them {_takes(free, found)}")
    return said


def _relaxations(problem: Problem) -> Iterator[tuple[str, Problem]]:
    """Every bound that is there, in words, and the problem without it."""
    for name, most in problem.available.items():
        if name in problem.servers:
            rest = {other: count for other, count in problem.available.items() if other != name}
            yield f"the {most:,} x {name} that there are", replace(problem, available=rest)
    for place, region in enumerate(problem.regions):
        if region.power_cap_w < inf:
            about = f"the {region.power_cap_w / 1e6:g} MW of {region.name}"
            yield about, _with(problem, place, lambda at: replace(at, power_cap_w=inf))
        if region.accelerators_max < inf:
            about = f"the {region.accelerators_max:,.0f} accelerators of {region.name}"
            yield about, _with(problem, place, lambda at: replace(at, accelerators_max=inf))
    yield from _rules(problem)


def _rules(problem: Problem) -> Iterator[tuple[str, Problem]]:
    """The same for what holds of all regions together."""
    if any(region.share_max < 1 for region in problem.regions):
        free = tuple(replace(region, share_max=1.0) for region in problem.regions)
        yield "how much of the load one region may take", replace(problem, regions=free)
    if problem.survives_region:
        yield "surviving the loss of a region", replace(problem, survives_region=False)
    if problem.one_kind:
        yield "one kind of replica in each region, not mixed ones", replace(problem, one_kind=False)
    if problem.regions_min > 1:
        yield f"at least {problem.regions_min} regions", replace(problem, regions_min=1)
    if not all(all(row) for row in problem.reach):
        everywhere = tuple(tuple(True for _ in row) for row in problem.reach)
        yield "the longest round trip", replace(problem, reach=everywhere, reach_lost=everywhere)


def _with(problem: Problem, place: int, change: Callable[..., object]) -> Problem:
    regions = list(problem.regions)
    regions[place] = change(regions[place])  # type: ignore[call-overload]
    return replace(problem, regions=tuple(regions))


def _freed(problem: Problem) -> Problem:
    everywhere = tuple(tuple(True for _ in row) for row in problem.reach)
    free = tuple(
        replace(region, power_cap_w=inf, share_max=1.0, accelerators_max=inf) for region in problem.regions
    )
    return replace(
        problem,
        regions=free,
        available={},
        survives_region=False,
        one_kind=False,
        reach=everywhere,
        reach_lost=everywhere,
    )


def _takes(problem: Problem, found: Found) -> str:
    """The accelerators and the feeder power of a plan."""
    counts: dict[str, int] = {}
    for (_, name), servers in found.servers.items():
        counts[name] = counts.get(name, 0) + servers * problem.servers[name].accelerators
    places = []
    for place, region in enumerate(problem.regions):
        watts = sum(problem.servers[n].base_w * count for (r, n), count in found.servers.items() if r == place)
        watts += sum(problem.kinds[k].full_w * count for (r, k), count in found.replicas.items() if r == place)
        if watts:
            places.append(f"{watts * region.pue / 1e6:.3g} MW in {region.name}")
    taken = ", ".join(f"{count:,} x {name}" for name, count in counts.items())
    return f"the best plan takes {taken}" + (f" ({', '.join(places)})" if places else "")
