"""A straight line through what was measured, the latest most: learnt online, with fading memory.

Least squares over sums that fade (recursive, no window to keep). Where all measurements have about the same x, a
line through them says nothing about other x; then it goes through the origin, or keeps the slope it was made with
(unless that alone is too much), as its maker says. It refuses to know what is measured.
"""

from __future__ import annotations

#: How much a measurement weighs after the next one: some fifty count.
_FADE = 0.98
#: Spread of x, as a share of its square, below which all count as alike.
_ALIKE = 0.01


class FadingLine:
    """``y = base + slope * x``, neither ever negative. ``count`` is how many measurements weigh in."""

    __slots__ = ("_prior", "_x", "_xx", "_xy", "_y", "base", "count", "slope")

    def __init__(self, base: float, slope: float, *, keep_slope: bool = False) -> None:
        self.base = base
        self.slope = slope
        self._prior = slope if keep_slope else None
        self.count = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, x: float, y: float) -> None:
        """Learn from one measurement."""
        self.count = n = self.count * _FADE + 1.0
        self._x = sum_x = self._x * _FADE + x
        self._y = sum_y = self._y * _FADE + y
        self._xx = sum_xx = self._xx * _FADE + x * x
        self._xy = sum_xy = self._xy * _FADE + x * y
        spread = n * sum_xx - sum_x * sum_x
        if spread > _ALIKE * sum_x * sum_x:
            slope = (n * sum_xy - sum_x * sum_y) / spread
            slope = max(0.0, slope)  # below is noise: y does not depend on x
        elif self._prior is not None:
            slope = self._prior
        else:
            slope = sum_y / sum_x if sum_x > 0.0 else self.slope
        base = (sum_y - slope * sum_x) / n
        if base < 0.0:  # then the best line that is never negative is the one through the origin
            base, slope = 0.0, sum_xy / sum_xx
        self.base, self.slope = base, slope

    def at(self, x: float) -> float:
        """What is to be expected at ``x``."""
        return self.base + self.slope * x
