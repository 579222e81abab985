"""Should a second copy of a request be sent, as its first token is late?

Decided from how late first tokens are as a rule, how late this one is, and what copies may cost (Dean and Barroso,
"The Tail at Scale", 2013). Only short prompts are worth it, as a prompt's prefill is the price; only when there is
room, as copies on a busy platform make everybody later; and only a small share of all requests, with no floor for
quiet times (Finagle's BackupRequestFilter), as copies must never be what overloads it. It refuses to know where a
copy goes and which of the two wins.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import frexp, inf, ldexp

#: Uncached tokens of a prompt that is cheap enough to be computed twice.
SHORT_TOKENS = 2048
#: From this part of the slots in use on nothing is copied.
BUSY_SHARE = 0.7
#: Rules are made from so many samples at least.
_SAMPLES_MIN = 16
_LATE_SHARE = 0.05
#: A first token within so many times its expectation is not late.
_PATIENCE = 2.0
#: Copies that may be saved up while none is needed.
_SAVED_MAX = 10.0
#: The histogram: eight steps per doubling, from 2**-14 s (61 us) to 2**10 s (17 minutes); halved now and then.
_STEPS = 8
_LEAST_EXPONENT = -13
_BUCKETS = 24 * _STEPS
_HALVE_AT = 512


class LatePoint:
    """The time within which 95 % of recent first tokens came, to an eighth; fades, to follow the day.

    Looked for anew after every sixteenth sample.
    """

    __slots__ = ("_counts", "_fresh", "_late_s", "_total")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._total = 0
        self._fresh = 0  # samples since the point was last looked for
        self._late_s = inf

    def add(self, took_s: float) -> None:
        """Count one."""
        mantissa, exponent = frexp(took_s)
        bucket = (exponent - _LEAST_EXPONENT) * _STEPS + int((mantissa - 0.5) * 2 * _STEPS)
        self._counts[min(max(bucket, 0), _BUCKETS - 1)] += 1
        self._total += 1
        self._fresh += 1
        if self._total >= _HALVE_AT:
            self._counts = [count >> 1 for count in self._counts]
            self._total = sum(self._counts)

    def after_s(self) -> float:
        """The point; infinite while too little is known."""
        if self._fresh >= _SAMPLES_MIN:
            self._late_s = self._find()
            self._fresh = 0
        return self._late_s

    def _find(self) -> float:
        later = 0
        for bucket in range(_BUCKETS - 1, -1, -1):
            later += self._counts[bucket]
            if later > _LATE_SHARE * self._total:
                exponent, step = divmod(bucket, _STEPS)
                return ldexp(0.5 + (step + 1) / (2 * _STEPS), exponent + _LEAST_EXPONENT)
        return inf


class Hedger:
    """Knows which first attempts await their first token, and which of them deserve a copy.

    Copies are at most ``share`` of the first attempts; 0 turns all of it off.
    """

    __slots__ = ("_credit", "_due", "_late", "_queue", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self._credit = 0.0  # copies that may be made
        self._late = LatePoint()
        self._due: dict[str, float] = {}  # ticket -> when its first token is late; infinite: never (again)
        self._queue: list[tuple[float, str]] = []  # a heap; entries that differ from ``_due`` are void

    def dispatched(self, ticket: str, uncached_tokens: int, expected_s: float, at: float) -> None:
        """A first attempt began."""
        if not self.share:
            return
        self._credit = min(self._credit + self.share, _SAVED_MAX)
        if uncached_tokens > SHORT_TOKENS or ticket in self._due:
            return
        due = at + max(self._late.after_s(), _PATIENCE * expected_s)
        self._due[ticket] = due
        if due != inf:
            heappush(self._queue, (due, ticket))

    def heard(self, ticket: str, ttft_s: float) -> None:
        """Its first token came, from whichever copy, so long after it began."""
        if ticket in self._due:
            del self._due[ticket]
            self._late.add(ttft_s)

    def gone(self, ticket: str) -> None:
        """It will not have a first token from this attempt: the attempt failed or its caller left."""
        self._due.pop(ticket, None)

    def due(self, at: float, utilisation: float) -> list[str]:
        """The tickets that get a copy now, those late for longest first; each is named once.

        One that is late at a busy time or over the budget gets none later either: the gain shrinks as it waits.
        """
        named = []
        while (first := self.next_at()) is not None and first <= at:
            ticket = heappop(self._queue)[1]
            self._due[ticket] = inf  # remembered: how late it became in the end is learnt, too
            if utilisation < BUSY_SHARE and self._credit >= 1.0:
                self._credit -= 1.0
                named.append(ticket)
        return named

    def next_at(self) -> float | None:
        """When to ask for ``due`` again; ``None`` while nothing is awaited."""
        queue = self._queue
        while queue:
            due, ticket = queue[0]
            if self._due.get(ticket) == due:
                return due
            heappop(queue)
        return None
