"""Is there more work than can be done in time, and how long would a newcomer wait?

Decided from waiting times and from how long requests held their slots, both as measured. A line that empties now
and then is a burst and harms nobody; one that never gets short is overload, and then who waited long is better
told at once than answered after giving up. It refuses to know who waits: that is the line's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf

#: How much a measurement weighs after the next one: some fifty count.
_FADE = 0.98
#: Who is sent away is told to come back within these bounds: sooner is a hammer, later is a guess.
_RETRY_MIN_S = 1.0
_RETRY_MAX_S = 60.0
#: What was served so long ago counts a third, and a band is never reckoned to get less than this of the service.
_LATELY_S = 5.0
_LEFT_MIN = 0.02
#: A few dispatches prove nothing: where one slot is all there is, the only one lately is not all that ever will be.
_FEW = 4.0


class Delay:
    """Whether a line is standing: CoDel (Nichols and Jacobson, 2012) as folly has it ("Fail at Scale", 2015).

    Of every ``interval_s`` the least waiting time among those served counts: above ``target_s`` nobody got
    through quickly, so the line stands. The mean would call every burst an overload.
    """

    __slots__ = ("_ends_at", "_least_s", "interval_s", "overloaded", "target_s")

    def __init__(self, target_s: float, interval_s: float) -> None:
        self.target_s = target_s
        self.interval_s = interval_s
        self.overloaded = False
        self._least_s = inf  # of this interval; infinite before anyone was served in it
        self._ends_at = -inf

    def served(self, waited_s: float, at: float) -> None:
        """Learn that somebody who waited so long was taken out of the line."""
        if at >= self._ends_at:
            self.overloaded = self.target_s < self._least_s < inf
            self._least_s = inf
            self._ends_at = at + self.interval_s
        self._least_s = min(self._least_s, waited_s)

    def emptied(self, at: float) -> None:
        """Learn that nobody waits any more: whatever stood here is gone, and a new interval begins."""
        self.overloaded = False
        self._least_s = inf
        self._ends_at = at + self.interval_s

    def too_late(self, waited_s: float) -> bool:
        """Whether one whose turn it is has waited so long, under overload, that it is sent away instead."""
        return self.overloaded and waited_s > 2.0 * self.target_s


class Service:
    """How long one request of a model holds its slots, learnt as a fading mean of strand-seconds."""

    __slots__ = ("_mean_s", "_seen")

    def __init__(self) -> None:
        self._mean_s = 0.0
        self._seen = 0.0

    def observe(self, took_s: float) -> None:
        """Learn of a request that ended: its strands times the seconds it held them."""
        self._seen = seen = self._seen * _FADE + 1.0
        self._mean_s += (took_s - self._mean_s) / seen

    @property
    def mean_s(self) -> float:
        """How long a request holds a slot; 0.0 while nothing has been observed."""
        return self._mean_s

    def wait_s(self, ahead: int, slots: int) -> float:
        """How long one with so many ahead of it should wait; 0.0 while nothing has been observed.

        By Little's law busy slots end ``slots / mean`` requests per second. A model without a ready replica is
        reckoned to get one slot.
        """
        return (ahead + 1) * self._mean_s / max(1, slots)

    def retry_after_s(self, ahead: int, slots: int) -> float:
        """When coming back makes sense to one that was sent away: when so many should have been served."""
        return min(max(self.wait_s(ahead, slots), _RETRY_MIN_S), _RETRY_MAX_S)


class Served:
    """How much of a pool each band was given lately, for those who ask how long they would wait behind others."""

    __slots__ = ("_rates", "_seen_at", "_shares")

    def __init__(self, shares: Sequence[float]) -> None:
        self._shares = shares
        self._rates = [0.0] * len(shares)
        self._seen_at = [0.0] * len(shares)

    def note(self, band: int, at: float) -> None:
        """A request of this band was given a replica."""
        rates, seen_at = self._rates, self._seen_at
        rates[band] = rates[band] * exp((seen_at[band] - at) / _LATELY_S) + 1.0
        seen_at[band] = at

    def left_for(self, band: int, at: float) -> float:
        """The part of the service that the bands above this one leave to it; its own share at least."""
        rates = [self._rate(each, at) for each in range(len(self._rates))]
        left = 1.0 - sum(rates[:band]) / (sum(rates) + _FEW)
        return max(left, self._shares[band], _LEFT_MIN)

    def _rate(self, band: int, at: float) -> float:
        return self._rates[band] * exp((self._seen_at[band] - at) / _LATELY_S)
