"""When did a pool leave what its surface was measured for? The reader is told, as figures of then are less sure.

A surface is of a load that stays. Two things leave it: a line that stands (a flow's line is served in order, and
its length is a mean), and a number inside that changes much within the time of one request.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from .flows import Flows, Run

#: How much the number inside may change within the time of one request, as a share of it.
_CHANGE_MAX = 0.5
#: A line is one that is longer than this part of those inside; with fewer inside a change is none.
_LINE_MIN, _INSIDE_MIN = 0.01, 0.5
#: Windows nearer than this, in ticks, are told as one; and no more than so many of a pool are told.
_NEAR_TICKS, _TOLD = 24, 4


def doubts(run: Run) -> list[str]:
    """What to distrust of a run of flows, and when."""
    flows = run.flows()
    found = [_measured(run)]
    running = np.arange(len(flows.inside)) < run.ticks  # that it empties in the end is no doubt
    for place, pool in enumerate(run.pools):
        surface = pool.surface
        lined = flows.line[:, place] > _LINE_MIN * surface.inside_max
        model = run.scenario.models[pool.model].name
        name = f"{model} in {run.world.regions[pool.region].name}"
        found += _told(flows, lined, f"{name} had more calls than it can serve")
        found += _told(
            flows, _changing(flows, place) & running & ~lined, f"the load of {name} changed within one request"
        )
    return found


def _measured(run: Run) -> str:
    surfaces = [surface for surface in run.world.surfaces.values() if not surface.idle]
    requests = sum(surface.requests for surface in surfaces)
    pools = sorted({surface.pooled.replicas for surface in surfaces})
    sizes = " or ".join(map(str, pools))
    return (
        f"Flows: latencies are drawn from {len(surfaces)} pools of {sizes} replicas under {requests:,} requests, "
        f"which the desk served at request level; rows stand for many requests each."
    )


def _changing(flows: Flows, place: int) -> np.ndarray:
    inside, rate = flows.inside[:, place], flows.ended_per_s[:, place]
    stays_s = np.divide(inside, rate, out=np.zeros(len(inside)), where=rate > 0.0)
    change = np.abs(np.diff(inside, prepend=inside[:1])) / flows.tick_s
    found = (inside > _INSIDE_MIN) & (change * stays_s > _CHANGE_MAX * np.maximum(inside, 1e-9))
    warm_ticks = int(np.ceil(2.0 * float(stays_s.max(initial=0.0)) / flows.tick_s))
    found[:warm_ticks] = False  # every run begins with nobody inside
    return np.asarray(found)


def _told(flows: Flows, ticks: np.ndarray, what: str) -> list[str]:
    """In words: from when to when."""
    marked = np.flatnonzero(ticks)
    if not len(marked):
        return []
    gaps = np.cumsum(np.diff(marked, prepend=marked[:1]) > _NEAR_TICKS)
    windows = [
        [tick for _, tick in group] for _, group in groupby(zip(gaps, marked, strict=True), key=lambda x: x[0])
    ]
    spans = [f"{flows.tick_s * part[0]:,.0f} to {flows.tick_s * (part[-1] + 1):,.0f} s" for part in windows]
    more = f" and {len(spans) - _TOLD} times more" if len(spans) > _TOLD else ""
    return [f"Flows are less sure where {what}: {', '.join(spans[:_TOLD])}{more}."]
