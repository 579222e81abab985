"""Does the twin see what the plan says? The planned peak, simulated request by request, beside the prediction.

What the plan leaves out is in it: the desk that routes, servers and their hosts one by one, the power chain,
cooling in the weather of a day in spring. Latencies are compared by pool, watts while the load was steady.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from underlay.twin import simulation
from underlay.twin.plan.planner import Plan
from underlay.twin.plan.scene import pool_name, region_name, scenario_of
from underlay.twin.records import RunResult
from underlay.twin.simulation import Progress, Stop
from underlay.twin.summary import Summary, summarise

#: The beginning of a run, before it is steady, that is left out of what it draws.
_WARM_UP = 0.2


class Compared(NamedTuple):
    """A figure of the plan beside the twin's. ``pool`` is empty for those of all of it."""

    pool: str
    name: str
    unit: str
    predicted: float
    simulated: float

    @property
    def off(self) -> float:
        """How far the prediction is from the simulation, relative to that."""
        return self.predicted / self.simulated - 1.0 if self.simulated else nan


class Verified(NamedTuple):
    """What a run of the plan showed; ``kept`` says whether the promise was, ``partial`` that it was cut short."""

    compared: tuple[Compared, ...]
    requests: int
    simulated_s: float
    kept: bool
    partial: bool
    trace_hash: str


def verify(plan: Plan, progress: Progress, stop: Stop) -> Verified:
    """Run the plan at its peak. Errors: ScenarioError."""
    result = simulation.run(scenario_of(plan), plan.question.seed, progress=progress, stop=stop)
    summary = summarise(result)
    attainment = summary.value("slo_attainment")
    compared = [*_pools(plan, summary), *_whole(plan, result, summary)]
    return Verified(
        tuple(compared),
        int(summary.value("requests")),
        result.simulated_s,
        attainment >= plan.question.slo.attainment,
        result.partial,
        result.trace_hash,
    )


def _pools(plan: Plan, summary: Summary) -> list[Compared]:
    groups = {group.name: group for group in summary.groups["model"]}
    compared = []
    for pool in plan.pools:
        name = pool_name(plan, pool)
        if name not in groups:
            continue
        seen, group = pool.seen, groups[name]
        way_s = pool.ttft_p99_s - seen.ttft_p99_s
        told = {
            "slo_attainment": ("share", seen.attainment),
            "ttft_p50": ("s", seen.ttft_p50_s + way_s),
            "ttft_p99": ("s", pool.ttft_p99_s),
            "tpot_p50": ("s", seen.tpot_p50_s),
            "tpot_p99": ("s", seen.tpot_p99_s),
        }
        compared += [Compared(name, what, *value, group.value(what)) for what, value in told.items()]
    return compared


def _whole(plan: Plan, result: RunResult, summary: Summary) -> list[Compared]:
    """Watts at the feeders of the plan's regions; money and carbon by the hour."""
    regions = {region_name(plan.places[pool.region].name) for pool in plan.pools}
    begin_s, end_s = _WARM_UP * result.duration_s, result.duration_s
    times = np.array(result.series.times_s)
    steady = (times >= begin_s) & (times <= end_s)
    feeder_w, it_w = 0.0, 0.0
    for name in regions:
        watts = _mean(result.series.values.get(f"{name}.power_w", []), steady)
        feeder_w += watts
        it_w += watts / _mean(result.series.values.get(f"{name}.pue", []), steady)
    said_it_w = sum(each.peak_w / place.pue.value for each, place in zip(plan.watts, plan.places, strict=True))
    compared = [
        Compared("", "it_w", "W", said_it_w, it_w),
        Compared("", "pue", "ratio", plan.total.peak_w / said_it_w, feeder_w / it_w),
        Compared("", "peak_w", "W", plan.total.peak_w, feeder_w),
    ]
    hours = result.simulated_s / 3600
    usd = sum(each.value for each in summary.accounts if each.name == "accelerators_cost" and each.place in regions)
    if usd:
        electricity = plan.total.electricity_usd_per_hour
        compared.append(
            Compared("", "accelerators_usd_per_hour", "USD/h", plan.total.usd_per_hour - electricity, usd / hours)
        )
    return compared


def _mean(column: Sequence[float], chosen: npt.NDArray[np.bool_]) -> float:
    """The mean of the samples chosen; not a number where there are none."""
    values = np.array(column)[chosen] if len(column) == len(chosen) else np.empty(0)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else nan
