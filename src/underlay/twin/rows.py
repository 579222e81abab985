"""Which requests were good? The columns of a run with what follows from them, for any part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .figures import LATENCIES
from .records import OUTCOMES, Requests

Column = npt.NDArray[Any]

FINISHED = OUTCOMES.index("finished")


class Rows(NamedTuple):
    """Columns of some requests, with what follows from them: whether they finished, and within every SLO.

    Those that can wait (``within_s``) are good when their whole answer came in time. Each row stands for ``weight``
    requests: for itself, unless it was drawn from flows.
    """

    arrived_s: Column
    ttft_s: Column
    tpot_s: Column
    e2e_s: Column
    prompt_tokens: Column
    output_tokens: Column
    cached_tokens: Column
    region: Column
    served_in: Column
    outcome: Column
    try_: Column
    within_s: Column
    held_s: Column
    finished: Column
    good: Column
    weight: Column

    @property
    def can_wait(self) -> Column:
        """Which of them could be put off."""
        return ~np.isnan(self.within_s)

    @property
    def weighted(self) -> bool:
        """Whether any row stands for other than one request."""
        return bool((self.weight != 1.0).any())

    def only(self, which: Column) -> Rows:
        """Those rows."""
        return Rows(*(column[which] for column in self))


def rows_of(requests: Requests, slo: dict[str, float]) -> Rows:
    """The columns that figures are made of. ``slo`` has seconds by latency: ttft, tpot, e2e."""
    unknown = slo.keys() - LATENCIES.keys()
    if unknown:
        raise ValueError(f"An SLO is set on {', '.join(LATENCIES)}, not on {', '.join(sorted(unknown))}.")
    found = {"tpot_s", "finished", "good", "weight"}
    plain = {name: requests.column(name) for name in Rows._fields if name not in found}
    latencies = {"ttft": plain["ttft_s"], "tpot": requests.tpot_s(), "e2e": plain["e2e_s"]}
    finished = plain["outcome"] == FINISHED
    good = finished.copy()
    for name, most_s in slo.items():
        # An answer of one token has no time between tokens, and nothing to hold against it.
        good &= ~(latencies[name] > most_s)
    can_wait = ~np.isnan(plain["within_s"])
    if can_wait.any():
        good[can_wait] = (finished & (plain["e2e_s"] <= plain["within_s"]))[can_wait]
    return Rows(**plain, tpot_s=latencies["tpot"], finished=finished, good=good, weight=requests.weights())


def percentiles(values: Column, weights: Column | None, shares: Sequence[float]) -> list[float]:
    """Percentiles of known values, straight between the two nearest ranks; a row has as many ranks as it weighs."""
    if weights is None or not len(values):
        return [float(value) for value in np.percentile(values, shares)]
    order = np.argsort(values, kind="stable")
    ranks = np.cumsum(weights[order]) - weights[order]
    return [float(value) for value in np.interp(np.array(shares) / 100.0 * ranks[-1], ranks, values[order])]
