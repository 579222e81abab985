"""Callers and what becomes of their calls: out of the crowds, through the front door, into the records.

Each crowd is asked for its next call when the one before has been made, so a day of calls is never in memory.
What comes of an end (another turn, another try) is asked for at once, when the caller hears of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Protocol

from .crowd.call import Call, Crowd, Outcome
from .exchange import Exchange, Stream
from .kernel import Kernel
from .ledger.taken import Taken
from .platform import Platform
from .records import OUTCOMES, Requests
from .waiting_room import WaitingRoom

_OUTCOME_PLACES = {outcome: place for place, outcome in enumerate(OUTCOMES)}
#: Calls are made before anything else happens at the same time.
_FIRST = -1

#: How long a caller tries to connect when nobody is there. Assumed: usual time-outs are 5 to 10 s.
NO_ANSWER_S = 5.0


class Door(Protocol):
    """What a call comes to first."""

    def choose(self, place: str, model: str) -> tuple[str, float] | None:
        """The region for a call from near a region, and the seconds of one way to it; None if no way leads on."""
        ...


class Callers:
    """All crowds of a run, until ``duration_s``; what is open then may end. ``requests`` are who has ended."""

    def __init__(
        self,
        kernel: Kernel,
        platforms: Mapping[str, Platform],
        crowds: Sequence[Crowd],
        front_door: Door,
        *,
        duration_s: float,
        model: str,
        waiting_room: WaitingRoom | None = None,
        taken: Taken | None = None,
    ) -> None:
        self.requests = Requests()
        self._taken = taken
        self._kernel = kernel
        self._platforms = platforms
        self._home = next(iter(platforms))
        self._alone = platforms[self._home] if len(platforms) == 1 else None
        self._way_s = 0.0  # to it, when it was last looked up
        self._duration_s = duration_s
        self._model = model
        self._front_door = front_door
        self._waiting_room = waiting_room
        if waiting_room is not None:
            waiting_room.open_to(self._carry)
        places = self.requests.places
        self._regions, self._tenants, self._models = places("region"), places("tenant"), places("model")
        for number, crowd in enumerate(crowds):
            draws, follow_ups = kernel.stream(f"crowd {number}"), kernel.stream(f"crowd {number} follow-ups")
            self._draw(Stream(crowd, draws, follow_ups))

    def _draw(self, stream: Stream) -> None:
        """Arrange the next call of a crowd.

        With several regions it is when a call leaves that one is chosen; where there is only one, nothing can come
        of a call before it is at the door, which saves an appointment for each.
        """
        call = stream.next_call()
        if call is None or call.at >= self._duration_s:
            return
        if self._alone is None:
            self._kernel.call(call.at, self._make, (stream, call), _FIRST)
        else:
            self._kernel.call(max(call.at + self._way_s, self._kernel.at), self._come, (stream, call), _FIRST)

    def _make(self, at: float, what: tuple[Stream, Call]) -> None:
        stream, call = what
        self._send(at, call, stream)
        self._draw(stream)

    def _come(self, at: float, what: tuple[Stream, Call]) -> None:
        """A call is at the door of the only region, unless the way has become longer than it was."""
        stream, call = what
        if self._waiting_room is not None and self._waits(at, call, stream, self._waiting_room):
            self._draw(stream)
            return
        found = self._choose(call)
        if found is None:
            self._turn_away(call, stream)
        else:
            way_s = self._way_s = found[1]
            if call.at + way_s > at:
                self._kernel.call(call.at + way_s, self._come, what, _FIRST)
                return
            assert self._alone is not None
            self._alone.arrive(at, call, stream, way_s)
        self._draw(stream)

    def _again(self, at: float, what: tuple[Stream, Call]) -> None:
        self._send(at, what[1], what[0])

    def _send(self, at: float, call: Call, stream: Stream) -> None:
        """A call leaves its caller; it is at a region's door after one way."""
        if self._waiting_room is None or not self._waits(at, call, stream, self._waiting_room):
            self._carry(at, call, stream, None)

    def _waits(self, at: float, call: Call, stream: Stream, room: WaitingRoom) -> bool:
        """Whether a call goes to the waiting room first, because it can."""
        if call.within_s is None:
            return False
        self._name(call)
        room.hold(at, call, stream)
        return True

    def _carry(self, at: float, call: Call, stream: Stream, found: tuple[str, float] | None) -> None:
        """Bring a call to a region's door: the one found for it, or the one that the front door chooses."""
        found = found or self._choose(call)
        if found is None:
            self._turn_away(call, stream)
            return
        region, way_s = found
        self._kernel.call(at + way_s, self._enter, (self._platforms[region], call, stream, way_s))

    def _choose(self, call: Call) -> tuple[str, float] | None:
        """The region for a call and the way to it, by what it says or what is usual."""
        if not (call.model and call.region):
            self._name(call)
        return self._front_door.choose(call.region, call.model)

    def _name(self, call: Call) -> None:
        if not call.model:
            call.model = self._model
        if not call.region:
            call.region = self._home

    def _turn_away(self, call: Call, stream: Stream) -> None:
        """Nobody is there: its caller tries to connect for a while."""
        home = self._platforms[call.region]
        self.ended(home, Exchange(call, "", stream, 0.0), "failed", call.at + NO_ANSWER_S)

    def _enter(self, at: float, what: tuple[Platform, Call, Stream, float]) -> None:
        platform, call, stream, way_s = what
        platform.arrive(at, call, stream, way_s)

    def ended(self, platform: Platform, exchange: Exchange, outcome: Outcome, at: float) -> None:
        """Write down what became of a call, and see what its caller does next."""
        heard_at = at + exchange.way_s
        call = exchange.call
        self._write_down(platform, exchange, outcome, heard_at - call.at)
        stream = exchange.source
        if stream is None or not stream.crowd.follows:
            return
        follow_up = stream.crowd.follow_up(call, outcome, heard_at, stream.dice)
        if follow_up is not None and follow_up.at < self._duration_s:
            self._kernel.call(max(heard_at, follow_up.at), self._again, (stream, follow_up))

    def close(self) -> None:
        """Write down who is still being served when the run ends."""
        for platform in self._platforms.values():
            platform.close(self._kernel.at)
            for exchange in platform.open.values():
                self._write_down(platform, exchange, "open", nan)
        for call, stream in self._waiting_room.waiting() if self._waiting_room is not None else ():
            self._write_down(self._platforms[call.region], Exchange(call, "", stream, 0.0), "open", nan)

    def _write_down(self, platform: Platform, exchange: Exchange, outcome: str, e2e_s: float) -> None:
        call, first_at, served_by = exchange.call, exchange.first_at, exchange.served_by
        attempts, try_, region = exchange.attempts, call.try_, platform.name
        try:
            served_in, tenant, model = self._regions[region], self._tenants[call.tenant], self._models[call.model]
            called_in = served_in if call.region == region else self._regions[call.region]
        except KeyError:  # the first of that name
            self._note_names(call, region)
            self._write_down(platform, exchange, outcome, e2e_s)
            return
        self.requests.add(
            call.at,
            nan if first_at is None else first_at + exchange.way_s - call.at,
            e2e_s,
            call.prompt_tokens,
            exchange.delivered,
            exchange.cached_tokens,
            -1 if served_by is None else served_by.place,
            called_in,
            served_in,
            tenant,
            model,
            attempts if attempts < 128 else 127,
            _OUTCOME_PLACES[outcome],
            try_ if try_ < 128 else 127,
            nan if call.within_s is None else call.within_s,
            call.held_s,
        )
        if self._taken is not None:
            self._taken.write(exchange, outcome)

    def _note_names(self, call: Call, region: str) -> None:
        """Let every name of a call have a number."""
        place = self.requests.place
        place("region", call.region)
        place("region", region)
        place("tenant", call.tenant)
        place("model", call.model)

    def open_count(self) -> int:
        """How many calls are being served or wait, wherever."""
        waiting = 0 if self._waiting_room is None else len(self._waiting_room)
        return waiting + sum(len(platform.open) for platform in self._platforms.values())
