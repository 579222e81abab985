"""Whom does a call meet in a measured pool? Requests of all levels of a surface, to be drawn from.

A request is drawn from a level near what the call meets; how long it takes is said by how its latencies ranked
among those of its level: the same rank among what is expected with exactly as many inside. Answers are as long as
typical ones are, as few were seen of each level, and answers are unlike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from underlay.twin.records import OUTCOMES

from .demand import Floats
from .station import Seen
from .surface import Surface

Places = npt.NDArray[np.int64]

_FINISHED, _REFUSED = OUTCOMES.index("finished"), OUTCOMES.index("refused")
_OUTPUT = Seen._fields.index("output_tokens")


class Tails:
    """The requests of all levels of a surface, to be drawn from: who was there, and how their latencies rank."""

    def __init__(self, surface: Surface) -> None:
        self._levels = [_Drawn(level.seen, surface.outputs) for level in surface.levels]
        self._inside = np.array([level.inside for level in surface.levels])

    def draw(self, kind: Places, inside: Floats, dice: np.random.Generator) -> tuple[Seen, Floats, Floats]:
        """A request for each: of its kind, met with so many inside; and how its TTFT and its TPOT rank there."""
        low, share = self._between(inside)
        chosen = low + (dice.random(len(inside)) < share)
        columns = [np.zeros(len(inside), dtype=column.dtype) for column in self._levels[0].seen]
        ranks = np.zeros((2, len(inside)))
        for place in np.unique(chosen):
            here = np.flatnonzero(chosen == place)
            level = self._levels[place]
            rows, outputs = level.choose(kind[here], dice)
            for column, values in zip(columns, level.seen, strict=True):
                column[here] = values[rows]
            columns[_OUTPUT][here] = outputs
            ranks[0, here], ranks[1, here] = level.ttft_rank[rows], level.tpot_rank[rows]
        return Seen._make(columns), ranks[0], ranks[1]

    def at(self, name: str, rank: Floats, inside: Floats) -> Floats:
        """A latency by its rank (0 to 1, nan: none) with so many inside."""
        low, share = self._between(inside)
        found = np.zeros(len(rank))
        for place in np.unique(low):
            here = np.flatnonzero(low == place)
            below = self._levels[place].quantile(name, rank[here])
            above = self._levels[min(place + 1, len(self._levels) - 1)].quantile(name, rank[here])
            found[here] = below + share[here] * (above - below)
        return found

    def _between(self, inside: Floats) -> tuple[Places, Floats]:
        """The level below each, and how far on the way to the next one it lies."""
        low = np.clip(np.searchsorted(self._inside, inside, side="right") - 1, 0, max(0, len(self._levels) - 2))
        if len(self._levels) == 1:
            return low, np.zeros(len(inside))
        span = self._inside[low + 1] - self._inside[low]
        return low, np.clip((inside - self._inside[low]) / span, 0.0, 1.0)


class _Drawn:
    """The requests of one level that were let in, and how their latencies rank."""

    __slots__ = ("_of_kind", "_outputs", "_sorted", "seen", "tpot_rank", "ttft_rank")

    def __init__(self, seen: Seen, outputs: list[npt.NDArray[np.int64]]) -> None:
        self._outputs = outputs
        kept = seen.outcome != _REFUSED
        self.seen = Seen._make(column[kept] for column in seen)
        finished = self.seen.outcome == _FINISHED
        self._sorted = {
            "ttft": np.sort(self.seen.ttft_s[finished & ~np.isnan(self.seen.ttft_s)]),
            "tpot": np.sort(self.seen.tpot_s[finished & ~np.isnan(self.seen.tpot_s)]),
        }
        self.ttft_rank = self._ranks("ttft", np.where(finished, self.seen.ttft_s, np.nan))
        self.tpot_rank = self._ranks("tpot", np.where(finished, self.seen.tpot_s, np.nan))
        by_output = np.argsort(self.seen.output_tokens, kind="stable")
        kinds = self.seen.kind[by_output]
        self._of_kind = {int(kind): by_output[kinds == kind] for kind in np.unique(kinds)}

    def choose(self, kinds: Places, dice: np.random.Generator) -> tuple[Places, Places]:
        """A row for each of these kinds (of one that was not seen, of any), and how long its answer is.

        That is as typical answers are: few were seen here, and answers are unlike. Who is as long among those that
        were seen stands for it.
        """
        rows, outputs = np.zeros(len(kinds), dtype=np.int64), np.zeros(len(kinds), dtype=np.int64)
        for kind in np.unique(kinds):
            here = np.flatnonzero(kinds == kind)
            among = self._of_kind.get(int(kind))
            if among is None:
                among = np.argsort(self.seen.output_tokens, kind="stable")
            ranks = (dice.permutation(len(here)) + dice.random(len(here))) / len(here)
            rows[here] = among[(ranks * len(among)).astype(np.int64)]
            lengths = self._outputs[int(kind)]
            outputs[here] = lengths[(ranks * len(lengths)).astype(np.int64)] if len(lengths) else 0
        finished = self.seen.outcome[rows] == _FINISHED
        return rows, np.where(finished, outputs, self.seen.output_tokens[rows])

    def quantile(self, name: str, rank: Floats) -> Floats:
        """The latency at each rank; nan stays nan."""
        values = self._sorted[name]
        if not len(values):
            return np.full(len(rank), np.nan)
        return np.asarray(np.interp(rank * (len(values) - 1), np.arange(len(values)), values))

    def _ranks(self, name: str, values: Floats) -> Floats:
        known = self._sorted[name]
        ranks = np.searchsorted(known, values) / max(1, len(known) - 1)
        return np.where(np.isnan(values), np.nan, np.minimum(ranks, 1.0))
