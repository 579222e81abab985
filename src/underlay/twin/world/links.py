"""Who gets how much of a link that several share, when does a stream of bytes end, and how late is a message?

Streams (weights, mostly) share links max-min fairly. Streams that cross the same tight links and have the same
ceiling are one class with one rate, so what is reckoned anew when one begins or ends is the classes that share a
tight link with it, directly or through others, and not the streams; once for all that happens at the same time. A
link is tight when its streams could fill it. To know that without looking at all of them, each class has a limit
that its rate may not exceed before its links are looked at again; limits are twice the rate, so that is seldom. The
end of the first stream of a class is an appointment, moved when the rate of the class changes.

Messages (requests, tokens) are too small to load a link: they wait behind streams, and are sent again when lost.
Refused here: who sends what and why, and which links lie between two places.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from heapq import heappop, heappush
from math import inf
from typing import Any

from underlay.domain.errors import NotFound
from underlay.physics.links import lossy_ceiling_bytes_s, queueing_s, retransmission_s
from underlay.twin.kernel import Action, Kernel
from underlay.twin.world.sharing import Link, Stream, StreamClass, fill, reach

#: A storage client reads with so many connections at once; assumed. It matters only where packets are lost.
CONNECTIONS = 64
#: Rates are reckoned after all else that happens at the same time.
_LAST = 9
_MARGIN = 1e-9
_FULL = 1.0 + _MARGIN
#: How much the rate of a class may grow before its links are looked at; beyond what it is brought down again when a
#: link is in doubt; and the share of a tight link below which it is loose again. In this order, so that none flaps.
_ROOM = 2.0
_STALE = 2.5
_LOOSE = 0.2


class Links:
    """All links and what is on them. Everything happens at ``kernel.at``."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.links: dict[str, Link] = {}
        self.streams = 0
        self._classes: dict[tuple[tuple[str, ...], float], StreamClass] = {}
        self._changed: dict[Link, None] = {}
        self._doubtful: dict[Link, None] = {}
        self._settling_at = -1.0
        self._epoch = 0
        self._count = 0

    def add(self, name: str, bytes_s: float, latency_s: float = 0.0, buffer_s: float = 0.0) -> Link:
        """A new link. Errors: ValueError if there is one of that name, or its figures are none."""
        if name in self.links:
            raise ValueError(f"There is a link {name} already.")
        link = self.links[name] = Link(name, bytes_s, latency_s, buffer_s)
        return link

    def link(self, name: str) -> Link:
        """The link of that name. Errors: NotFound, with what was perhaps meant."""
        found = self.links.get(name)
        if found is None:
            near = get_close_matches(name, self.links, n=1)
            raise NotFound(
                f"There is no link {name!r}{f'; did you mean {near[0]}?' if near else '.'}", param="link"
            )
        return found

    def begin(
        self, path: Sequence[Link], bytes_: float, done: Action, what: Any = None, ceiling_bytes_s: float = inf
    ) -> Stream:
        """Send so many bytes; ``done(at, what)`` when the last has arrived. ``ceiling_bytes_s``: what the ends can.

        Errors: ValueError for no bytes, or nothing that bounds the rate.
        """
        stream = Stream(path, bytes_, done, what, ceiling_bytes_s)
        if bytes_ <= 0.0 or (not path and ceiling_bytes_s == inf):
            raise ValueError("A stream has some bytes, and a link or a ceiling that bounds its rate.")
        self.streams += 1
        self._enter(stream)
        return stream

    def cancel(self, stream: Stream) -> None:
        """Stop a stream, wherever it is: ``done`` is not called. One that has ended is left alone."""
        if stream.ended:
            return
        stream.ended = True
        if stream.of is not None:
            self._quit(stream)
        self._close(stream)

    def degrade(self, link: Link, *, factor: float = 1.0, added_s: float = 0.0, loss: float = 0.0) -> None:
        """What ails a link from now on: the share of its rate left, seconds more, the share of packets lost.

        With nothing named it is whole again. Errors: ValueError for shares that are none.
        """
        if not (factor >= 0.0 and 0.0 <= loss < 1.0 and added_s >= 0.0):
            raise ValueError(f"A link cannot have {factor:g} of its rate, {added_s:g} s more and lose {loss:g}.")
        touched = list(link.streams)
        for stream in touched:
            self._quit(stream)
        link.factor, link.added_s, link.loss = factor, added_s, loss
        # What is lost is sent again.
        link.capacity_bytes_s = link.bytes_s * factor * (1.0 - loss)
        for stream in touched:
            self._enter(stream)

    def utilisation(self, link: Link) -> float:
        """The share of what a link has that its streams have."""
        used = link.used_bytes_s(self._epoch)
        return min(used / link.capacity_bytes_s, 1.0) if link.capacity_bytes_s else 1.0

    def delay_s(self, path: Sequence[Link]) -> float:
        """How long a message takes one way: crossing, waiting behind streams, being sent again when lost.

        It is the mean over losses; infinite over a link that is cut.
        """
        delay_s = crossing_s = 0.0
        arrives = 1.0
        for link in path:
            crossing_s += link.latency_s + link.added_s
            capacity = link.capacity_bytes_s
            if capacity <= 0.0:
                return inf
            if link.streams:
                delay_s += queueing_s(link.used_bytes_s(self._epoch) / capacity, capacity, link.buffer_s)
            arrives *= 1.0 - link.loss
        if arrives < 1.0:
            lost = 1.0 - arrives
            delay_s += lost / (1.0 - lost) * retransmission_s(2.0 * crossing_s)
        return delay_s + crossing_s

    def _enter(self, stream: Stream) -> None:
        """Put a stream on its links and into its class."""
        crossing_s = 2.0 * sum(link.latency_s + link.added_s for link in stream.path)
        ceiling = stream.asked_bytes_s
        for link in stream.path:
            lossy = lossy_ceiling_bytes_s(link.loss, crossing_s, CONNECTIONS) if link.loss else inf
            ceiling = min(ceiling, link.capacity_bytes_s, lossy)
        stream.ceiling_bytes_s = ceiling
        for link in stream.path:
            link.streams[stream] = None
        self._join(stream)

    def _quit(self, stream: Stream) -> None:
        """Take a stream off its links and out of its class; what it has not sent yet is left."""
        self._leave(stream)
        for link in stream.path:
            del link.streams[stream]
            if not link.streams:
                link.tight = False
                link.bound_bytes_s = 0.0

    def _regroup(self, link: Link, *, tight: bool) -> None:
        """A link begins or ceases to bound its streams: they change their classes."""
        link.tight = tight
        for stream in link.streams:
            self._leave(stream)
            self._join(stream)

    def _join(self, stream: Stream) -> None:
        links = tuple(link for link in stream.path if link.tight)
        key = (tuple(link.name for link in links), stream.ceiling_bytes_s)
        at = self.kernel.at
        joined = self._classes.get(key)
        if joined is None:
            joined = self._classes[key] = StreamClass(key, links, at)
            for link in links:
                link.classes[joined] = None
        joined.advance(at)
        self._count += 1
        stream.of = joined
        stream.entry = self._count
        stream.end = joined.served + stream.left
        joined.count += 1
        heappush(joined.queue, (stream.end, stream.entry, stream))
        self._limit(stream, joined.limit_bytes_s)
        self._change(joined)

    def _leave(self, stream: Stream) -> None:
        left = stream.of
        if left is None:
            return
        left.advance(self.kernel.at)
        stream.left = max(stream.end - left.served, 0.0)
        stream.of = None
        left.count -= 1
        self._limit(stream, 0.0)
        self._change(left)
        if not left.count:
            left.armed_at = inf
            del self._classes[left.key]
            for link in left.links:
                del link.classes[left]

    def _limit(self, stream: Stream, limit_bytes_s: float) -> None:
        """A stream counts with another rate on its links; one that may now be too full is looked at."""
        more = limit_bytes_s - stream.limit_bytes_s
        stream.limit_bytes_s = limit_bytes_s
        for link in stream.path:
            link.bound_bytes_s += more
            if more > 0.0 and not link.tight and link.fullness > _FULL:
                self._doubtful[link] = None
                self._ask()

    def _limit_all(self, of: StreamClass) -> None:
        """Let the rate of a class double before anybody looks at its links again."""
        of.limit_bytes_s = min(_ROOM * of.rate_bytes_s, of.ceiling_bytes_s)
        for stream in of.streams():
            self._limit(stream, of.limit_bytes_s)

    def _change(self, of: StreamClass) -> None:
        """A class has one stream more or less."""
        self._epoch += 1
        if of.links:
            for link in of.links:
                self._changed[link] = None
            self._ask()
        else:
            self._arm(of)

    def _ask(self) -> None:
        """Ask for rates to be reckoned anew, once all has happened that happens now."""
        if self._settling_at != self.kernel.at:
            self._settling_at = self.kernel.at
            self.kernel.call(self.kernel.at, self._settle, None, _LAST)

    def _settle(self, at: float, what: object) -> None:
        """Reckon rates on the links known to be tight, then see whether others are; as long as some are."""
        del at, what
        self._settling_at = self.kernel.at
        settled: dict[StreamClass, None] = {}
        for link in self._fill(settled):
            if link.tight and link.used_bytes_s(self._epoch) <= _LOOSE * link.capacity_bytes_s:
                self._regroup(link, tight=False)
        while True:
            self._fill(settled)
            if not self._tighten():
                break
        for of in settled:
            self._arm(of)
        self._settling_at = -1.0

    def _fill(self, settled: dict[StreamClass, None]) -> dict[Link, None]:
        """Give the classes on the changed links their fair rates; the links that those reach."""
        links, self._changed = self._changed, {}
        classes: dict[StreamClass, None] = {}
        for link in list(links):
            reach(link, links, classes)
        for of, rate_bytes_s in zip(classes, fill(links, classes), strict=True):
            of.advance(self.kernel.at)
            of.rate_bytes_s = rate_bytes_s
            if rate_bytes_s > of.limit_bytes_s:
                self._limit_all(of)
            settled[of] = None
        self._epoch += 1
        return links

    def _tighten(self) -> bool:
        """Of the doubtful links those become tight that are fullest: others may then have less to carry."""
        doubtful, self._doubtful = self._doubtful, {}
        full = [link for link in doubtful if not link.tight and self._is_full(link)]
        if not full:
            return False
        fullest = max(link.fullness for link in full)
        for link in full:
            if link.fullness >= 0.5 * fullest:
                self._regroup(link, tight=True)
            else:
                self._doubtful[link] = None
        return True

    def _is_full(self, link: Link) -> bool:
        """Whether a link may be too full even when the limits of its classes are near to their rates."""
        if link.fullness > _FULL:
            for of in dict.fromkeys(stream.of for stream in link.streams):
                if of is not None and of.limit_bytes_s > _STALE * of.rate_bytes_s:
                    self._limit_all(of)
        return link.fullness > _FULL

    def _arm(self, of: StreamClass) -> None:
        """See to it that somebody comes when the first stream of a class ends, or earlier."""
        first = of.first()
        if first is None or of.rate_bytes_s <= 0.0:
            return
        at = of.at + max(first.end - of.served, 0.0) / of.rate_bytes_s
        if at < of.armed_at:
            of.armed_at = at
            self.kernel.call(at, self._come, of)

    def _come(self, at: float, of: StreamClass) -> None:
        if at != of.armed_at:
            return
        of.armed_at = inf
        of.advance(at)
        reached = of.served + of.rate_bytes_s * _MARGIN + 1e-3
        ended: list[Stream] = []
        while (first := of.first()) is not None and first.end <= reached:
            heappop(of.queue)
            ended.append(first)
        for stream in ended:
            self._quit(stream)
            self.kernel.call(at + sum(link.latency_s + link.added_s for link in stream.path), self._arrive, stream)
        if of.count:
            self._arm(of)

    def _arrive(self, at: float, stream: Stream) -> None:
        if stream.ended:
            return
        stream.ended = True
        stream.left = 0.0
        self._close(stream)
        stream.done(at, stream.what)

    def _close(self, stream: Stream) -> None:
        self.streams -= 1
        for link in stream.path:
            link.carried_bytes += stream.bytes - stream.left
