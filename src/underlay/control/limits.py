"""May one more request, and its tokens, go on in this minute?

Decided from the limits of one account (a key, a user, a tenant or a model) and what it has taken lately. Rates
are kept by GCRA (the generic cell rate algorithm, ITU-T I.371): two numbers per limit, no buckets to refill,
exact resets. Tokens are taken by estimate when a request is let in and corrected when its usage is known. It
refuses to know who the account is, what things cost, and how long the platform's line is.
"""

from __future__ import annotations

from underlay.domain.errors import LimitReached
from underlay.domain.keys import Limits

#: What a float of Unix seconds cannot tell apart; who waits as long as told must not be refused for it.
_CLOCK_S = 1e-6
#: When to try again where nobody can know: a request of the same account has to end first.
_OPEN_RETRY_S = 1.0


class Rate:
    """One GCRA limit of ``per_minute`` units with a burst of one minute's worth.

    A take larger than the whole burst is let through when the limit is untouched, and paid off afterwards.
    The debt is kept beside the time it was reckoned at, not added to it: a float that holds seconds since 1970
    has but a quarter of a microsecond to tell, and such sums cost callers the last unit of their burst.
    """

    __slots__ = ("_debt_at", "_debt_s", "burst_s", "per_minute", "unit_s")

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.unit_s = 60.0 / per_minute
        self.burst_s = 60.0
        self._debt_s = 0.0
        self._debt_at = 0.0

    @property
    def full_at(self) -> float:
        """The theoretical arrival time: when everything taken so far will have drained away."""
        return self._debt_at + self._debt_s

    def _owed_s(self, at: float) -> float:
        owed_s = self._debt_s - (at - self._debt_at)
        return max(0.0, owed_s)

    def wait_s(self, units: int, at: float) -> float:
        """How long until ``units`` may be taken; 0 if they may be taken now."""
        asked_s = units * self.unit_s
        wait_s = self._owed_s(at) + (asked_s - self.burst_s if asked_s < self.burst_s else 0.0)
        return wait_s if wait_s > _CLOCK_S else 0.0

    def take(self, units: int, at: float) -> None:
        """Take ``units``; negative ones are given back."""
        self._owe(units * self.unit_s, at)

    def _owe(self, more_s: float, at: float) -> None:
        debt_s = self._owed_s(at) + more_s
        self._debt_s = max(0.0, debt_s)
        self._debt_at = at

    def left(self, at: float) -> int:
        """How many units could be taken now."""
        return max(0, int((self.burst_s - self._owed_s(at) + _CLOCK_S) / self.unit_s))

    def receipt(self) -> Receipt:
        """What to keep of a take, to ``correct`` it by."""
        return (self, self._debt_s, self._debt_at)

    def take_more(self, receipt: Receipt, units: int, at: float) -> Receipt:
        """Take more ``units`` on an earlier take; returns the receipt of both."""
        _, debt_s, debt_at = receipt
        undrained_s = max(0.0, debt_s - (at - debt_at))
        self.take(units, at)
        return (self, undrained_s + units * self.unit_s, at)

    def correct(self, receipt: Receipt, taken: int, used: int, at: float) -> None:
        """Let an earlier take of ``taken`` units have been one of ``used``.

        Only what cannot have drained since is given back. Without that bound a request that reserves a
        minute's worth, waits out the minute and uses nothing would hand its due to the next one, twice.
        """
        more_s = (used - taken) * self.unit_s
        if more_s < 0.0:
            _, debt_s, debt_at = receipt
            undrained_s = debt_s - (at - debt_at)
            more_s = max(more_s, -undrained_s) if undrained_s > 0.0 else 0.0
        self._owe(more_s, at)


#: A rate, its debt just after a take, and when that was. It names the rate itself: limits may change while a
#: request runs, and what was taken under the old ones must not be given back under the new.
Receipt = tuple[Rate, float, float]


class Meter:
    """The limits of one account and what it uses of them now. ``whose`` it is stands first in every refusal.

    ``check`` and ``take`` are apart because a request is counted against all of its accounts or against none.
    """

    __slots__ = ("limits", "open_requests", "requests", "tokens", "whose")

    def __init__(self, limits: Limits, whose: str = "this key's") -> None:
        self.whose = whose
        self.open_requests = 0
        self.limits = Limits()
        self.requests: Rate | None = None
        self.tokens: Rate | None = None
        self.set(limits)

    def set(self, limits: Limits) -> None:
        """Go on under other limits: rates that changed start afresh, the others and open requests stay."""
        if limits.requests_per_minute != self.limits.requests_per_minute:
            self.requests = Rate(limits.requests_per_minute) if limits.requests_per_minute else None
        if limits.tokens_per_minute != self.limits.tokens_per_minute:
            self.tokens = Rate(limits.tokens_per_minute) if limits.tokens_per_minute else None
        self.limits = limits

    def check(self, tokens: int, at: float) -> None:
        """Raise ``LimitReached`` if one more request with so many tokens is too much. Counts nothing."""
        concurrent = self.limits.concurrent
        if concurrent is not None and self.open_requests >= concurrent:
            raise LimitReached(
                f"{self.whose} limit of {concurrent} open requests is reached; wait for one to end",
                retry_after_s=_OPEN_RETRY_S,
            )
        requests, of_tokens = self.requests, self.tokens
        if requests is not None and (wait_s := requests.wait_s(1, at)):
            raise self._reached(requests, "requests", wait_s)
        if of_tokens is not None and (wait_s := of_tokens.wait_s(tokens, at)):
            raise self._reached(of_tokens, "tokens", wait_s)

    def _reached(self, rate: Rate, unit: str, wait_s: float) -> LimitReached:
        return LimitReached(
            f"{self.whose} limit of {rate.per_minute} {unit} per minute is reached; it has room again in "
            f"{wait_s:.1f} s",
            retry_after_s=wait_s,
        )

    def take(self, tokens: int, at: float) -> Receipt | None:
        """Count a request in, whatever the limits say; returns what its tokens are to be corrected by."""
        self.open_requests += 1
        if self.requests is not None:
            self.requests.take(1, at)
        if self.tokens is None:
            return None
        self.tokens.take(tokens, at)
        return self.tokens.receipt()

    def leave(self) -> None:
        """Count a request out."""
        assert self.open_requests > 0, f"{self.whose} open requests are none, and one more ended"
        self.open_requests -= 1
