"""Who is served next of those that wait for one model, and who goes when the line is full?

Decided from bands, tenants' counters and the order of coming. Bands are served in strict order, save that each
is owed its ``share`` of the work while it waits (deficit round robin; Shreedhar and Varghese, 1995). Inside a
band the tenant goes first that has received least (``fairness``), inside a tenant who came first. It refuses to
know replicas, deadlines and clocks: whether the next can be served now is the desk's question.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from underlay.domain.policy import Band

from .fairness import Counters

#: A band that cannot be served now, for whatever reason, is owed so many of its largest requests at the most.
_SAVED_MAX = 4.0


class Waiter(Protocol):
    """One that waits. Nothing of it may change while it is in the line.

    ``band`` is an index into the line's bands, ``cost`` the work it should be, in weighted tokens.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def band(self) -> int: ...  # noqa: D102
    @property
    def tenant(self) -> str: ...  # noqa: D102
    @property
    def cost(self) -> float: ...  # noqa: D102


W = TypeVar("W", bound=Waiter)


class _Queue(Generic[W]):
    """One tenant's waiters in one band. ``key`` and ``since`` are its entry's in the band's heap.

    Ordered dictionaries, as plain ones get slow when they are emptied from the front.
    """

    __slots__ = ("again", "fresh", "key", "since", "size", "tenant", "weight")

    def __init__(self, tenant: str, weight: float, key: float, since: int) -> None:
        self.tenant = tenant
        self.weight = weight
        self.key = key
        self.since = since
        self.size = 0
        self.again: OrderedDict[str, W] = OrderedDict()  # have been served before
        self.fresh: OrderedDict[str, W] = OrderedDict()

    def head(self, newest: bool) -> W:
        """Who is next. Who was served before has an answer to go on with: that is first either way."""
        if self.again:
            return self.again[next(iter(self.again))]
        fresh = self.fresh
        return fresh[next(reversed(fresh) if newest else iter(fresh))]

    def last(self) -> W:
        """Who came last, and has not been served before if any has not."""
        return next(reversed((self.fresh or self.again).values()))

    def before(self, name: str) -> int:
        """How many of its own tenant's are before this one."""
        return [*self.again, *self.fresh].index(name)

    def drop(self, name: str) -> None:
        if self.fresh.pop(name, None) is None:
            del self.again[name]


class _Row(Generic[W]):
    """The waiters of one band, by tenant. ``deficit`` is the work that the band is owed.

    ``cheapest`` and ``dearest`` bound the costs of all that have come since the band was empty.
    """

    __slots__ = ("cheapest", "count", "counters", "dearest", "deficit", "heap", "queues", "share", "weight")

    def __init__(self, band: Band, counters: Counters) -> None:
        self.share = band.share
        self.counters = counters
        self.count = 0
        self.queues: dict[str, _Queue[W]] = {}
        self.heap: list[tuple[float, int, str]] = []  # keys may lag behind counters, never lead
        self.deficit = self.weight = 0.0  # the weight of all tenants that wait
        self.cheapest, self.dearest = inf, 0.0

    def push(self, waiter: W, first: bool, since: int) -> None:
        queue = self.queues.get(waiter.tenant)
        if queue is None:
            queue = self._open(waiter.tenant, since)
        line, cost = queue.again if first else queue.fresh, waiter.cost
        assert waiter.name not in line, f"{waiter.name} waits already"
        line[waiter.name] = waiter
        queue.size += 1
        self.count += 1
        self.dearest = max(self.dearest, cost)
        self.cheapest = min(self.cheapest, cost)

    def drop(self, waiter: W) -> None:
        queue = self.queues[waiter.tenant]
        queue.drop(waiter.name)
        queue.size -= 1
        self.count -= 1
        if queue.size == 0:
            del self.queues[waiter.tenant]
            self.weight -= queue.weight
            if self.count == 0:
                self._reset()
            elif len(self.heap) > 2 * len(self.queues) + 16:
                self._tidy()

    def first(self) -> _Queue[W]:
        """The queue of the tenant with the least counter; the band is not empty."""
        heap, queues, value_of = self.heap, self.queues, self.counters.value
        while True:
            key, since, tenant = heap[0]
            queue = queues.get(tenant)
            if queue is None or queue.since != since or queue.key != key:
                heappop(heap)
                continue
            value = value_of(tenant)
            if value <= key:
                return queue
            queue.key = value
            heapreplace(heap, (value, since, tenant))

    def others(self, first: _Queue[W]) -> Iterator[_Queue[W]]:
        """The queues after the first, least counter first: the heap is walked down, not sorted."""
        entries = list(self.heap)  # the line may change meanwhile
        seen = {first.tenant}
        front = [(*entry, place) for place, entry in enumerate(entries[:1])]
        while front:
            key, since, tenant, place = heappop(front)
            for child in range(2 * place + 1, min(2 * place + 3, len(entries))):
                heappush(front, (*entries[child], child))
            queue = self.queues.get(tenant)
            if queue is None or queue.since != since or tenant in seen:
                continue
            value = self.counters.value(tenant)
            if value > key:
                heappush(front, (value, since, tenant, len(entries)))  # again, without its children
                continue
            seen.add(tenant)
            yield queue

    def sink(self, tenant: str) -> None:
        """The tenant's counter went down: it must be found earlier."""
        queue = self.queues.get(tenant)
        if queue is not None and (value := self.counters.value(tenant)) < queue.key:
            queue.key = value
            heappush(self.heap, (value, queue.since, tenant))

    def ahead(self, tenant: str, own: int) -> float:
        """How many of this band would go before one that has so many of its own tenant's before it.

        For each of these all other tenants have a turn too, by weight, as far as they have waiters; and one turn
        more if the tenant is not the next to be served.
        """
        if self.count == 0:
            return 0.0
        queue, turns = self.queues.get(tenant), own + (self.counters.value(tenant) > self.first().key)
        if queue is None:
            return own + min(self.count, turns * self.weight / self.counters.weight(tenant))
        return own + min(self.count - queue.size, turns * (self.weight - queue.weight) / queue.weight)

    def longest(self) -> _Queue[W]:
        """The queue of the tenant with most waiting. Looked for, as keeping it cost everybody a microsecond."""
        return max(self.queues.values(), key=attrgetter("size"))

    def due(self, newest: bool) -> bool:
        """Whether what the band is owed covers its head."""
        deficit = self.deficit
        return deficit >= self.cheapest and self.count > 0 and deficit >= self.first().head(newest).cost

    def owe(self, cost: float) -> None:
        """Count what the band is owed of such a piece of work; within bounds, if it cannot be served."""
        most = _SAVED_MAX * max(cost, self.dearest)
        self.deficit = max(self.deficit, min(self.deficit + self.share * cost, most))

    def check(self, band: int) -> None:
        """Verify that what is counted and sorted agrees with who is there."""
        assert self.count == sum(queue.size for queue in self.queues.values())
        assert self.deficit >= 0.0
        assert self.count or not (self.heap or self.deficit or self.weight)
        entries = set(self.heap)
        for tenant, queue in self.queues.items():
            waiters = [*queue.again.values(), *queue.fresh.values()]
            assert len(waiters) == queue.size > 0
            assert all(each.band == band and each.tenant == tenant for each in waiters)
            assert (queue.key, queue.since, tenant) in entries
            assert queue.key <= self.counters.value(tenant), f"{tenant} would be found too late"
            assert all(self.cheapest <= each.cost <= self.dearest for each in waiters)

    def _open(self, tenant: str, since: int) -> _Queue[W]:
        counters = self.counters
        key = counters.value(tenant)
        queue: _Queue[W] = _Queue(tenant, counters.weight(tenant), key, since)
        self.queues[tenant] = queue
        self.weight += queue.weight
        heappush(self.heap, (key, since, tenant))
        return queue

    def _reset(self) -> None:
        self.heap.clear()
        self.deficit = self.weight = 0.0
        self.cheapest, self.dearest = inf, 0.0

    def _tidy(self) -> None:
        """Forget the entries of those that left; they are many now, so that each cost little."""
        self.heap = [(queue.key, queue.since, tenant) for tenant, queue in self.queues.items()]
        heapify(self.heap)


class Line(Generic[W]):
    """Who waits for one model."""

    __slots__ = ("_counters", "_pushed", "_rows", "size")

    def __init__(self, bands: Sequence[Band], counters: Counters) -> None:
        self._counters = counters
        self._rows: list[_Row[W]] = [_Row(band, counters) for band in bands]
        self._pushed = 0
        self.size = 0
        counters.watch(self._sink)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[W]:
        for row in self._rows:
            for queue in row.queues.values():
                yield from queue.again.values()
                yield from queue.fresh.values()

    def push(self, waiter: W, *, first: bool = False) -> None:
        """Take one in, at the end of its tenant's queue.

        With ``first``, for one that was served before: ahead of all of its tenant's that were not.
        """
        self._pushed += 1
        self.size += 1
        self._rows[waiter.band].push(waiter, first, self._pushed)

    def remove(self, waiter: W) -> None:
        """Let one go that was not served."""
        self._rows[waiter.band].drop(waiter)
        self.size -= 1

    def heads(self, newest: bool = False) -> Iterator[W]:
        """One waiter of each band and tenant, in the order in which they should be served now.

        With ``newest`` each tenant's newest instead of its oldest: under overload the oldest have mostly given
        up ("Fail at Scale"). Never across tenants, or the busiest would push all others out. The line may
        change while this is read; what was read of it before stays as it was.
        """
        owed = [row for row in self._rows if row.deficit and row.due(newest)]
        rows = [*owed, *(row for row in self._rows if row not in owed)] if owed else self._rows
        for row in rows:
            if row.count:
                first = row.first()
                yield first.head(newest)
                for queue in row.others(first):
                    yield queue.head(newest)

    def serve(self, waiter: W) -> None:
        """Let one go because it is served: its band pays, and all bands that still wait are owed more."""
        served, cost = self._rows[waiter.band], waiter.cost
        if served.deficit:
            served.deficit = max(0.0, served.deficit - cost)
        served.drop(waiter)
        self.size -= 1
        for row in self._rows:
            if row.count and row.share:
                row.owe(cost)

    def ahead(self, band: int, tenant: str) -> int:
        """How many would be served before a newcomer of this band and tenant, if no more came; an estimate."""
        queue = self._rows[band].queues.get(tenant)
        return self._ahead(band, tenant, queue.size if queue is not None else 0)

    def place(self, waiter: W) -> int:
        """At which place this one waits, from 1; an estimate."""
        queue = self._rows[waiter.band].queues[waiter.tenant]
        return 1 + self._ahead(waiter.band, waiter.tenant, queue.before(waiter.name))

    def spare(self, band: int, tenant: str) -> W | None:
        """Whom to send away from a full line for a newcomer of this band and tenant; ``None``: the newcomer.

        The lowest band loses first, in it the tenant with most waiting, of that the newest. In the newcomer's
        own band only a tenant that has more waiting than the newcomer's would have with it.
        """
        lowest = next((index for index in range(len(self._rows) - 1, -1, -1) if self._rows[index].count), -1)
        if lowest < band:
            return None
        row = self._rows[lowest]
        longest, own = row.longest(), row.queues.get(tenant)
        if lowest == band and longest.size <= 1 + (own.size if own is not None else 0):
            return None
        return longest.last()

    def check(self) -> None:
        """Verify the whole state."""
        assert self.size == sum(row.count for row in self._rows)
        for band, row in enumerate(self._rows):
            row.check(band)

    def _ahead(self, band: int, tenant: str, own: int) -> int:
        """All of higher bands, unless the band's share gets it served sooner; and what lower ones are owed."""
        rows = self._rows
        row = rows[band]
        before = row.ahead(tenant, own)
        higher = float(sum([each.count for each in rows[:band]]))
        if higher and row.share:
            higher = min(higher, (before + 1.0) / row.share - before - 1.0)
        ahead = before + higher
        return int(ahead + sum([min(each.count, ahead * each.share) for each in rows[band + 1 :]]))

    def _sink(self, tenant: str) -> None:
        for row in self._rows:
            row.sink(tenant)
