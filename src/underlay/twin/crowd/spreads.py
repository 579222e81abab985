"""How is one quantity spread: tokens, seconds of thought, turns of a conversation?

Every spread says its mean and draws by the thousand. ``low`` and ``high`` cut what is drawn, and move the mean.
"""

from __future__ import annotations

from math import inf, log, sqrt

import numpy as np
import numpy.typing as npt

from .section import Section, demand

Floats = npt.NDArray[np.float64]


class Fixed(Section, frozen=True):
    """Always the same."""

    value: float

    def __post_init__(self) -> None:
        demand(0 <= self.value < inf, "value must be a number from 0.")

    def draw(self, count: int, dice: np.random.Generator) -> Floats:  # noqa: ARG002 -- as the others
        """So many of them."""
        return np.full(count, self.value)


class _Free(Section, frozen=True):
    """Has a mean, and may be cut."""

    mean: float
    low: float = 0.0
    high: float = inf

    def __post_init__(self) -> None:
        demand(0 < self.mean < inf, "mean must be above 0.")
        demand(0 <= self.low <= self.high, "low must be from 0 up to high.")

    def _cut(self, drawn: Floats) -> Floats:
        if self.low > 0 or self.high < inf:
            np.clip(drawn, self.low, self.high, out=drawn)
        return drawn


class _FreeWithCV(_Free, frozen=True):
    """Has a coefficient of variation (standard deviation over mean, before any cut) too."""

    cv: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(0 < self.cv < inf, "cv must be above 0.")


class Exponential(_Free, frozen=True):
    """Without memory: whoever waited for some time has as long to go as at the beginning."""

    def draw(self, count: int, dice: np.random.Generator) -> Floats:
        """So many of them."""
        return self._cut(dice.standard_exponential(count) * self.mean)


class Geometric(_Free, frozen=True):
    """Whole numbers from 1, without memory: after each there is another with the same chance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(self.mean >= 1, "mean must be at least 1: the smallest number is.")

    def draw(self, count: int, dice: np.random.Generator) -> Floats:
        """So many of them."""
        return self._cut(dice.geometric(1.0 / self.mean, count).astype(np.float64))


class Lognormal(_FreeWithCV, frozen=True):
    """The logarithm is normal: of variance ln(1 + cv²), and its mean is ln(mean) less half of that."""

    def draw(self, count: int, dice: np.random.Generator) -> Floats:
        """So many of them."""
        variance = log(1.0 + self.cv * self.cv)
        return self._cut(dice.lognormal(log(self.mean) - variance / 2.0, sqrt(variance), count))


class Gamma(_FreeWithCV, frozen=True):
    """Gamma of shape 1 / cv²."""

    def draw(self, count: int, dice: np.random.Generator) -> Floats:
        """So many of them."""
        shape = 1.0 / (self.cv * self.cv)
        return self._cut(dice.standard_gamma(shape, count) * (self.mean / shape))


class Quantiles(Section, frozen=True):
    """A table: ``values[i]`` is what the share ``shares[i]`` stays below; straight between, level outside."""

    shares: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        demand(len(self.shares) == len(self.values) > 0, "There must be as many values as shares, at least one.")
        demand(all(0 <= share <= 1 for share in self.shares), "shares lie between 0 and 1.")
        demand(list(self.shares) == sorted(set(self.shares)), "shares must rise.")
        demand(list(self.values) == sorted(self.values) and self.values[0] >= 0, "values must not fall, from 0.")

    def draw(self, count: int, dice: np.random.Generator) -> Floats:
        """So many of them."""
        return np.interp(dice.random(count), self.shares, self.values)


Spread = Fixed | Exponential | Geometric | Lognormal | Gamma | Quantiles


def whole(drawn: Floats) -> npt.NDArray[np.int64]:
    """As whole numbers from 1: tokens and turns are such."""
    return np.maximum(np.rint(drawn), 1.0).astype(np.int64)
