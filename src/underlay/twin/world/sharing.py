"""What is a fair share of links for the streams on them?

Max-min fairness: no stream could have more without another having less that has no more than it; it is found by
progressive filling (Bertsekas and Gallager, Data Networks, 6.5.2). Refused here: when streams begin and end.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from math import inf
from operator import itemgetter
from typing import Any

from underlay.twin.kernel import Action


class Link:
    """One link, one way. ``factor``, ``added_s`` and ``loss`` are what ails it; ``carried_bytes`` have passed."""

    __slots__ = (
        "_used",
        "added_s",
        "bound_bytes_s",
        "buffer_s",
        "bytes_s",
        "capacity_bytes_s",
        "carried_bytes",
        "classes",
        "factor",
        "latency_s",
        "loss",
        "name",
        "streams",
        "tight",
    )

    def __init__(self, name: str, bytes_s: float, latency_s: float, buffer_s: float) -> None:
        if bytes_s <= 0.0 or latency_s < 0.0 or buffer_s < 0.0:
            raise ValueError(f"The link {name} needs a rate above 0 and no negative times.")
        self.name = name
        self.bytes_s = bytes_s
        self.latency_s = latency_s
        self.buffer_s = buffer_s
        self.factor = 1.0
        self.added_s = 0.0
        self.loss = 0.0
        self.capacity_bytes_s = bytes_s
        self.carried_bytes = 0.0
        #: The rates of its streams, as long as they keep to their limits, come to no more than this.
        self.bound_bytes_s = 0.0
        self.tight = False
        self.streams: dict[Stream, None] = {}
        self.classes: dict[StreamClass, None] = {}
        self._used = (-1, 0.0)

    @property
    def fullness(self) -> float:
        """How full it is at most, as long as its streams keep to their limits: 1 is full."""
        return self.bound_bytes_s / self.capacity_bytes_s if self.capacity_bytes_s else 0.0

    def used_bytes_s(self, epoch: int) -> float:
        """What its streams have now; ``epoch`` tells when rates have changed."""
        if self._used[0] != epoch:
            rates = (
                (of.rate_bytes_s * of.count for of in self.classes)
                if self.tight
                else (stream.rate_bytes_s for stream in self.streams)
            )
            self._used = (epoch, sum(rates))
        return self._used[1]

    def __repr__(self) -> str:
        return f"Link({self.name}, {self.capacity_bytes_s / 1e9:g} GB/s, {len(self.streams)} streams)"


class Stream:
    """Some bytes on their way over a path. ``what`` is handed to ``done`` when the last one has arrived."""

    __slots__ = (
        "asked_bytes_s",
        "bytes",
        "ceiling_bytes_s",
        "done",
        "end",
        "ended",
        "entry",
        "left",
        "limit_bytes_s",
        "of",
        "path",
        "what",
    )

    def __init__(self, path: Sequence[Link], bytes_: float, done: Action, what: Any, asked_bytes_s: float) -> None:
        self.path = tuple(path)
        self.bytes = bytes_
        self.left = bytes_
        self.done = done
        self.what = what
        self.asked_bytes_s = asked_bytes_s
        self.ceiling_bytes_s = asked_bytes_s
        self.limit_bytes_s = 0.0
        self.end = 0.0
        self.entry = 0
        self.of: StreamClass | None = None
        self.ended = False

    @property
    def rate_bytes_s(self) -> float:
        """What it has now."""
        return 0.0 if self.of is None else self.of.rate_bytes_s


class StreamClass:
    """Streams with the same tight links and ceiling. No link needs to be looked at until a rate exceeds its limit.

    ``served`` counts the bytes that each would have had, had it been in the class since its beginning; so a stream
    ends when ``served`` reaches what it was when the stream joined, and its bytes.
    """

    __slots__ = (
        "armed_at",
        "at",
        "ceiling_bytes_s",
        "count",
        "key",
        "limit_bytes_s",
        "links",
        "queue",
        "rate_bytes_s",
        "served",
    )

    def __init__(self, key: tuple[tuple[str, ...], float], links: tuple[Link, ...], at: float) -> None:
        self.key = key
        self.links = links
        self.ceiling_bytes_s = key[1]
        self.rate_bytes_s = 0.0 if links else key[1]
        self.limit_bytes_s = key[1]
        self.served = 0.0
        self.at = at
        self.count = 0
        self.armed_at = inf
        self.queue: list[tuple[float, int, Stream]] = []

    def advance(self, at: float) -> None:
        """Count what each stream has had until now."""
        self.served += self.rate_bytes_s * (at - self.at)
        self.at = at

    def first(self) -> Stream | None:
        """The stream that ends first; those that have left the class are passed over."""
        queue = self.queue
        while queue:
            _, entry, stream = queue[0]
            if stream.of is self and stream.entry == entry:
                return stream
            heappop(queue)
        return None

    def streams(self) -> list[Stream]:
        """All streams in it, in the order of their joining."""
        queue = sorted(self.queue, key=itemgetter(1))
        return [stream for _, entry, stream in queue if stream.of is self and stream.entry == entry]


def reach(link: Link, links: dict[Link, None], classes: dict[StreamClass, None]) -> None:
    """Add all links and classes that share a stream with this one, directly or through others."""
    waiting = [link]
    while waiting:
        for of in waiting.pop().classes:
            if of in classes:
                continue
            classes[of] = None
            for other in of.links:
                if other not in links:
                    links[other] = None
                    waiting.append(other)


def fill(links: dict[Link, None], classes: dict[StreamClass, None]) -> list[float]:
    """The max-min fair rate of one stream of each class.

    All rise together; a class stops at its ceiling, or where one of its links is full. The level at which a link is
    full only rises while others stop, so a link that comes up in the queue too early is put back.
    """
    rates: dict[StreamClass, float] = {}
    left = {link: link.capacity_bytes_s for link in links}
    rising = {link: sum(of.count for of in link.classes) for link in links}
    queue = [(left[link] / rising[link], place, link) for place, link in enumerate(links) if rising[link]]
    heapify(queue)
    low = sorted(classes, key=_ceiling)
    lowest = 0
    while len(rates) < len(classes):
        while queue and not rising[queue[0][2]]:
            heappop(queue)
        level, place, link = queue[0] if queue else (inf, 0, None)
        while lowest < len(low) and low[lowest] in rates:
            lowest += 1
        if low[lowest].ceiling_bytes_s <= level:
            _stop(low[lowest], low[lowest].ceiling_bytes_s, rates, left, rising)
            continue
        assert link is not None
        now = max(left[link], 0.0) / rising[link]
        if now > level:
            heapreplace(queue, (now, place, link))
            continue
        for of in link.classes:
            if of not in rates:
                _stop(of, level, rates, left, rising)
    return [rates[of] for of in classes]


def _stop(
    of: StreamClass, rate: float, rates: dict[StreamClass, float], left: dict[Link, float], rising: dict[Link, int]
) -> None:
    rates[of] = rate
    for link in of.links:
        left[link] -= rate * of.count
        rising[link] -= of.count


def _ceiling(of: StreamClass) -> float:
    return of.ceiling_bytes_s
