"""What a run leaves behind: a row for each request, samples over time, totals, and what to distrust.

Rows are kept as columns: a million requests are some tens of megabytes, and every percentile is one call away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from math import exp, log, nan
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt

from underlay.domain.figures import Figure, Method
from underlay.twin.run_ledger import RunLedger

#: How a request ended, by number in ``Requests.outcome``; ``open`` when the run did before it.
OUTCOMES = ("finished", "refused", "failed", "left", "open")

#: Times between tokens are counted in classes 5 % wide, from 0.1 ms up.
ITL_CLASSES = 256
ITL_FIRST_S = 1e-4
ITL_WIDTH = log(1.05)

_NUMPY = {"d": "f8", "f": "f4", "i": "i4", "h": "i2", "b": "i1"}

#: The columns of a row and their kinds (``struct``): times in seconds, tokens as counts, names as places in
#: ``Requests.names``. ``ttft_s`` and ``e2e_s`` are the caller's, way there and back included; nan where none.
#: ``within_s`` is how long an answer may take that can wait (nan: it cannot), ``held_s`` how long it was put off.
COLUMNS: dict[str, str] = {
    "arrived_s": "d",
    "ttft_s": "d",
    "e2e_s": "d",
    "prompt_tokens": "i",
    "output_tokens": "i",
    "cached_tokens": "i",
    "replica": "i",
    "region": "h",
    "served_in": "h",
    "tenant": "h",
    "model": "h",
    "attempts": "b",
    "outcome": "b",
    "try_": "b",
    "within_s": "f",
    "held_s": "f",
}
_ROW = Struct("<" + "".join(COLUMNS.values()))
_KINDS = np.dtype({"names": list(COLUMNS), "formats": [f"<{_NUMPY[kind]}" for kind in COLUMNS.values()]})


class Requests:
    """A row for each request, in the order they ended.

    ``add`` takes the values of a row in the order of ``COLUMNS``. ``names`` are those that the numbers stand for.
    Rows that were drawn from flows stand for many requests each, as their ``weights`` say; usually for one.
    """

    __slots__ = ("_places", "_rows", "_weights", "names")

    def __init__(self) -> None:
        kinds = ("replica", "region", "tenant", "model")
        self._rows = bytearray()
        self._weights = bytearray()
        self.names: dict[str, list[str]] = {kind: [] for kind in kinds}
        self._places: dict[str, dict[str, int]] = {kind: {} for kind in kinds}

    def __len__(self) -> int:
        return len(self._rows) // _ROW.size

    def add(self, *row: float) -> None:
        """Add a row. What ended is never changed."""
        self._rows += _ROW.pack(*row)

    def extend(self, columns: Mapping[str, npt.NDArray[Any]], weights: npt.NDArray[np.float64]) -> None:
        """Add many rows at once, each standing for so many requests. Such rows are not mixed with others."""
        assert len(self._weights) == 8 * len(self), "rows with weights among rows without"
        rows = np.zeros(len(weights), dtype=_KINDS)
        for name in COLUMNS:
            rows[name] = columns[name]
        self._rows += rows.tobytes()
        self._weights += weights.astype("<f8").tobytes()

    def weights(self) -> npt.NDArray[np.float64]:
        """How many requests each row stands for."""
        return np.frombuffer(self._weights, dtype="<f8").copy() if self._weights else np.ones(len(self))

    @property
    def weighted(self) -> bool:
        """Whether rows stand for other than one request each."""
        return bool(self._weights)

    def places(self, kind: str) -> Mapping[str, int]:
        """The numbers that stand for names of that kind by now: for whoever asks for each request."""
        return self._places[kind]

    def place(self, kind: str, name: str) -> int:
        """The number that stands for a name of that kind (replica, region, tenant or model)."""
        places = self._places[kind]
        place = places.get(name)
        if place is None:
            place = places[name] = len(self.names[kind])
            self.names[kind].append(name)
        return place

    def column(self, name: str) -> npt.NDArray[Any]:
        """One column, as a copy."""
        rows: npt.NDArray[Any] = np.frombuffer(self._rows, dtype=_KINDS)
        return rows[name].copy()

    def hash(self) -> str:
        """A hash over all rows: equal runs have equal ones."""
        return blake2b(self._rows + self._weights, digest_size=16).hexdigest()

    def tpot_s(self) -> npt.NDArray[np.float64]:
        """The mean time per output token after the first; nan where there was no second."""
        tokens = self.column("output_tokens").astype(np.float64)
        decode_s = self.column("e2e_s") - self.column("ttft_s")
        spread = np.full(len(tokens), nan)
        np.divide(decode_s, tokens - 1, out=spread, where=tokens > 1)
        return spread


@dataclass(slots=True)
class Series:
    """Samples at ``times_s``: one list for each name such as ``west.power_w`` or ``west.chat.running``."""

    times_s: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, at: float, sample: dict[str, float]) -> None:
        """Add a sample; a name that was not there before was nan until now."""
        for name, value in sample.items():
            column = self.values.get(name)
            if column is None:
                column = self.values[name] = [nan] * len(self.times_s)
            column.append(value)
        self.times_s.append(at)
        for column in self.values.values():
            if len(column) < len(self.times_s):
                column.append(nan)


@dataclass(frozen=True, slots=True)
class Account:
    """A total of one place (empty: everywhere): energy, water, carbon or money.

    A place is a region's name, or the path of a site, hall or rack; regions add up to everywhere, sites and what is
    in them do not add to regions, as they are in these.
    """

    place: str
    name: str
    figure: Figure

    @classmethod
    def of(cls, place: str, name: str, value: float, unit: str, method: Method, boundary: str = "") -> Account:
        """An account of a figure that no meter read and of which nobody knows how far it is off."""
        return cls(place, name, Figure(value, unit, method, boundary=boundary))

    @property
    def value(self) -> float:
        """How much of its unit."""
        return self.figure.value

    @property
    def unit(self) -> str:
        """The unit."""
        return self.figure.unit

    @property
    def method(self) -> Method:
        """Measured, calibrated, modelled or assumed."""
        return self.figure.method

    @property
    def boundary(self) -> str:
        """What is inside."""
        return self.figure.boundary


@dataclass(slots=True)
class RunResult:
    """One run of one scenario with one seed.

    ``trace_hash`` is equal for equal seeds; ``partial`` says that it was interrupted at ``simulated_s``.
    ``warnings`` are what to distrust (extrapolated profiles, assumed figures); ``happenings`` what befell the world
    (time, text). ``itl_counts`` say how many tokens came how long after the one before (``itl_s``). ``ledger`` says
    what each request took, ``places`` what sites, halls and racks did, each if the scenario asks for it.
    """

    scenario: str
    seed: int
    duration_s: float
    simulated_s: float
    trace_hash: str
    events: int
    requests: Requests
    series: Series
    accounts: list[Account] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    happenings: list[tuple[float, str]] = field(default_factory=list)
    partial: bool = False
    slo: dict[str, float] = field(default_factory=dict)
    variant: str = ""
    itl_counts: list[int] = field(default_factory=list)
    ledger: RunLedger | None = None
    places: list[Account] = field(default_factory=list)


def itl_s(place: int) -> float:
    """The middle of a class of times between tokens."""
    return ITL_FIRST_S * exp((place + 0.5) * ITL_WIDTH)
