"""A run of flows: ticks from beginning to end, and what flowed where in each.

In a tick the world lets happen what is due, the door says where calls go, pools take what arrives, and who was
refused may come back in the next. Kept is, for each stream, try and tick: how many were taken, refused and failed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from underlay.twin.front_door import LOOK_S
from underlay.twin.records import Series
from underlay.twin.scenario import Scenario

from .demand import Floats
from .door import NOWHERE
from .pools import Pace, Pool
from .world import FlowWorld

#: Ticks are as long as the door looks away, or so much shorter that a run has this many.
_TICKS_MIN = 3600
_PARTS_MAX = 5
#: After the last call: until next to nobody is inside, or for so long.
_DRAIN_MAX_S = 600.0
_DRAINED = 0.5
#: How often it is asked whether to stop, in parts of the whole.
_ASKED = 400

Places = npt.NDArray[np.int64]


class Flows(NamedTuple):
    """What flowed. Axes: ticks, streams, and for calls tries; the last four: ticks and pools, of one replica."""

    tick_s: float
    taken: Floats
    refused: Floats
    failed: Floats
    to: Places
    inside: Floats
    felt: Floats
    line: Floats
    ended_per_s: Floats


class Paces(NamedTuple):
    """From a tick on: how many ready replicas of a pool are how slow."""

    tick: int
    paces: dict[Pace, int]


def tick_of(duration_s: float) -> float:
    """How long a tick is: a whole part of the time that the door looks away."""
    parts = min(_PARTS_MAX, max(1, ceil(LOOK_S * _TICKS_MIN / duration_s)))
    return LOOK_S / parts


class Run:
    """One run. ``go`` lets it happen."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        duration_s = scenario.duration
        self.scenario = scenario
        self.tick_s = tick_s = tick_of(duration_s)
        self.ticks = ceil(duration_s / tick_s - 1e-9)
        self.drain_ticks = ceil(_DRAIN_MAX_S / tick_s)
        begins_s: Floats = np.arange(self.ticks, dtype=np.float64) * tick_s
        self.world = world = FlowWorld(scenario, seed, np.asarray(begins_s + 0.5 * tick_s))
        lasts_s = np.minimum(tick_s, duration_s - begins_s)
        self.calls = world.rates_per_s * lasts_s[:, None]
        self.pools = list(world.pools.values())
        self.places = {key: place for place, key in enumerate(world.pools)}
        streams = world.demand.streams
        self.tries = [world.demand.kinds[stream.kind].tries for stream in streams]
        self._fails = [_tries_after(world, stream.kind, "failed") for stream in streams]
        shape = (self.ticks + self.drain_ticks, len(streams), max([*self.tries, *self._fails]))
        self.taken, self.refused, self.failed = (np.zeros(shape) for _ in range(3))
        self.to = np.full(shape[:2], NOWHERE, dtype=np.int64)
        self.inside, self.felt, self.line, self.ended_per_s = (
            np.zeros((shape[0], len(self.pools))) for _ in range(4)
        )
        self.paces: list[list[Paces]] = [[] for _ in self.pools]
        self.series = Series()
        self.ended = 0.0
        self.done_ticks = 0
        self.partial = False
        self.ways_s: list[list[float]] = []
        self._busy_s = dict.fromkeys((region.name for region in world.regions), 0.0)
        self._sampled_at = 0.0
        self._base = np.array([pool.surface.refused_share for pool in self.pools])

    def go(self, progress: Callable[[float, float, int], None], stop: Callable[[], bool]) -> None:
        """Run to the end, and on until everybody has been answered."""
        duration_s, kernel = self.scenario.duration, self.world.kernel
        look_ticks = round(LOOK_S / self.tick_s)
        again = np.zeros(self.taken.shape[1:])
        ask_ticks = max(1, self.ticks // _ASKED)
        every_ticks = max(1, round(self.scenario.report.sample / self.tick_s))
        kernel.run(0.0)
        for tick in range(self.ticks + self.drain_ticks):
            if tick % look_ticks == 0:
                self.world.door.look(kernel.at)
            if not tick:
                self.ways_s = [list(ways_s) for ways_s in self.world.door.way_s]
            again = self._tick(tick, again)
            self.done_ticks = tick + 1
            kernel.run(min(self.done_ticks * self.tick_s, duration_s) if tick < self.ticks else self._end_s())
            if self.done_ticks % every_ticks == 0 and tick < self.ticks:
                self._sample()
            if tick % ask_ticks == 0:
                progress(min(kernel.at, duration_s), duration_s, int(self.ended))
                if stop():
                    self.partial = self.done_ticks < self.ticks
                    break
            if tick >= self.ticks - 1 and self._is_empty() and not again.any():
                break
        self._sample()
        progress(min(kernel.at, duration_s), duration_s, int(self.ended))

    def flows(self) -> Flows:
        """What flowed."""
        upto = slice(0, self.done_ticks)
        return Flows(
            self.tick_s,
            self.taken[upto],
            self.refused[upto],
            self.failed[upto],
            self.to[upto],
            self.inside[upto],
            self.felt[upto],
            self.line[upto],
            self.ended_per_s[upto],
        )

    def _end_s(self) -> float:
        return self.scenario.duration + (self.done_ticks - self.ticks) * self.tick_s

    def _is_empty(self) -> bool:
        return sum(pool.inside for pool in self.pools) < _DRAINED

    def _tick(self, tick: int, again: Floats) -> Floats:
        """Let a tick's calls arrive; returns who comes again in the next one."""
        world, streams = self.world, self.world.demand.streams
        calls = again
        if tick < self.ticks:
            calls[:, 0] += self.calls[tick]
        chosen = world.door.chosen
        to = [
            NOWHERE if (region := chosen[stream.origin][stream.model]) == NOWHERE
            else self.places.get((region, stream.model), NOWHERE)
            for stream in streams
        ]  # fmt: skip
        self.to[tick] = to
        arrived = calls.sum(axis=1).tolist()
        totals = [0.0] * len(self.pools)
        for place, count in zip(to, arrived, strict=True):
            if place != NOWHERE:
                totals[place] += count
        shares = [self._serve(tick, place, pool, totals[place]) for place, pool in enumerate(self.pools)]
        following = np.zeros_like(calls)
        for number, place in enumerate(to):
            refused_share, failed_share = shares[place] if place != NOWHERE else (0.0, 1.0)
            self._share_out(tick, number, calls[number], refused_share, failed_share, following[number])
        return following if tick < self.ticks else following * 0.0

    def _serve(self, tick: int, place: int, pool: Pool, arrived: float) -> tuple[float, float]:
        """Let calls arrive in a pool; which parts of them are refused, and fail."""
        region = self.world.regions[pool.region]
        if not self.paces[place] or self.paces[place][-1].paces != pool.paces:
            self.paces[place].append(Paces(tick, dict(pool.paces)))
        before = pool.inside
        base = self._base[place]
        let_in = arrived * (1.0 - base) if region.up and pool.ready else 0.0
        refused = pool.step(let_in, self.tick_s)
        if not pool.ready:
            pool.lose_all()
        self.ended += before + let_in - refused - pool.inside
        self._busy_s[region.name] += pool.busy_share * pool.ready * self.tick_s
        ready = max(1, pool.ready)
        self.inside[tick, place], self.line[tick, place] = pool.running / ready, pool.line / ready
        self.ended_per_s[tick, place], self.felt[tick, place] = pool.ended_per_s, pool.felt
        if not let_in and arrived:
            return 0.0, 1.0
        return (base + (1.0 - base) * refused / let_in if let_in else 0.0), 0.0

    def _share_out(
        self, tick: int, stream: int, calls: Floats, refused_share: float, failed_share: float, following: Floats
    ) -> None:
        """Write down what became of a stream's calls; who may try again does."""
        refused, failed = refused_share * calls, failed_share * calls
        self.refused[tick, stream] = refused
        self.failed[tick, stream] = failed
        self.taken[tick, stream] = calls - refused - failed
        for lost, tries in ((refused, self.tries[stream]), (failed, self._fails[stream])):
            if tries > 1:
                following[1:tries] += lost[: tries - 1]

    def _sample(self) -> None:
        at = self.world.kernel.at
        if at <= self._sampled_at:
            return
        busy_share = {
            region.name: self._busy_s[region.name] / (max(1, len(region.replicas)) * (at - self._sampled_at))
            for region in self.world.regions
        }
        self._busy_s = dict.fromkeys(self._busy_s, 0.0)
        self._sampled_at = at
        self.series.add(at, self.world.sample(busy_share))


def _tries_after(world: FlowWorld, kind: int, outcome: str) -> int:
    patience = world.demand.kinds[kind].patience
    return patience.tries if patience and outcome in patience.retries_on else 1
