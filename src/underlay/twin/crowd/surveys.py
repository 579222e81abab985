"""What is in a trace, taken as a whole? Read once: how many calls come when, whose, and some typical ones."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from math import ceil, floor, inf
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import trace_files
from .trace_formats import Recorded

_KEPT = 4096


class Survey:
    """A trace seen from above. Calls are counted by the second; ``kept`` are some thousands spread over all.

    ``tenants`` (with the band of the first call of each), ``regions`` and ``models`` are those that calls name.
    """

    __slots__ = ("_counts", "_seconds", "count", "kept", "last_s", "models", "path", "regions", "tenants")

    def __init__(self, path: Path) -> None:
        seconds: Counter[int] = Counter()
        self.kept: list[Recorded] = []
        self.path = path
        self.tenants: dict[str, str] = {}
        self.regions: dict[str, None] = {}
        self.models: dict[str, None] = {}
        self.count, self.last_s, every = 0, 0.0, 1
        for row in trace_files.read(path):
            seconds[floor(row.at_s)] += 1
            self.tenants.setdefault(row.tenant, row.band)
            if row.region:
                self.regions[row.region] = None
            if row.model:
                self.models[row.model] = None
            if self.count % every == 0:
                self.kept.append(row)
                if len(self.kept) == _KEPT:
                    self.kept, every = self.kept[::2], 2 * every
            self.count += 1
            self.last_s = row.at_s
        self._seconds: npt.NDArray[np.float64] = np.fromiter(seconds.keys(), np.float64, len(seconds))
        self._counts = np.concatenate(([0], np.cumsum(np.fromiter(seconds.values(), np.int64, len(seconds)))))

    def between(self, start_s: float, stop_s: float) -> int:
        """How many calls come in the seconds from one time to another, those that are begun included."""
        first, end = np.searchsorted(self._seconds, [floor(start_s), stop_s if stop_s == inf else ceil(stop_s)])
        return int(self._counts[end] - self._counts[first])


def survey(path: Path) -> Survey:
    """Look at a whole trace, once until it is changed. Errors: TraceError."""
    return _survey(path, trace_files.changed_ns(path))


@lru_cache(maxsize=16)
def _survey(path: Path, _changed_ns: int) -> Survey:
    return Survey(path)
