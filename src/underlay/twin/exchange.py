"""A request between its caller and the engines that work on it: what the live driver's exchange is to a socket."""

from __future__ import annotations

from copy import deepcopy
from random import Random
from typing import Any

from .crowd.call import Call, Crowd
from .engine.request import Request
from .modelled import Modelled


class Stream:
    """A crowd at work: what it calls next, and the dice that its follow-ups use.

    A crowd's calls come out of a generator, which cannot be copied. So a copy draws again, from dice as they were
    in the beginning, and leaves out what was drawn.
    """

    __slots__ = ("_beginning", "_calls", "_drawn", "crowd", "dice")

    def __init__(self, crowd: Crowd, draws: Random, dice: Random) -> None:
        self.crowd = crowd
        self.dice = dice
        self._beginning = draws.getstate()
        self._drawn = 0
        self._calls = crowd.calls(draws)

    def next_call(self) -> Call | None:
        """The crowd's next call that comes of nothing but time; ``None`` after the last."""
        self._drawn += 1
        return next(self._calls, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Stream:
        """The same crowd, called on by dice that begin and go on alike: iterators themselves cannot be copied."""
        draws = Random()  # noqa: S311 -- it must repeat
        draws.setstate(self._beginning)
        copy = memo[id(self)] = Stream(self.crowd, draws, deepcopy(self.dice, memo))
        for _ in range(self._drawn):
            copy.next_call()
        return copy


class Exchange:
    """One call on its way through a platform.

    ``delivered`` tokens have come from attempts that ended; ``attempt`` is the one that counts now, ``rival`` one
    that a hedge was sent beside. ``way_s`` is one way between caller and door, ``source`` where it came from,
    ``served_by`` the replica that was given it last. Where accounts are kept of requests, ``tried`` has all
    attempts, ``band`` is its class of urgency, and ``row`` where it was written down, with its ``outcome``.
    """

    __slots__ = (
        "attempt",
        "attempts",
        "band",
        "broken",
        "cached_tokens",
        "call",
        "delivered",
        "first_at",
        "outcome",
        "revenue_pico_usd",
        "rival",
        "row",
        "served_by",
        "source",
        "ticket",
        "tried",
        "way_s",
    )

    def __init__(self, call: Call, ticket: str, source: Stream | None, way_s: float) -> None:
        self.call = call
        self.ticket = ticket
        self.source = source
        self.way_s = way_s
        self.served_by: Modelled | None = None
        self.attempt: Attempt | None = None
        self.rival: Attempt | None = None
        self.attempts = 0
        self.delivered = 0
        self.cached_tokens = 0
        self.first_at: float | None = None
        self.broken = False
        self.tried: list[Attempt] | None = None
        self.revenue_pico_usd = 0
        self.row = -1
        self.outcome = ""
        self.band = ""


class Attempt(Request):
    """One try of an exchange on one replica: a request of its engine. It goes on where the last one stopped."""

    __slots__ = ("entered", "exchange", "failed", "number", "replica")

    def __init__(self, exchange: Exchange, replica: Modelled, number: int) -> None:
        call, delivered = exchange.call, exchange.delivered
        Request.__init__(
            self, None, call.prompt_tokens + delivered, max(1, call.output_tokens - delivered), call.links
        )
        self.exchange = exchange
        self.replica = replica
        self.number = number
        self.entered = False  # into its engine
        self.failed = False

    def freeze(self, produced: int) -> None:
        """Its engine is gone; this is what it had produced."""
        self.produced = produced
        self.joined_step = -1
        self.left = True
