"""One asking of one replica: its calls, and who hears what they bring.

An answer may take several attempts, one after the other or, before anything was heard, two side by side. Each
strand of an attempt is a call of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from underlay.control.events import Failure
from underlay.domain.answer import EngineEvent
from underlay.domain.errors import EngineFailed, UnderlayError
from underlay.live.engines.adapter import Adapter, Reader
from underlay.live.engines.connections import Call
from underlay.live.engines.slots import Seat
from underlay.live.silence import Voice


class Asker(Protocol):
    """Whose attempts they are."""

    adapter: Adapter

    def heard(self, attempt: Attempt, index: int, events: list[EngineEvent]) -> None:
        """Take in what an engine said of one strand; raises ``EngineFailed`` where that cannot be passed on."""

    def cut_short(self, attempt: Attempt, failure: str, detail: str) -> None:
        """Hear that a connection of the attempt broke, or that there is none."""

    def lose(self, attempt: Attempt, failure: Failure, detail: str) -> None:
        """Hear that the attempt came to nothing."""

    def blame(self, error: UnderlayError, failure: Failure) -> Failure:
        """Say whose fault an error is."""


class Attempt:
    """One asking of one replica, for every strand that has not ended."""

    __slots__ = ("asked_at", "calls", "clock", "number", "replica", "voice")

    def __init__(self, number: int, replica: str, voice: Voice, clock: Callable[[], float]) -> None:
        self.number = number
        self.replica = replica
        self.voice = voice
        self.clock = clock
        self.asked_at = clock()
        self.calls: list[StrandCall] = []

    def pause(self) -> None:
        """Stop reading what it says."""
        for call in self.calls:
            if call.call is not None:
                call.call.pause()

    def resume(self) -> None:
        """Read on; what was not read was no silence."""
        now = self.clock()
        for call in self.calls:
            call.last_at = now
            if call.call is not None:
                call.call.resume()

    def stop(self) -> None:
        """Destroy its connections, so that the engine frees its slots; nothing is heard of it any more."""
        for call in self.calls:
            call.abort()
        self.calls = []


class StrandCall:
    """One strand's exchange with an engine, within one attempt. A ``Receiver`` of its call."""

    __slots__ = (
        "_answer",
        "_asker",
        "_attempt",
        "_clock",
        "_code",
        "_reader",
        "_seat",
        "_voice",
        "call",
        "index",
        "last_at",
    )

    def __init__(self, asker: Asker, attempt: Attempt, index: int, reader: Reader, seat: Seat) -> None:
        self._asker = asker
        self._seat = seat
        self._attempt = attempt
        self._voice = attempt.voice
        self._clock = attempt.clock
        self._reader = reader
        self._code = 200
        self._answer: list[bytes] = []
        self.index = index
        self.call: Call | None = None
        self.last_at = attempt.asked_at

    def abort(self) -> None:
        """Destroy the connection, if there is one."""
        if self.call is not None:
            self.call.abort()
        self._leave(clean=False)

    def _leave(self, *, clean: bool) -> None:
        """Give the engine's slot back; only the first time counts."""
        self._seat.give_back(self._clock(), clean=clean)

    def status(self, code: int) -> None:
        """Hear the status."""
        self._code = code

    def body(self, data: bytes) -> None:
        """Hear part of the stream, or of an error."""
        self.last_at = self._voice.heard_at = self._clock()
        if self._code != 200:
            self._answer.append(data)
            return
        try:
            events = self._reader.feed(data)
        except UnderlayError as error:
            self._broken(error, "malformed")
            return
        try:
            self._asker.heard(self._attempt, self.index, events)
        except EngineFailed as error:  # what the engine says makes no sense in the caller's dialect
            self._broken(error, "malformed")

    def done(self) -> None:
        """Hear that the reply ended."""
        self._leave(clean=self._code == 200)
        if self._code != 200:
            adapter = self._asker.adapter
            self._broken(adapter.error(self._code, b"".join(self._answer)), "engine_error")
            return
        try:
            self._reader.finish()
        except UnderlayError as error:
            self._broken(error, "reset")

    def failed(self, failure: str, detail: str) -> None:
        """Hear that the connection broke."""
        self._leave(clean=False)
        self._asker.cut_short(self._attempt, failure, detail)

    def _broken(self, error: UnderlayError, failure: Failure) -> None:
        self._asker.lose(self._attempt, self._asker.blame(error, failure), error.message)
