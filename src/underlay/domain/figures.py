"""What is a figure, and what is known of a sum of figures?

A figure carries its unit, how it is known, by which meter, what lies inside its boundary, and by how much it may
be off to either side. A sum is known no better than the least known of its parts, and an uncertainty that nobody
knows makes that of the sum unknown: it is never taken for nothing.

How uncertainties add:

* **Parts of one meter add up straight.** Shares of one reading carry one error, all in the same direction. Adding
  squares was rejected: it holds for independent errors only and would make a hundred shares of one reading better
  known than the reading.
* **Different meters add in squares**: their quanta and noise know nothing of each other. What has no meter
  (models, assumptions) is systematic, as one model is wrong in one way everywhere: it is added straight, on top.
* **Windows of one counter telescope.** A counter that is refreshed every now and then is behind by at most one
  quantum Q, so a window is off by at most Q, and what it lacks the next one has. Over windows with shares s of the
  same counter the error is a sum of readings' errors e times (share before - share after) with 0 <= e <= Q: at
  most half of all that u = s·Q moved up and down, from 0 before to 0 after. For a constant share that is one
  window's uncertainty, however many there were. ``over_windows`` takes this bound.

Refused here: what is metered, where, and when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import hypot, isfinite
from typing import Literal, TypeVar

from msgspec import Struct

Method = Literal["measured", "calibrated", "modelled", "assumed"]

Known = TypeVar("Known", bound=str)

#: From the best founded to the least.
METHODS: tuple[str, ...] = ("measured", "calibrated", "modelled", "assumed")
_RANK = {method: rank for rank, method in enumerate(METHODS)}

JOULES_KWH = 3.6e6


class Figure(Struct, frozen=True, omit_defaults=True):
    """A value with what is known of it. ``uncertainty`` is to either side, in the same unit; None: nobody knows.

    ``meter`` is the id of the instrument, or of several, joined by ``+``; empty where none was read. ``source`` is
    who published what it was reckoned from, ``version`` which edition; empty where nobody but us said anything.
    """

    value: float
    unit: str
    method: Method
    meter: str = ""
    boundary: str = ""
    uncertainty: float | None = None
    source: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        if not isfinite(self.value):
            raise ValueError(f"A figure is a number, got {self.value} {self.unit}; what is unknown is None.")
        if self.uncertainty is not None and not 0.0 <= self.uncertainty < float("inf"):
            raise ValueError(f"An uncertainty is a number of at least 0, got {self.uncertainty}.")

    def times(
        self, factor: float, *, unit: str | None = None, boundary: str | None = None, method: Method | None = None
    ) -> Figure:
        """The figure times an exact number; ``method``, where the number is less well known than the figure."""
        return Figure(
            value=self.value * factor,
            unit=self.unit if unit is None else unit,
            method=self.method if method is None else _weaker(self.method, method),
            meter=self.meter,
            boundary=self.boundary if boundary is None else boundary,
            uncertainty=None if self.uncertainty is None else self.uncertainty * abs(factor),
            source=self.source,
            version=self.version,
        )

    def by(self, other: Figure, *, unit: str, scale: float = 1.0, boundary: str | None = None) -> Figure:
        """The product of two figures: known as the weaker is, off by at most what both at their worst make."""
        uncertainty = None
        if self.uncertainty is not None and other.uncertainty is not None:
            crossed = abs(self.value) * other.uncertainty + abs(other.value) * self.uncertainty
            uncertainty = (crossed + self.uncertainty * other.uncertainty) * abs(scale)
        return Figure(
            value=self.value * other.value * scale,
            unit=unit,
            method=_weaker(self.method, other.method),
            meter=_both(self.meter, other.meter, "+"),
            boundary=self.boundary if boundary is None else boundary,
            uncertainty=uncertainty,
            source=_both(self.source, other.source, "; "),
            version=_both(self.version, other.version, "; "),
        )


def weakest(methods: Iterable[Known]) -> Known:
    """The method of what is made of several: as well known as the worst of them. Errors: ValueError for none."""
    return max(methods, key=_RANK.__getitem__)


def _weaker(one: Known, other: Known) -> Known:
    return one if _RANK[one] >= _RANK[other] else other


def total(figures: Sequence[Figure]) -> Figure:
    """The sum of figures of one unit, by the rules above, for one window. Errors: ValueError."""
    if len(figures) == 1:
        return figures[0]
    return _sum(figures, _uncertainty(figures))


def over_windows(figures: Sequence[Figure]) -> Figure:
    """The sum over consecutive windows, in order, of shares of one meter.

    Windows in which it had no share belong in the list, as 0 and certain. Errors: ValueError for several meters.
    """
    if len({figure.meter for figure in figures}) > 1:
        raise ValueError("Windows telescope for one meter only; sum each meter's first.")
    known = [figure.uncertainty for figure in figures if figure.uncertainty is not None]
    uncertainty = None
    if len(known) == len(figures):
        uncertainty = sum(abs(after - before) for before, after in pairwise((0.0, *known, 0.0))) / 2
    return _sum(figures, uncertainty)


def _sum(figures: Sequence[Figure], uncertainty: float | None) -> Figure:
    if len({figure.unit for figure in figures}) != 1:
        raise ValueError(f"Only figures of one unit add up, got {sorted({figure.unit for figure in figures})}.")
    return Figure(
        value=sum(figure.value for figure in figures),
        unit=figures[0].unit,
        method=weakest(figure.method for figure in figures),
        meter=_joined((figure.meter for figure in figures), "+"),
        boundary=_joined((figure.boundary for figure in figures), "; "),
        uncertainty=uncertainty,
        source=_joined((figure.source for figure in figures), "; "),
        version=_joined((figure.version for figure in figures), "; "),
    )


def _uncertainty(figures: Sequence[Figure]) -> float | None:
    by_meter: dict[str, float] = {}
    for figure in figures:
        if figure.uncertainty is None:
            return None
        by_meter[figure.meter] = by_meter.get(figure.meter, 0.0) + figure.uncertainty
    systematic = by_meter.pop("", 0.0)
    return hypot(*by_meter.values()) + systematic


def _both(one: str, other: str, by: str) -> str:
    if not other or one == other:
        return one
    return _joined((one, other), by) if one else other


def _joined(texts: Iterable[str], by: str) -> str:
    known = dict.fromkeys(text for text in texts if text)
    if len(known) < 2:
        return next(iter(known), "")
    return by.join(dict.fromkeys(part for text in known for part in text.split(by)))
