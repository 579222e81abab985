"""One plot of a report: a picture, and the same figures as a table."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import NamedTuple

from .wording import number, quantity

#: Lines, layers or names in one plot; what is beyond is told in its caption.
LINES_MAX = 6


class Plot(NamedTuple):
    """A plot for a page. ``rows`` are what it shows, in ``heads``."""

    name: str
    title: str
    caption: str
    svg: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def rows_over(times_s: Sequence[float], columns: Sequence[Sequence[float]]) -> tuple[tuple[str, ...], ...]:
    """Columns by time as the rows of a table; a column that ends early is not known from there on."""

    def cell(column: Sequence[float], place: int) -> str:
        return number(column[place] if place < len(column) else nan, 3)

    return tuple(
        (quantity(at_s, "s"), *(cell(column, place) for column in columns)) for place, at_s in enumerate(times_s)
    )
