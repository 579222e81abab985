"""Small questions and problems."""

from math import inf

from underlay.twin.plan.demand import of_rate, told_lengths
from underlay.twin.plan.problem import Kind, Problem, Region, Server
from underlay.twin.plan.question import Candidate, Question, Slo

LENGTHS = ((600.0, 0.5), (100.0, 0.5))


def demand(mean=40.0, peak=60.0, lengths=LENGTHS, **more):
    return of_rate(mean, peak, *told_lengths(*lengths, "sharegpt"), **more)


def question(regions=("azure/westus2",), **more):
    told = {
        "model": "llama-3.1-8b",
        "demand": demand(),
        "slo": Slo(1.0, 0.03, 0.98),
        "regions": tuple(each if isinstance(each, Candidate) else Candidate(each) for each in regions),
        "accelerators": ("h100-sxm",),
        "precisions": ("bf16",),
        "parallelisms": ("tp1",),
        "samples": 0,
    }
    return Question(**(told | more))


def problem(capacities=(3.0,), regions=2, clients=1, **more):
    kinds = tuple(
        Kind(f"k{number}", f"a{number}", 1, capacity, 0.0, 0.0) for number, capacity in enumerate(capacities)
    )
    told = {
        "regions": tuple(Region(f"r{number}", 1.0, 0.0) for number in range(regions)),
        "kinds": kinds,
        "servers": {kind.accelerator: Server(1, 0.0, 1.0) for kind in kinds},
        "peak_per_s": 10.0,
        "mean_per_s": 5.0,
        "shares": tuple(1 / clients for _ in range(clients)),
        "rtt_s": tuple(tuple(0.01 * (1 + abs(c - r)) for r in range(regions)) for c in range(clients)),
        "reach": tuple(tuple(True for _ in range(regions)) for _ in range(clients)),
        "reach_lost": tuple(tuple(True for _ in range(regions)) for _ in range(clients)),
    }
    return Problem(**(told | more))


def nobody_watches(what, done, of):
    assert 0 <= done <= of
    assert what


ENDLESS = inf
