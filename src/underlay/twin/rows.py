"""Which requests were good? The columns of a run with what follows from them, for any part of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt

from .figures import LATENCIES
from .records import OUTCOMES, Requests

Column = npt.NDArray[Any]

FINISHED = OUTCOMES.index("finished")


class Rows(NamedTuple):
    """Columns of some requests, with what follows from them: whether they finished, and within every SLO."""

    arrived_s: Column
    ttft_s: Column
    tpot_s: Column
    e2e_s: Column
    prompt_tokens: Column
    output_tokens: Column
    cached_tokens: Column
    outcome: Column
    try_: Column
    finished: Column
    good: Column

    def only(self, which: Column) -> Rows:
        """Those rows."""
        return Rows(*(column[which] for column in self))


def rows_of(requests: Requests, slo: dict[str, float]) -> Rows:
    """The columns that figures are made of. ``slo`` has seconds by latency: ttft, tpot, e2e."""
    unknown = slo.keys() - LATENCIES.keys()
    if unknown:
        raise ValueError(f"An SLO is set on {', '.join(LATENCIES)}, not on {', '.join(sorted(unknown))}.")
    plain = {name: requests.column(name) for name in Rows._fields if name not in {"tpot_s", "finished", "good"}}
    latencies = {"ttft": plain["ttft_s"], "tpot": requests.tpot_s(), "e2e": plain["e2e_s"]}
    finished = plain["outcome"] == FINISHED
    good = finished.copy()
    for name, most_s in slo.items():
        # An answer of one token has no time between tokens, and nothing to hold against it.
        good &= ~(latencies[name] > most_s)
    return Rows(**plain, tpot_s=latencies["tpot"], finished=finished, good=good)
