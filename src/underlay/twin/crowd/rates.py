"""How does a rate change over time? Shapes: factors around 1 that are multiplied with each other and with a rate.

Between its knots a rate is taken as straight. Knots lie wherever a shape bends or jumps and at most a minute
apart, so that of a day's cosine less than three millionths is lost; everything made from it is exact.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import ceil, cos, inf, pi, prod
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .section import Section, demand

Floats = npt.NDArray[np.float64]

_KNOT_S = 60.0
_TURN = 2.0 * pi / 86400.0
#: Pieces of every stretch between bends, for each shape that may change beside the first: a product of two straight
#: lines is a parabola, and chords over a sixteenth of it miss a thousandth of its rise at most; one more line bends
#: it up to three times as much.
_PIECES = 16


class _Bent(Section, frozen=True):
    """A shape made of straight lines."""

    def points(self) -> tuple[tuple[float, float], ...]:
        """Where it bends: seconds and factors; two at the same time are a jump. Level before and after."""
        raise NotImplementedError

    def value_at(self, at: float) -> float:
        """The factor at one time; at a jump the one after it."""
        points = self.points()
        index = bisect_right(points, at, key=itemgetter(0))
        if index in {0, len(points)}:
            return points[min(index, len(points) - 1)][1]
        (begin, first), (end, last) = points[index - 1 : index + 1]
        return first + (at - begin) / (end - begin) * (last - first)

    def values_at(self, at: Floats, before: bool = False) -> Floats:
        """The factors at these times; at a jump the one after it, or the one ``before``."""
        seconds, values = np.array(self.points()).T
        index = np.searchsorted(seconds, at, side="left" if before else "right")
        low, high = np.maximum(index - 1, 0), np.minimum(index, len(seconds) - 1)
        span = seconds[high] - seconds[low]
        share = np.divide(at - seconds[low], span, out=np.zeros_like(at), where=span > 0)
        return np.asarray(values[low] + share * (values[high] - values[low]))


class Ramp(_Bent, frozen=True):
    """From ``begin`` to ``end`` times the rate, in ``for_s`` seconds from ``at_s`` on."""

    end: float
    at_s: float
    for_s: float
    begin: float = 1.0

    def __post_init__(self) -> None:
        demand(min(self.end, self.begin) >= 0, "factors must not be below 0.")
        demand(self.for_s >= 0, "for_s must not be below 0.")

    def points(self) -> tuple[tuple[float, float], ...]:
        """Where it bends."""
        return (self.at_s, self.begin), (self.at_s + self.for_s, self.end)


class Steps(_Bent, frozen=True):
    """From each of these seconds on that many times the rate; 1 before the first."""

    steps: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        demand(bool(self.steps), "There must be a step at least.")
        demand(all(factor >= 0 for _, factor in self.steps), "factors must not be below 0.")
        seconds = [at for at, _ in self.steps]
        demand(seconds == sorted(set(seconds)), "The seconds of steps must rise.")

    def points(self) -> tuple[tuple[float, float], ...]:
        """Where it jumps."""
        before = (1.0, *(factor for _, factor in self.steps))
        return tuple(
            point
            for (at, factor), last in zip(self.steps, before, strict=False)
            for point in ((at, last), (at, factor))
        )


class Surge(_Bent, frozen=True):
    """``factor`` times the rate for some time.

    It begins to rise at ``at_s``, is full ``rise_s`` later, begins to fall ``for_s`` after its beginning and is
    over ``fall_s`` after that.
    """

    factor: float
    at_s: float
    for_s: float
    rise_s: float = 0.0
    fall_s: float = 0.0

    def __post_init__(self) -> None:
        demand(self.factor >= 0, "factor must not be below 0.")
        demand(0 <= self.rise_s <= self.for_s, "rise_s must be from 0 up to for_s.")
        demand(self.fall_s >= 0, "fall_s must not be below 0.")

    def points(self) -> tuple[tuple[float, float], ...]:
        """Where it bends."""
        full, falls = self.at_s + self.rise_s, self.at_s + self.for_s
        return (self.at_s, 1.0), (full, self.factor), (falls, self.factor), (falls + self.fall_s, 1.0)


class Diurnal(Section, frozen=True):
    """Days and nights: a cosine over 24 hours, with mean 1 over a day, so that the rate is the day's mean.

    ``peak_hour`` is by the callers' clocks, which are ``utc_offset_h`` before UTC; ``begins_hour`` is what UTC's
    show at second 0. ``trough_share`` is the rate at night as a share of that at the peak.
    """

    peak_hour: float = 15.0
    trough_share: float = 0.3
    utc_offset_h: float = 0.0
    begins_hour: float = 0.0

    def __post_init__(self) -> None:
        demand(0 <= self.trough_share <= 1, "trough_share is a share: 0 to 1.")

    def values_at(self, at: Floats, before: bool = False) -> Floats:  # noqa: ARG002 -- it never jumps
        """The factors at these times."""
        return np.asarray(1.0 + self._swing() * np.cos((at + self._ahead_s()) * _TURN))

    def value_at(self, at: float) -> float:
        """The factor at one time."""
        return 1.0 + self._swing() * cos((at + self._ahead_s()) * _TURN)

    def _swing(self) -> float:
        return (1.0 - self.trough_share) / (1.0 + self.trough_share)

    def _ahead_s(self) -> float:
        return 3600.0 * (self.begins_hour + self.utc_offset_h - self.peak_hour)


Shape = Ramp | Steps | Surge | Diurnal


def factor_at(shapes: Sequence[Shape], at: float) -> float:
    """All shapes at one time, multiplied."""
    return prod(shape.value_at(at) for shape in shapes)


class Pieces(NamedTuple):
    """A stretch of time in straight pieces: where each begins, how long it is, the factors at its ends."""

    start_s: Floats
    span_s: Floats
    first: Floats
    last: Floats


def settles_at(shapes: Sequence[Shape]) -> float:
    """From when on nothing bends any more; -infinity if nothing ever does. Days go on for ever."""
    bends = [at for shape in shapes if isinstance(shape, _Bent) for at, _ in shape.points()]
    return max(bends, default=-inf)


def ends_at_nothing(shapes: Sequence[Shape]) -> bool:
    """Is nobody left once everything has settled?"""
    return any(isinstance(shape, _Bent) and shape.points()[-1][1] == 0 for shape in shapes)


def pieces(shapes: Sequence[Shape], start_s: float, stop_s: float) -> Pieces:
    """A stretch of time, cut where shapes bend and at least once a minute."""
    bends = {
        at for shape in shapes if isinstance(shape, _Bent) for at, _ in shape.points() if start_s < at < stop_s
    }
    marks = [start_s, *sorted(bends), stop_s]
    least = max(1, _PIECES * (len(shapes) - 1))
    cuts = [
        np.linspace(begin, end, max(least, ceil((end - begin) / _KNOT_S)), endpoint=False)
        for begin, end in pairwise(marks)
    ]
    starts = np.concatenate(cuts)
    ends = np.append(starts[1:], stop_s)
    first, last = np.ones_like(starts), np.ones_like(starts)
    for shape in shapes:
        first *= shape.values_at(starts)
        last *= shape.values_at(ends, before=True)
    return Pieces(starts, ends - starts, first, last)
