"""Callers some of whom can wait: their answers are wanted within hours, not seconds.

Which calls those are is drawn beforehand and is the same whatever is made of it, so that runs with and without a
policy for them meet the same calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from random import Random

from .call import Call, Outcome
from .section import KnownCrowd, Section, demand, generators, with_throws


class Deferrable(Section, frozen=True):
    """That ``share`` of the calls can wait: their whole answer is wanted ``within_s`` of the call."""

    within_s: float
    share: float = 1.0

    def __post_init__(self) -> None:
        demand(0 < self.within_s < inf, "within_s must be a number above 0.")
        demand(0 < self.share <= 1, "share must be above 0 and at most 1.")


class Patient:
    """A crowd of whose calls some can wait. Those hang up for no want of a first token."""

    def __init__(self, crowd: KnownCrowd, deferrable: Deferrable) -> None:
        self.crowd = crowd
        self.deferrable = deferrable
        self.follows = crowd.follows

    def calls(self, dice: Random) -> Iterator[Call]:
        """The crowd's calls, in order, those that can wait marked."""
        calls = self.crowd.calls(dice)
        (throws,) = generators(dice, 1)
        for call, thrown in with_throws(calls, throws.random):
            if thrown < self.deferrable.share:
                call.within_s = self.deferrable.within_s
                call.deadline_s = None
            yield call

    def follow_up(self, call: Call, outcome: Outcome, at: float, dice: Random) -> Call | None:
        """What the crowd makes of the end: another try of a call that can wait can wait."""
        return self.crowd.follow_up(call, outcome, at, dice)

    def rate_per_s(self, at: float) -> float:
        """The crowd's own rate: when its calls come, not when they begin."""
        return self.crowd.rate_per_s(at)

    def sample(self, count: int, dice: Random) -> list[Call]:
        """So many typical calls."""
        return self.crowd.sample(count, dice)

    def check(self) -> None:
        """Let the crowd read what it is made of."""
        self.crowd.check()

    def tenant_bands(self) -> dict[str, str]:
        """Everybody who may call, and the band of each."""
        return self.crowd.tenant_bands()

    def warnings(self) -> tuple[str, ...]:
        """What to tell the reader."""
        return self.crowd.warnings()
