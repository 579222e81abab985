"""What load does one replica carry within the promise? The modelled engine is run at rates until that is known.

Each run lets calls come (Gamma gaps, Poisson where nothing bursts), leaves out those of the warm-up and those at
the end, which meet an emptying replica, and counts who had both TTFT and TPOT. The rate is found by halving, with
the same dice at every rate, so that more load is never luckier. A replica that gets every n-th part of a bursty
load by lot sees less of its bursts: of a CV c it sees 1 + (c² - 1)/n, squared.

What its accelerators draw comes from the same runs, at parts of that rate. Refused here: regions, prices, fleets.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from underlay.physics.power import PowerCurve
from underlay.physics.step_time import StepCoefficients
from underlay.twin.engine import ModelledEngine, PagedRules, Request
from underlay.twin.plan.demand import Demand

_CALLS = 2_000
#: A rate is known when it is within that much.
_TOLERANCE = 0.015
#: A queue that holds so much of all calls at the end is one that grows.
_BACKLOG = 0.05
#: The parts of the highest rate at which power is looked at.
LOADS = (0.25, 0.5, 0.75, 1.0)


class Seen(NamedTuple):
    """One run: the share of calls within the promise, percentiles, the time computing, accelerators' watts."""

    rate_per_s: float
    attainment: float
    ttft_p50_s: float
    ttft_p99_s: float
    tpot_p50_s: float
    tpot_p99_s: float
    busy_share: float
    power_w: float
    stable: bool


class Target(NamedTuple):
    """A promise as one replica must keep it: the way to the caller is taken off."""

    ttft_s: float
    tpot_s: float
    attainment: float

    def kept(self, seen: Seen) -> bool:
        """Whether a run kept it, and no queue grew."""
        return seen.stable and seen.attainment >= self.attainment


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """One kind of replica under one load. ``sequences`` is about how many are under way at once."""

    times: StepCoefficients
    rules: PagedRules
    curve: PowerCurve
    demand: Demand
    target: Target
    sequences: int
    seed: int = 0

    def run(self, rate_per_s: float, *, cv: float | None = None, calls: int = _CALLS) -> Seen:
        """Let calls come at a rate; ``cv`` is the whole load's (none: the demand's)."""
        count = max(calls, 10 * self.sequences)
        at, requests = self._calls(rate_per_s, self.demand.cv if cv is None else cv, count)
        first, last = max(count // 5, 2 * self.sequences), count - max(count // 50, self.sequences)
        used = _Used(self.curve, float(at[first]), float(at[last - 1]))
        engine = ModelledEngine(self.rules, self.times, used)
        for moment, request in zip(at.tolist(), requests, strict=True):
            engine.arrive(moment, request)
        waiting = engine.waiting_count
        engine.advance(inf)
        return self._seen(rate_per_s, requests[first:last], used, waiting <= max(8, _BACKLOG * count))

    def highest(self, guess_per_s: float, *, cv: float | None = None) -> Seen | None:
        """The highest rate at which the promise is kept, found from a guess; None if not even at a trickle."""
        kept, broken = None, inf
        rate = guess_per_s
        while kept is None or broken / kept.rate_per_s > 1.0 + _TOLERANCE:
            seen = self.run(rate, cv=cv)
            if self.target.kept(seen):
                kept = seen
            else:
                broken = rate
            if kept is None:
                rate = broken / 1.6
                if rate < guess_per_s / 200:
                    return None
            else:
                rate = kept.rate_per_s * 1.25 if broken == inf else sqrt(kept.rate_per_s * broken)
        return kept

    def _calls(self, rate_per_s: float, cv: float, count: int) -> tuple[npt.NDArray[np.float64], list[Request]]:
        """When who comes: the same dice at every rate."""
        for_gaps, for_lengths = (np.random.default_rng([self.seed, part]) for part in (1, 2))
        part = min(1.0, rate_per_s / self.demand.peak_per_s)
        squared = max(1e-3, 1.0 + (cv * cv - 1.0) * part)
        shape = 1.0 / squared
        gaps = for_gaps.standard_gamma(shape, count) / shape  # of shape 1: exponential, so Poisson
        chosen = for_lengths.integers(0, len(self.demand.prompt_tokens), count)
        prompts = self.demand.prompt_tokens[chosen].tolist()
        outputs = self.demand.output_tokens[chosen].tolist()
        requests = [Request(None, prompt, output) for prompt, output in zip(prompts, outputs, strict=True)]
        return np.cumsum(gaps) / rate_per_s, requests

    def _seen(self, rate_per_s: float, counted: list[Request], used: _Used, stable: bool) -> Seen:
        ttft_s = np.array([_since(request.first_token_at, request.arrived_at) for request in counted])
        decode_s = np.array([_since(request.finished_at, request.first_token_at) for request in counted])
        tokens = np.array([request.produced for request in counted], dtype=float)
        tpot_s = np.divide(decode_s, tokens - 1, out=np.zeros_like(decode_s), where=tokens > 1)
        good = (ttft_s <= self.target.ttft_s) & (tpot_s <= self.target.tpot_s)
        ttft = np.percentile(ttft_s, [50, 99])
        tpot = np.percentile(tpot_s, [50, 99])
        return Seen(
            rate_per_s,
            float(good.mean()),
            float(ttft[0]),
            float(ttft[1]),
            float(tpot[0]),
            float(tpot[1]),
            used.busy_share,
            used.power_w,
            stable,
        )


class _Used:
    """What the accelerators drew between two times, from what an engine tells of its steps."""

    __slots__ = ("_begin_s", "_busy_s", "_curve", "_end_s", "_joules")

    def __init__(self, curve: PowerCurve, begin_s: float, end_s: float) -> None:
        self._curve = curve
        self._begin_s, self._end_s = begin_s, end_s
        self._busy_s = self._joules = 0.0

    def __call__(
        self, begun_s: float, steps: int, first_s: float, growth_s: float, sequences: int, prefill_tokens: int
    ) -> float:
        """Steps are over; of those that reach over an end the part within counts."""
        took_s = steps * (first_s + growth_s * 0.5 * (steps - 1))
        within_s = min(begun_s + took_s, self._end_s) - max(begun_s, self._begin_s)
        if within_s <= 0.0:
            return 0.0
        joules = self._curve.stretch_joules(steps, within_s, sequences, prefill_tokens)
        self._busy_s += within_s
        self._joules += joules
        return joules

    @property
    def busy_share(self) -> float:
        """The part of the time that was spent computing."""
        return self._busy_s / (self._end_s - self._begin_s)

    @property
    def power_w(self) -> float:
        """Mean watts, idle times included."""
        span_s = self._end_s - self._begin_s
        return (self._joules + self._curve.idle_w * (span_s - self._busy_s)) / span_s


def _since(end: float | None, begin: float | None) -> float:
    """Seconds; one that never came to it is infinitely late."""
    return inf if end is None or begin is None else end - begin
