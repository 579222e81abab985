"""How many requests a second does the whole twin simulate on one core, the desk in the loop?

Callers, desk, replicas, energy and records are those of ``underlay twin run``; the policy is the default one.
Callers come at random (Poisson), with the lengths of Azure's conversations of 2023, at two thirds of what the
replicas can do. What is timed is processor time between two moments of the simulated time, when the platform is
full already: neither what setting up the world takes, nor the first requests that find it empty.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any, NamedTuple

from harness import Figures, median

from twin.engine import loop_ns
from underlay.twin import simulation
from underlay.twin.scenario import Scenario

#: Llama 3.1 8B on one H100 computes some 24 of these requests a second, 405B in FP8 on eight some 3.
SMALL = {"model": "llama-3.1-8b"}
LARGE = {"model": "llama-3.1-405b", "precision": "fp8", "parallelism": "tp8"}
SMALL_RATE, LARGE_RATE = 16.0, 2.0
ROUNDS = 5
SEED = 1


class Speed(NamedTuple):
    """Requests a second of processor time, in each round; requests in all, and seconds to set the world up."""

    rounds: list[float]
    requests: int
    setup_s: float

    @property
    def per_s(self) -> float:
        """The median round."""
        return median(self.rounds)


def desk(figures: Figures) -> None:
    """Two sizes of platform, then how the cost of a request grows to 100,000 accelerators."""
    ns = loop_ns()
    figures.add("calibration: one step of a fixed loop", ns, "ns", how="x = (x * 31 + i) & 0xFFFF; median of 7")
    for replicas, duration_s, must, aim in ((16, 200.0, 30_000, 60_000), (1000, 14.0, 12_000, 30_000)):
        found = speed(scenario(replicas, SMALL, SMALL_RATE, duration_s), warm_s=4.0)
        how = (
            f"processor time, median of {ROUNDS} rounds, {found.requests:,} requests, {SMALL_RATE:g} a second for "
            f"each replica; not timed: {found.setup_s:.1f} s of setting up; {1e9 / found.per_s / ns:.0f} steps of "
            "the loop for a request"
        )
        figures.add(f"desk: requests, {replicas:,} replicas", found.per_s, "/s", at_least=must, aim=aim, how=how)
    growth(figures)


def growth(figures: Figures) -> None:
    """The same load for each of 100 and of 12,500 replicas of eight accelerators."""
    few = scenario(100, LARGE, LARGE_RATE, 120.0)
    before = speed(few, warm_s=10.0)
    many = speed(scenario(12_500, LARGE, LARGE_RATE, 16.0), warm_s=10.0)
    after = speed(few, warm_s=10.0)
    few_per_s = median(before.rounds + after.rounds)
    how = f"{before.requests + after.requests:,} requests in two runs, before and after the large one"
    figures.add("desk: requests, 100 replicas of 8 accelerators", few_per_s, "/s", how=how)
    how = f"{many.requests:,} requests; not timed: {many.setup_s:.0f} s of setting up, 10 s of simulated time"
    figures.add("desk: requests, 12,500 replicas of 8 accelerators", many.per_s, "/s", how=how)
    name = "desk: cost of a request, 12,500 replicas over 100"
    figures.add(
        name, few_per_s / many.per_s, "times", at_most=3.0, how="Llama 3.1 405B, FP8, two a second for each"
    )


def scenario(replicas: int, model: dict[str, str], rate: float, duration_s: float, **more: Any) -> Scenario:
    """One region with so many replicas, and ``rate`` requests a second for each of them."""
    return Scenario.model_validate(
        {
            "name": f"{replicas} replicas",
            "duration": duration_s,
            "models": [{"name": "chat", "replicas": replicas, "context_tokens": 16_384, **model}],
            "crowds": [{"arrivals": {"rate_per_s": rate * replicas}, "lengths": "azure-2023-conv"}],
            **more,
        }
    )


def speed(asked: Scenario, warm_s: float) -> Speed:
    """Run it once; rounds are equal parts of the simulated time from ``warm_s`` to the end of the arrivals."""
    edges = [warm_s + (asked.duration - warm_s) * number / ROUNDS for number in range(ROUNDS + 1)]
    marks: list[tuple[float, int]] = []

    def progress(simulated_s: float, _duration_s: float, requests: int) -> None:
        if not first:
            first.append(time.process_time())
        if len(marks) <= ROUNDS and simulated_s >= edges[len(marks)]:
            marks.append((time.process_time(), requests))

    first: list[float] = []
    began_s = time.process_time()
    result = simulation.run(asked, SEED, progress=progress)
    rounds = [
        (requests - before) / (until_s - since_s) for (since_s, before), (until_s, requests) in pairwise(marks)
    ]
    assert len(rounds) == ROUNDS
    return Speed(rounds, len(result.requests), first[0] - began_s)
