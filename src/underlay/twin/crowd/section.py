"""What crowds and their parts are made of: plain values that a scenario names one to one.

All are frozen: whatever changes during a run lies in iterators and in ``Call.more``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Protocol

import numpy as np
from msgspec import Struct

from .call import Call, Crowd, Outcome

#: How many throws are made at a time.
_CHUNK = 1024


class Section(Struct, frozen=True):
    """Some part of a crowd, as a scenario describes it. What cannot be raises ``ValueError`` when it is made."""


class KnownCrowd(Crowd, Protocol):
    """A crowd of which can be said beforehand who will call, and what to distrust."""

    def check(self) -> None:
        """Read whatever it is made of, to find before a run what is wrong with it. Errors: BadRequest."""
        ...

    def tenant_bands(self) -> dict[str, str]:
        """The tenant of every call that may come, and the band of each (empty: none asked for)."""
        ...

    def warnings(self) -> tuple[str, ...]:
        """What to tell the reader of results that rest on this crowd."""
        ...


class CrowdSection(Section, frozen=True):
    """A crowd that is described by itself, and to whose calls nothing follows unless it says so."""

    follows = False

    def follow_up(self, call: Call, outcome: Outcome, at: float, dice: Random) -> Call | None:  # noqa: ARG002
        """Nothing comes of the end of a call."""
        return None

    def check(self) -> None:
        """There is nothing to be read."""

    def warnings(self) -> tuple[str, ...]:
        """What to tell the reader of results that rest on this crowd."""
        return ()


def demand(holds: bool, message: str) -> None:
    """Raise ``ValueError`` unless it holds."""
    if not holds:
        raise ValueError(message)


def generators(dice: Random, count: int) -> list[np.random.Generator]:
    """So many independent generators of one throw: times stay the same when only lengths are changed."""
    seeds = np.random.SeedSequence(dice.getrandbits(64)).spawn(count)
    return [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]


def with_throws(calls: Iterator[Call], throw: Callable[[int], np.ndarray]) -> Iterator[tuple[Call, float]]:
    """Each call with a throw of its own; ``throw`` makes so many at a time."""
    while True:
        thrown: list[float] = throw(_CHUNK).tolist()
        call = None
        # In this order, as the shorter one ends it, and no call may be lost between two chunks of throws.
        for value, call in zip(thrown, calls, strict=False):
            yield call, value
        if call is None:
            return
