"""What do ServeGen's statistics say? Rates of each client by window, and quantiles of its lengths.

Two files side by side, plain or gzipped: ``NAME_rates.csv`` with client, t_s, rate_rps, pattern (Gamma or Weibull)
and arg1 (its shape), and ``NAME_token_quantiles.csv`` with client, t_s, field (input_tokens or output_tokens,
others are not read) and quantiles p1 to p99.9 and max. Other columns are not read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache, lru_cache
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from underlay.domain.errors import BadRequest

from .arrivals import GammaGaps, WeibullGaps
from .trace_files import changed_ns, opened
from .trace_formats import Place, TraceError, column_of, csv_lines

Floats = npt.NDArray[np.float64]

WINDOW_S = 600.0
_SHIPPED = Path(__file__).parent.parent / "data" / "traces" / "servegen"
#: Columns of the second file, and the shares of requests that stay below what they say.
QUANTILES = ("p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "p99.9", "max")
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
_SIDES = ("input_tokens", "output_tokens")


class Busy(NamedTuple):
    """A client in a window of ten minutes: its rate, and how its gaps are spread."""

    client: str
    rate_per_s: float
    process: GammaGaps | WeibullGaps


class Sizes(NamedTuple):
    """What a client's prompts and answers stay below, from ``since_s`` on: tokens at the shares of the file."""

    since_s: float
    prompt: Floats
    output: Floats


class Clients:
    """One set of clients: who is busy in which window, and how long what they say is.

    Who has no sizes is left out: ``unsized`` says how many of how many, ``unsized_share`` their share of all calls.
    """

    __slots__ = ("sizes", "unsized", "unsized_share", "windows")

    def __init__(self, rates: Path, quantiles: Path) -> None:
        every = _windows(rates)
        self.sizes = _sizes(quantiles)
        self.windows = {
            at: [busy for busy in found if busy.client in self.sizes] for at, found in sorted(every.items())
        }
        rated = [busy for found in every.values() for busy in found]
        without = [busy for busy in rated if busy.client not in self.sizes]
        self.unsized = len({busy.client for busy in without}), len({busy.client for busy in rated})
        self.unsized_share = sum(busy.rate_per_s for busy in without) / sum(busy.rate_per_s for busy in rated)

    def sizes_at(self, client: str, at_s: float) -> Sizes:
        """The sizes that hold at that time: the last ones known, or the first."""
        known = self.sizes[client]
        return known[max(0, bisect_right(known, at_s, key=lambda sizes: sizes.since_s) - 1)]


@cache
def shipped() -> tuple[str, ...]:
    """The names of the sets that come with the package."""
    return tuple(sorted(path.name.partition("_rates")[0] for path in _SHIPPED.glob("*_rates.csv.gz")))


def load(clients: str) -> Clients:
    """The set of that name, or at the path of its rates. Errors: BadRequest, TraceError."""
    if clients in shipped():
        return _of(_SHIPPED / f"{clients}_rates.csv.gz")
    rates = Path(clients)
    if rates.is_file() and "_rates" in rates.name:
        return _of(rates)
    near = get_close_matches(clients, shipped(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"give the path of NAME_rates.csv, or {', '.join(shipped())}."
    raise BadRequest(f"There are no clients {clients!r}: {hint}", param="clients")


def _of(rates: Path) -> Clients:
    quantiles = rates.with_name(rates.name.replace("_rates", "_token_quantiles"))
    return _read(rates, quantiles, changed_ns(rates), changed_ns(quantiles))


@lru_cache(maxsize=4)
def _read(rates: Path, quantiles: Path, *_changed_ns: int) -> Clients:
    return Clients(rates, quantiles)


def _windows(path: Path) -> dict[float, list[Busy]]:
    windows: dict[float, list[Busy]] = {}
    for (client, pattern), (at_s, rate_per_s, shape), place in _table(
        path, ("client", "pattern"), ("t_s", "rate_rps", "arg1")
    ):
        if pattern not in {"Gamma", "Weibull"}:
            raise place.wrong(f"pattern is {pattern!r}, not Gamma or Weibull.")
        try:
            gaps = GammaGaps(cv=shape**-0.5) if pattern == "Gamma" else WeibullGaps(shape=shape)
        except (ValueError, ZeroDivisionError) as error:
            raise place.wrong(f"arg1 is {shape:g}, which is no shape of gaps: {error}") from None
        windows.setdefault(at_s, []).append(Busy(client, rate_per_s, gaps))
    if not any(busy.rate_per_s for found in windows.values() for busy in found):
        raise TraceError(path, 0, 0, "nobody calls in it.")
    return windows


def _sizes(path: Path) -> dict[str, list[Sizes]]:
    """Those of every client of whom both sides are known, in the order of time."""
    sides: dict[tuple[str, float], dict[str, Floats]] = {}
    for (client, field), (at_s, *quantiles), place in _table(path, ("client", "field"), ("t_s", *QUANTILES)):
        if field in _SIDES:
            if quantiles != sorted(quantiles):
                raise place.wrong("its quantiles fall: each must be at least the one before.")
            sides.setdefault((client, at_s), {})[field] = np.array(quantiles)
    sizes: dict[str, list[Sizes]] = {}
    for (client, at_s), found in sorted(sides.items(), key=itemgetter(0)):
        if len(found) == len(_SIDES):
            sizes.setdefault(client, []).append(Sizes(at_s, *(found[side] for side in _SIDES)))
    return sizes


def _table(
    path: Path, words: tuple[str, ...], numbers: tuple[str, ...]
) -> Iterator[tuple[list[str], list[float], Place]]:
    """These columns of a file with a header: words as they are, numbers from 0."""
    with opened(path) as (file, place):
        rows = csv_lines(file, place)
        header = next(rows, [])
        for name in (*words, *numbers):
            if name not in header:
                raise place.wrong(f"has no column {name!r}; it needs {', '.join((*words, *numbers))}.")
        of_words, of_numbers = [header.index(name) for name in words], [header.index(name) for name in numbers]
        for row in rows:
            if len(row) != len(header):
                raise place.wrong(f"has {len(row)} values, but the header names {len(header)} columns.")
            yield [row[index] for index in of_words], [_number(row, index, place) for index in of_numbers], place


def _number(row: list[str], index: int, place: Place) -> float:
    try:
        number = float(row[index])
    except ValueError:
        number = -1.0
    if not 0 <= number < inf:
        raise place.wrong(f"{row[index]!r} is no number from 0: correct the line.", column_of(row, index))
    return number
