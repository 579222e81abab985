"""What is known of the replicas: who is there, what each carries, how fast it has been.

Decided here is only what follows from that without a choice: whether a replica takes more now, and how long it
should take to a first token. Load is what the desk itself leased, never what a gauge said a moment ago (gauges
lag, and make routers herd); speed is learnt from what was measured. It refuses to know prompts and callers.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from .fading import FadingLine

if TYPE_CHECKING:
    from .concurrency import Limit

#: Pools up to this size are looked at whole: shorter than keeping order in them.
SCAN_MAX = 16
#: How many of the least pressed replicas of a larger pool are looked at.
LOOK_AT = 8
#: How many of a larger pool are kept in order: this part, and so many at least. The whole order took three times
#: as long to keep, and to draw a new front up when one is used up takes little of all that is asked of it.
_FRONT_PART = 16
_FRONT_MIN = 64
#: A prompt's usual tokens, where pressures are compared before the prompt is known.
_USUAL_TOKENS = 256
#: From so many measurements on a replica is believed more than its pool.
_OWN_FROM = 3
#: A pool learns from the first few measurements of each replica, and then from each so-manieth.
_TOLD_ALL = 32
_TOLD_EACH = 8
#: Until something was measured: a small accelerator's.
_PRIOR_TOKEN_S = 1 / 5000


class Pace:
    """How fast a replica is, learnt online: seconds to the first token as ``base_s + tokens * token_s``.

    ``tokens`` are all uncached prompt tokens the replica had before it at that moment, so that queueing inside
    the engine is part of it. ``itl_s`` is the time between tokens. A replica that has shown little is taken to be
    like its pool (``peers``).
    """

    __slots__ = ("_line", "_peers", "_told", "base_s", "itl_s", "token_s")

    def __init__(self, peers: Pace | None = None) -> None:
        self._peers = peers
        self._told = 0
        self.base_s: float = peers.base_s if peers else 0.0
        self.token_s: float = peers.token_s if peers else _PRIOR_TOKEN_S
        self.itl_s: float = peers.itl_s if peers else 0.0
        self._line = FadingLine(self.base_s, self.token_s)

    @property
    def known(self) -> bool:
        """Whether something was measured."""
        return self._line.count > 0

    def prefilled(self, tokens: int, took_s: float) -> None:
        """Learn that ``tokens`` uncached tokens took that long to a first token."""
        line, peers = self._line, self._peers
        if peers is not None:
            self._told = told = self._told + 1
            if told > _TOLD_ALL and told % 2:
                return  # it is known well by now: every other measurement keeps it so
            if told < _TOLD_ALL or not told % _TOLD_EACH:
                peers.prefilled(tokens, took_s)
        line.add(tokens, took_s)
        if peers is not None and self._told < _OWN_FROM:
            line = peers._line  # noqa: SLF001 - its own kind
        self.base_s, self.token_s = line.base, line.slope

    def first_token_s(self, tokens: int) -> float:
        """How long so many uncached tokens should take to a first token."""
        return self.base_s + tokens * self.token_s

    def decoded(self, tokens: int, took_s: float) -> None:
        """Learn that ``tokens`` came, one after the other, in that time."""
        if tokens <= 0 or took_s <= 0.0:
            return
        if self._peers is not None and self._told < _TOLD_ALL:
            self._peers.decoded(tokens, took_s)
        measured = took_s / tokens
        self.itl_s = measured if self.itl_s == 0.0 else self.itl_s + 0.05 * (measured - self.itl_s)


class Segment:
    """Links that came together after the same beginning. ``touched`` and ``queued`` count insertions."""

    __slots__ = ("children", "links", "parent", "queued", "touched")

    def __init__(self, links: list[int], parent: Segment | None, at: int) -> None:
        self.links = links
        self.parent = parent
        self.children = 0
        self.touched = self.queued = at


#: A replica's place among its pool's by pressure; of equals the one not chosen for longest comes first.
Rank = tuple[float, int, int, "Replica"]


class Replica:
    """What the desk knows of a replica. Changed through its ``Pool`` only.

    ``load`` counts leased strands, ``prefill_tokens`` uncached prompt tokens whose first answer is awaited,
    ``cost`` the expected work of all leases (``concurrency``); ``capacity`` is how many strands it may have
    now, at most its ``slots``. ``turn`` is when it was last chosen, ``number`` when it joined. ``blocks`` is what
    the prefix index takes it to hold.
    """

    __slots__ = (
        "blocks",
        "blocks_max",
        "capacity",
        "cost",
        "drain_until",
        "ejections",
        "generation",
        "limit",
        "load",
        "model",
        "moved",
        "name",
        "number",
        "pace",
        "place",
        "prefill_tokens",
        "ramp_from",
        "rank",
        "slots",
        "state",
        "strikes",
        "suspect_until",
        "turn",
    )

    def __init__(
        self, name: str, model: str, slots: int, generation: int, pace: Pace | None = None, number: int = 0
    ) -> None:
        self.name = name
        self.number = number
        self.model = model
        self.slots = self.capacity = slots
        self.generation = generation
        self.pace = pace or Pace()
        self.state = "ready"
        self.load = 0
        self.prefill_tokens = 0
        self.cost = 0.0
        self.limit: Limit | None = None
        self.strikes = 0
        self.ejections = 0
        self.suspect_until = 0.0
        self.ramp_from: float | None = None
        self.drain_until = 0.0
        self.turn = 0
        self.blocks: dict[int, Segment] = {}
        self.blocks_max = 0
        self.place = -1  # in its pool's open list
        self.rank: Rank | None = None  # as its pool has it in order
        self.moved = False  # its rank may be another by now

    def takes(self, strands: int) -> bool:
        """Whether this many strands may start now; an idle replica takes more than its slots, in turns."""
        if self.load == 0:
            return True
        limit = self.limit
        return self.load + strands <= self.capacity and (limit is None or self.cost < limit.cost)

    def first_token_s(self, uncached_tokens: int) -> float:
        """How long a prompt with so many uncached tokens should wait for its first token, if it came now."""
        pace = self.pace
        return pace.base_s + (self.prefill_tokens + uncached_tokens) * pace.token_s

    def score(self, uncached_tokens: int) -> float:
        """What it costs to give it the prompt: expected time to the first token times the batch it joins.

        The product needs no weights (LMetric, arXiv 2603.15202): the first factor matters while prompts are
        long, the second while answers are.
        """
        pace = self.pace
        return (pace.base_s + (self.prefill_tokens + uncached_tokens) * pace.token_s) * (self.load + 1)


class Lease:
    """One attempt's claim on a replica. Taken and given back through the ``Pool``, once each.

    ``ahead_tokens`` are the uncached prompt tokens that the replica had to compute before its first token, its
    own among them; ``cached_tokens`` how many of its prompt's were expected in the cache. ``prefilling`` as long
    as no token has come, at ``first_at``.
    """

    __slots__ = (
        "ahead_tokens",
        "at",
        "attempt",
        "cached_tokens",
        "cost",
        "first_at",
        "prefilling",
        "replica",
        "strands",
        "uncached_tokens",
    )

    def __init__(
        self,
        replica: Replica,
        attempt: int,
        at: float,
        strands: int,
        uncached_tokens: int,
        cached_tokens: int,
        ahead_tokens: int,
        cost: float,
        first_at: float,
        prefilling: bool = True,
    ) -> None:
        self.replica = replica
        self.attempt = attempt
        self.at = at
        self.strands = strands
        self.uncached_tokens = uncached_tokens
        self.cached_tokens = cached_tokens
        self.ahead_tokens = ahead_tokens
        self.cost = cost
        self.first_at = first_at
        self.prefilling = prefilling


class Pool:
    """The replicas of one model. ``open`` are those that take another strand now, in no order.

    Keeping that list costs a few steps per lease; looking through a thousand full replicas for the free one
    cost 700 microseconds per request.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.members: dict[str, Replica] = {}
        self.open: list[Replica] = []
        self.ready = 0
        self.slots = 0  # of those that are ready
        self.load = 0
        self.pace = Pace()
        self._turn = 0
        self._joined = 0
        self._front: list[Rank] = []  # in order: all that are open up to the edge, but for ``_moved``
        self._front_max = 0
        self._edge = inf
        self._moved: list[Replica] = []  # changed since

    def join(self, name: str, slots: int, generation: int) -> Replica:
        """Take in a replica that was not known."""
        self._joined += 1
        replica = Replica(name, self.model, slots, generation, Pace(self.pace), self._joined)
        self.members[name] = replica
        self.ready += 1
        self.slots += slots
        self.changed(replica)
        return replica

    def leave(self, replica: Replica) -> None:
        """Forget a replica (it serves another model now); it carries nothing any more."""
        assert replica.load == 0, f"{replica.name} left with {replica.load} leases"
        self.set_state(replica, "gone")
        del self.members[replica.name]

    def set_state(self, replica: Replica, state: str) -> None:
        """Note a step of its life."""
        was_ready, is_ready = replica.state == "ready", state == "ready"
        replica.state = state
        if was_ready != is_ready:
            sign = 1 if is_ready else -1
            self.ready += sign
            self.slots += sign * replica.slots
        self.changed(replica)

    def resize(self, replica: Replica, slots: int) -> None:
        """Note that it has other slots than before."""
        if replica.state == "ready":
            self.slots += slots - replica.slots
        replica.slots = replica.capacity = slots
        self.changed(replica)

    def changed(self, replica: Replica) -> None:
        """Put it where it belongs after a change of its load, state or capacity."""
        limit, load = replica.limit, replica.load
        opened = replica.state == "ready" and (
            load == 0 or (load < replica.capacity and (limit is None or replica.cost < limit.cost))
        )  # ``takes(1)``, spelled out: this runs three times per request
        if opened != (replica.place >= 0):
            self._open(replica) if opened else self._shut(replica)
        if not replica.moved:
            replica.moved = True
            self._moved.append(replica)

    def _open(self, replica: Replica) -> None:
        replica.place = len(self.open)
        self.open.append(replica)

    def _shut(self, replica: Replica) -> None:
        last = self.open.pop()
        if last is not replica:
            self.open[replica.place] = last
            last.place = replica.place
        replica.place = -1

    # Leases.

    def take(
        self, replica: Replica, attempt: int, at: float, strands: int, uncached: int, cached: int, cost: float
    ) -> Lease:
        """Lease strands on a replica."""
        self._turn = replica.turn = self._turn + 1
        replica.load += strands
        replica.prefill_tokens = ahead = replica.prefill_tokens + uncached
        replica.cost += cost
        self.load += strands
        self.changed(replica)
        return Lease(replica, attempt, at, strands, uncached, cached, ahead, cost, at)

    def first_token(self, lease: Lease, at: float) -> None:
        """Note that the lease's prompt has been computed."""
        if lease.prefilling:
            lease.prefilling, lease.first_at = False, at
            lease.replica.prefill_tokens -= lease.uncached_tokens
        self.changed(lease.replica)  # its pace has been learnt anew, too

    def give_back(self, lease: Lease) -> None:
        """Give a lease back. Whoever does so drops it: a second time would show in ``check``."""
        replica = lease.replica
        if lease.prefilling:
            replica.prefill_tokens -= lease.uncached_tokens
        replica.load -= lease.strands
        replica.cost = replica.cost - lease.cost if replica.load else 0.0  # no sediment of rounding
        self.load -= lease.strands
        self.changed(replica)

    # Looking for the least pressed.

    def least_pressed(self) -> Sequence[Replica]:
        """The open replicas with least pressure: all of a small pool, the first few of a large one."""
        if len(self.open) <= SCAN_MAX:
            return self.open
        self._put_in_order()
        return [rank[3] for rank in self._front[:LOOK_AT]]

    def _put_in_order(self) -> None:
        """Give those that changed since it was last asked for the place in the front that they have now.

        A sorted list is searched in a few steps; of a heap the first few are found by taking them out.
        """
        front, edge = self._front, self._edge
        for replica in self._moved:
            replica.moved = False
            if replica.rank is not None:
                del front[bisect_left(front, replica.rank)]
                replica.rank = None
            if replica.place >= 0 and (score := replica.score(_USUAL_TOKENS)) <= edge:
                replica.rank = rank = (score, replica.turn, replica.number, replica)
                insort(front, rank)
        self._moved.clear()
        if len(front) < LOOK_AT:
            self._draw_edge(sorted([(r.score(_USUAL_TOKENS), r.turn, r.number, r) for r in self.open]))
        elif len(front) > self._front_max:
            self._draw_edge(front)

    def _draw_edge(self, ranks: list[Rank]) -> None:
        """Make the first of these the front. Nobody asks for the order of the others before it is used up."""
        for rank in self._front:
            rank[3].rank = None
        self._edge, size = inf, max(_FRONT_MIN, len(self.members) // _FRONT_PART)
        if len(ranks) > size:
            self._edge = ranks[size - 1][0]
            ranks = [rank for rank in ranks if rank[0] <= self._edge]
        for rank in ranks:
            rank[3].rank = rank
        self._front, self._front_max = ranks, 2 * len(ranks)

    def check(self) -> None:
        """Verify that lists and sums agree with the replicas; raises ``AssertionError``."""
        members = self.members.values()
        opened = {r.name for r in members if r.state == "ready" and r.takes(1)}
        assert {r.name for r in self.open} == opened, f"open are {[r.name for r in self.open]}, not {opened}"
        assert all(self.open[r.place] is r for r in self.open), "a replica is not where it thinks it is"
        assert self.ready == sum(r.state == "ready" for r in members)
        assert self.slots == sum(r.slots for r in members if r.state == "ready")
        assert self.load == sum(r.load for r in members)
        ranked = [r.rank for r in {*members, *self._moved} if r.rank is not None]
        assert self._front == sorted(ranked), "the least pressed do not come first"
        assert all(r.rank is None or r.place >= 0 for r in members if not r.moved), "one in front is not open"
