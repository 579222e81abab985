"""How long are prompts and answers?"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import trace_files
from .section import Section, demand
from .spreads import Spread, whole

Tokens = npt.NDArray[np.int64]


class Separate(Section, frozen=True):
    """Each for itself: how long an answer gets has nothing to do with its prompt."""

    prompt: Spread
    output: Spread

    def draw(self, count: int, dice: np.random.Generator) -> tuple[Tokens, Tokens]:
        """So many prompts and their answers, at least one token each."""
        return whole(self.prompt.draw(count, dice)), whole(self.output.draw(count, dice))

    def check(self) -> None:
        """There is nothing to be read."""


class Recorded(Section, frozen=True):
    """Pairs drawn from those of a trace, so that what belongs together stays together.

    ``trace`` is a shipped name (``sharegpt`` and ``azure-2023-conv`` are typical of chats) or a path; lengths are
    multiplied by the scales. Errors: BadRequest, TraceError.
    """

    trace: str
    prompt_scale: float = 1.0
    output_scale: float = 1.0

    def __post_init__(self) -> None:
        demand(min(self.prompt_scale, self.output_scale) > 0, "scales must be above 0.")

    def draw(self, count: int, dice: np.random.Generator) -> tuple[Tokens, Tokens]:
        """So many prompts and their answers, at least one token each."""
        pairs = self._pairs()
        chosen = pairs[dice.integers(0, len(pairs), count)]
        scaled = chosen * np.array([self.prompt_scale, self.output_scale])
        return whole(scaled[:, 0]), whole(scaled[:, 1])

    def check(self) -> None:
        """Read the trace. Errors: BadRequest, TraceError."""
        self._pairs()

    def _pairs(self) -> Tokens:
        path = trace_files.locate(self.trace)
        return _pairs(path, trace_files.changed_ns(path))


Lengths = Separate | Recorded


@lru_cache(maxsize=8)
def _pairs(path: Path, _changed_ns: int) -> npt.NDArray[np.int64]:
    return np.array(trace_files.lengths(path), dtype=np.int64)
