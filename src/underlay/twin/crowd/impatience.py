"""Callers who do not wait for ever, and who try again when they are refused: what turns a hiccup into a storm.

Retries are what a client's library does by itself, so they know of the refusal only, not of when trying again
makes sense.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from random import Random

from .call import Call, Outcome
from .section import KnownCrowd, Section, demand, generators, with_throws
from .spreads import Spread


class Impatience(Section, frozen=True):
    """How long callers wait for a first token, and what they do when they get none.

    ``patience_s`` is drawn for each call unless it has a deadline (none: callers wait for ever); its tries and the
    later turns of its conversation are the same person's. After an outcome named in ``retries_on``, up to
    ``tries`` in all, the next comes after ``backoff_s`` times ``factor`` for each try before it, at most
    ``backoff_max_s``, less a share by lot of up to ``jitter``. The defaults are those of the official OpenAI
    library for Python (2.x: 2 retries, 0.5 s doubling up to 8 s, a quarter jitter); without jitter all who were
    refused together come back together.
    """

    patience_s: Spread | None = None
    tries: int = 3
    backoff_s: float = 0.5
    factor: float = 2.0
    backoff_max_s: float = 8.0
    jitter: float = 0.25
    retries_on: tuple[Outcome, ...] = ("refused", "failed")

    def __post_init__(self) -> None:
        demand(self.tries >= 1, "tries must be at least 1.")
        demand(0 <= self.backoff_s < inf, "backoff_s must be a number from 0.")
        demand(self.factor >= 1, "factor must be at least 1.")
        demand(self.backoff_max_s >= self.backoff_s, "backoff_max_s must not be below backoff_s.")
        demand(0 <= self.jitter <= 1, "jitter is a share: 0 to 1.")
        demand("finished" not in self.retries_on, "retries_on: nobody tries again what is finished.")

    def wait_s(self, try_: int, dice: Random) -> float:
        """How long after the end of that try the next one comes."""
        # Powers beyond any sensible wait are not reckoned: they would overflow.
        wait_s = min(self.backoff_max_s, self.backoff_s * self.factor ** min(try_ - 1, 64))
        return wait_s * (1.0 - self.jitter * dice.random())


class Impatient:
    """A crowd whose callers are impatient."""

    follows = True

    def __init__(self, crowd: KnownCrowd, impatience: Impatience) -> None:
        self.crowd = crowd
        self.impatience = impatience

    def calls(self, dice: Random) -> Iterator[Call]:
        """The crowd's calls, in order, each with how long it waits."""
        calls = self.crowd.calls(dice)
        return calls if self.impatience.patience_s is None else self._timed(calls, self.impatience.patience_s, dice)

    def follow_up(self, call: Call, outcome: Outcome, at: float, dice: Random) -> Call | None:
        """Another try, or what the crowd itself makes of the end."""
        rules = self.impatience
        if outcome in rules.retries_on and call.try_ < rules.tries:
            another = call.again(at + rules.wait_s(call.try_, dice))
            another.try_ += 1
            return another
        following = self.crowd.follow_up(call, outcome, at, dice)
        if following is not None and following.deadline_s is None:
            following.deadline_s = call.deadline_s
        return following

    def rate_per_s(self, at: float) -> float:
        """The crowd's own rate: how often it has to try again is not known beforehand."""
        return self.crowd.rate_per_s(at)

    def sample(self, count: int, dice: Random) -> list[Call]:
        """So many typical calls: first tries."""
        calls = self.crowd.sample(count, dice)
        patience_s = self.impatience.patience_s
        return calls if patience_s is None else list(self._timed(iter(calls), patience_s, dice))

    def check(self) -> None:
        """Let the crowd read what it is made of."""
        self.crowd.check()

    def tenant_bands(self) -> dict[str, str]:
        """Everybody who may call, and the band of each."""
        return self.crowd.tenant_bands()

    def warnings(self) -> tuple[str, ...]:
        """What to tell the reader."""
        return self.crowd.warnings()

    def _timed(self, calls: Iterator[Call], patience_s: Spread, dice: Random) -> Iterator[Call]:
        """Give each call how long it waits, unless it has a deadline."""
        (throws,) = generators(dice, 1)
        for call, wait_s in with_throws(calls, lambda count: patience_s.draw(count, throws)):
            if call.deadline_s is None:
                call.deadline_s = wait_s
            yield call
