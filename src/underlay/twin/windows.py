"""How did a run go over time? Rates and percentiles by windows of equal width.

A request belongs to the window in which it arrived, also with its latencies: a window shows what befell those who
came then, and a jam is seen where it began. Tokens and goodput per second are those of the window's arrivals too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, nan
from typing import Any

import numpy as np
import numpy.typing as npt

from .records import Series
from .rows import Rows, percentiles

#: Widths that people think in, in seconds.
_WIDTHS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
WINDOWS_MAX = 96
SAMPLES_MAX = 240

_PERCENTILES = (50, 90, 99)


@dataclass(slots=True)
class Windows:
    """Windows of ``width_s`` from 0 on; the last may be cut short by the end. One list for each figure."""

    width_s: float
    starts_s: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)


def windows_of(rows: Rows, span_s: float) -> Windows:
    """Arrivals, goodput, output tokens and finished requests' percentiles, by the time of arrival."""
    width_s = width_for(span_s)
    count = max(1, ceil(round(span_s / width_s, 9)))
    index = np.minimum((rows.arrived_s / width_s).astype(np.int64), count - 1)
    starts_s = [number * width_s for number in range(count)]
    widths_s = np.array([max(min(width_s, span_s - start_s), 1e-9) for start_s in starts_s])
    values: dict[str, list[float]] = {
        "requests": np.bincount(index, weights=rows.weight, minlength=count).tolist(),
        "arrival_rate": _per_second(index, rows.weight, count, widths_s),
        "goodput": _per_second(index, rows.weight * rows.good, count, widths_s),
        "output_token_rate": _per_second(
            index, rows.weight * np.where(rows.finished, rows.output_tokens, 0), count, widths_s
        ),
    }
    weights = rows.weight if rows.weighted else None
    for name in ("ttft", "tpot", "e2e"):
        values |= _percentiles(
            name, index, np.where(rows.finished, getattr(rows, f"{name}_s"), nan), weights, count
        )
    return Windows(width_s, starts_s, values)


def width_for(span_s: float) -> float:
    """The narrowest width that makes no more than ``WINDOWS_MAX`` windows."""
    for width_s in _WIDTHS_S:
        if span_s / width_s <= WINDOWS_MAX:
            return width_s
    return float(ceil(span_s / WINDOWS_MAX / 86_400) * 86_400)


def _per_second(
    index: npt.NDArray[np.int64], weights: npt.NDArray[Any], count: int, widths_s: npt.NDArray[np.float64]
) -> list[float]:
    sums = np.bincount(index, weights=weights, minlength=count)
    rates: list[float] = (sums / widths_s).tolist()
    return rates


def _percentiles(
    name: str,
    index: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64] | None,
    count: int,
) -> dict[str, list[float]]:
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(index[known], kind="stable")]
    parts = np.split(order, np.searchsorted(index[order], np.arange(1, count)))
    told = [
        percentiles(values[part], None if weights is None else weights[part], _PERCENTILES)
        if len(part)
        else [nan] * len(_PERCENTILES)
        for part in parts
    ]
    return {f"{name}_p{q}": [each[place] for each in told] for place, q in enumerate(_PERCENTILES)}


def thin(series: Series) -> Series:
    """The same series in at most ``SAMPLES_MAX`` samples: each is the mean of its neighbours that are known."""
    size = ceil(len(series.times_s) / SAMPLES_MAX) if series.times_s else 1
    if size == 1:
        return Series(list(series.times_s), {name: list(values) for name, values in series.values.items()})
    starts = np.arange(0, len(series.times_s), size)
    times_s = [series.times_s[start] for start in starts]
    return Series(times_s, {name: _means(values, starts) for name, values in series.values.items()})


def _means(values: list[float], starts: npt.NDArray[np.int64]) -> list[float]:
    column = np.array(values, dtype=np.float64)
    known = ~np.isnan(column)
    sums = np.add.reduceat(np.where(known, column, 0.0), starts)
    counts = np.add.reduceat(known.astype(np.float64), starts)
    means: list[float] = np.divide(sums, counts, out=np.full(len(starts), nan), where=counts > 0).tolist()
    return means
