"""When do calls come? A process of gaps, and a rate that may change over time.

Gaps are drawn with mean 1, as if one call came each second, and their sums are turned into seconds through the
integral of the rate (time rescaling). So every process keeps its burstiness at every rate, and a Poisson process
with a changing rate is exactly that. Thinning was rejected: it makes gaps of any other process more random.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gamma, inf

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from . import rates
from .rates import Diurnal, Pieces, Shape
from .section import Section, demand

Floats = npt.NDArray[np.float64]

_FIRST_CHUNK, _CHUNK = 64, 4096
_WINDOW_S = 6 * 3600.0


class Poisson(Section, frozen=True):
    """Callers who know nothing of each other."""

    def gaps(self, count: int, dice: np.random.Generator) -> Floats:
        """So many gaps with mean 1."""
        return dice.standard_exponential(count)

    def first(self, dice: np.random.Generator) -> float:
        """What is left of the gap that is under way when one begins to look: else bursts come too early."""
        return float(dice.standard_exponential())


class GammaGaps(Section, frozen=True):
    """Bursts: gaps are Gamma with this coefficient of variation (BurstGPT and vLLM's load tests use it)."""

    cv: float

    def __post_init__(self) -> None:
        demand(0 < self.cv < inf, "cv must be above 0; without any variation the process is 'even'.")

    def gaps(self, count: int, dice: np.random.Generator) -> Floats:
        """So many gaps with mean 1."""
        shape = self.cv**-2
        return dice.standard_gamma(shape, count) / shape

    def first(self, dice: np.random.Generator) -> float:
        """What is left of the gap under way: long ones are met more often, at any point of theirs."""
        shape = self.cv**-2
        return float(dice.standard_gamma(shape + 1.0) / shape * dice.random())


class WeibullGaps(Section, frozen=True):
    """Bursts with a heavier tail: gaps are Weibull of this shape; below 1 it bursts, 1 is Poisson (ServeGen)."""

    shape: float

    def __post_init__(self) -> None:
        demand(0.1 <= self.shape < inf, "shape must be at least 0.1 (a coefficient of variation of 429).")

    def gaps(self, count: int, dice: np.random.Generator) -> Floats:
        """So many gaps with mean 1."""
        return dice.weibull(self.shape, count) / gamma(1.0 + 1.0 / self.shape)

    def first(self, dice: np.random.Generator) -> float:
        """What is left of the gap under way: its power of the shape, met in proportion to its length, is Gamma."""
        inverse = 1.0 / self.shape
        met = float(dice.standard_gamma(1.0 + inverse) ** inverse)
        return met / gamma(1.0 + inverse) * float(dice.random())


class Even(Section, frozen=True):
    """One after the other, like a clock."""

    def gaps(self, count: int, dice: np.random.Generator) -> Floats:  # noqa: ARG002 -- as the others
        """So many gaps of 1."""
        return np.ones(count)

    def first(self, dice: np.random.Generator) -> float:  # noqa: ARG002 -- as the others
        """Half a gap."""
        return 0.5


Process = Poisson | GammaGaps | WeibullGaps | Even


class Arrivals(Section, frozen=True):
    """Calls at ``rate_per_s``, times all shapes ``over_time``, between ``start_s`` and ``stop_s`` of the run."""

    rate_per_s: float
    process: Process = Poisson()
    over_time: tuple[Shape, ...] = ()
    start_s: float = 0.0
    stop_s: float = inf

    def __post_init__(self) -> None:
        demand(0 <= self.rate_per_s < inf, "rate_per_s must be a number from 0.")
        demand(0 <= self.start_s <= self.stop_s, "start_s must be from 0 up to stop_s.")

    def times(self, dice: np.random.Generator) -> Iterator[Floats]:
        """The times, in order, some thousands at once; for ever, if nothing ends them."""
        clock = _Clock(self)
        chunk = _FIRST_CHUNK
        counted = self.process.first(dice)
        while not clock.over:
            sums = np.cumsum(self.process.gaps(chunk, dice))
            sums += counted
            # The first chunk begins with what was left of a gap; each other with the gap after the last.
            times = clock.times(np.concatenate(([counted], sums[:-1])))
            counted = float(sums[-1])
            if len(times):
                yield times
            chunk = min(2 * chunk, _CHUNK)

    def rate_at(self, at: float) -> float:
        """Calls a second at that time."""
        if not self.start_s <= at < self.stop_s:
            return 0.0
        return self.rate_per_s * rates.factor_at(self.over_time, at)

    def part(self, share: float, utc_offset_h: float) -> Arrivals:
        """That share of them, from where clocks are so many hours further."""
        shapes = tuple(
            replace(shape, utc_offset_h=shape.utc_offset_h + utc_offset_h) if isinstance(shape, Diurnal) else shape
            for shape in self.over_time
        )
        return replace(self, rate_per_s=self.rate_per_s * share, over_time=shapes)


class _Clock:
    """Turns counts of calls into the seconds by which that many are to be expected."""

    __slots__ = ("_arrivals", "_pieces", "_sums", "_upto_s", "over")

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._upto_s = arrivals.start_s
        self._pieces = _level(0.0, 0.0, arrivals)
        self._sums = np.zeros(1)
        self.over = arrivals.rate_per_s == 0 or not self._go_on()

    def times(self, counts: Floats) -> Floats:
        """The seconds of these counts, which rise from call to call; fewer, or none, once it is ``over``."""
        found = []
        while len(counts) and not self.over:
            here = int(np.searchsorted(counts, self._sums[-1]))
            if here:
                found.append(self._within(counts[:here]))
            counts = counts[here:]
            if len(counts):
                self.over = not self._go_on()
        return np.concatenate(found) if found else np.empty(0)

    def _within(self, counts: Floats) -> Floats:
        """Solve for the time in the pieces at hand: expected calls are a parabola in each."""
        pieces, rate_per_s = self._pieces, self._arrivals.rate_per_s
        index = np.minimum(np.searchsorted(self._sums, counts, side="right") - 1, len(pieces.first) - 1)
        left = (counts - self._sums[index]) / rate_per_s
        first = pieces.first[index]
        slope = (pieces.last[index] - first) / pieces.span_s[index]
        # The root in the form that loses nothing where the slope is small.
        bottom = first + np.sqrt(np.maximum(first * first + 2.0 * slope * left, 0.0))
        since = np.divide(2.0 * left, bottom, out=np.zeros_like(left), where=bottom > 0)
        return np.asarray(pieces.start_s[index] + np.minimum(since, pieces.span_s[index]))

    def _go_on(self) -> bool:
        """Look at the next stretch of time; false if there is none in which anybody comes."""
        arrivals, begin = self._arrivals, self._upto_s
        settled = begin >= rates.settles_at(arrivals.over_time)
        if begin >= arrivals.stop_s or (settled and rates.ends_at_nothing(arrivals.over_time)):
            return False
        for_ever = settled and not any(isinstance(shape, Diurnal) for shape in arrivals.over_time)
        end = min(arrivals.stop_s, inf if for_ever else begin + _WINDOW_S)
        self._pieces = _level(begin, end, arrivals) if for_ever else rates.pieces(arrivals.over_time, begin, end)
        expected = self._pieces.span_s * (self._pieces.first + self._pieces.last) * (arrivals.rate_per_s / 2.0)
        self._sums = self._sums[-1] + np.concatenate(([0.0], np.cumsum(expected)))
        self._upto_s = end
        return True


def _level(begin_s: float, end_s: float, arrivals: Arrivals) -> Pieces:
    """One piece: nothing changes any more."""
    level = np.array([rates.factor_at(arrivals.over_time, begin_s)])
    return Pieces(np.array([begin_s]), np.array([end_s - begin_s]), level, level)
