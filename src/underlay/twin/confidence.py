"""How sure is a mean over seeds? Student's t, without a statistics library.

The distribution function is the finite series for whole degrees of freedom in Abramowitz and Stegun, *Handbook of
Mathematical Functions*, 26.7.3 (odd) and 26.7.4 (even); the quantile is found by halving.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import atan, cos, inf, isnan, nan, pi, sin, sqrt
from statistics import fmean, stdev
from typing import NamedTuple

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean over ``runs`` runs, right within ``half`` at ``LEVEL``; ``half`` is inf for one run."""

    mean: float
    half: float
    runs: int

    @property
    def low(self) -> float:
        """Its lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Its upper end."""
        return self.mean + self.half


def interval(values: Sequence[float]) -> Interval:
    """The mean of independent runs and its confidence interval; those that are nan do not count."""
    known = [value for value in values if not isnan(value)]
    if not known:
        return Interval(nan, inf, 0)
    if len(known) == 1:
        return Interval(known[0], inf, 1)
    half = t_quantile(LEVEL, len(known) - 1) * stdev(known) / sqrt(len(known))
    return Interval(fmean(known), half, len(known))


def two_sided(t: float, freedom: int) -> float:
    """The probability that Student's t with so many degrees of freedom lies within +- ``t``."""
    angle = atan(t / sqrt(freedom))
    factor = cos(angle) ** 2
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    total = 0.0
    for step in range(freedom // 2):
        total += term
        term *= factor * (2 * step + 2) / (2 * step + 3) if odd else factor * (2 * step + 1) / (2 * step + 2)
    return 2.0 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total


@cache
def t_quantile(level: float, freedom: int) -> float:
    """The ``t`` within which Student's t lies with probability ``level`` (between 0 and 1)."""
    if not 0.0 < level < 1.0 or freedom < 1:
        raise ValueError(f"No t for a level of {level} and {freedom} degrees of freedom.")
    low, high = 0.0, 1.0
    while two_sided(high, freedom) < level:
        high *= 2.0
    while (middle := 0.5 * (low + high)) not in {low, high}:
        low, high = (middle, high) if two_sided(middle, freedom) < level else (low, middle)
    return high
