"""What became of every call in a journal? In the order they came, read while the run goes on.

A call is told once it is known how it ended, so those that came after it wait for it: what is kept are the calls
that came since the oldest that was still open, not the whole journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from underlay.control.effects import Admitted, Close, Cut, Dispatch, Refuse, Replay
from underlay.control.events import Arrived, ClientGone, Finished, FirstToken
from underlay.control.journal import Entry
from underlay.domain.answer import Usage

from .reading import opened

#: How calls end, by the words of the desk; ``repeated`` ones were answered from what was kept, by no engine.
_ENDS = {"finished": "finished", "failed": "failed", "client_gone": "left"}


class RecordedCall:
    """One call. Times are the journal's own (Unix seconds).

    ``outcome`` is finished, refused, failed, left, repeated, or open where the journal ended before.
    ``first_at`` is when the first token came (None: none did), ``usage`` what engines counted, ``cut`` whether we
    ended it.
    """

    __slots__ = (
        "arrived",
        "attempts",
        "band",
        "cut",
        "ended_at",
        "first_at",
        "key_id",
        "number",
        "outcome",
        "replica",
        "tenant",
        "usage",
    )

    def __init__(self, arrived: Arrived, number: int) -> None:
        self.arrived = arrived
        self.number = number
        self.tenant = self.key_id = ""
        self.band = arrived.band
        self.first_at: float | None = None
        self.ended_at = arrived.at
        self.replica = ""
        self.attempts = 0
        self.usage = Usage()
        self.outcome = ""
        self.cut = False


class Calls:
    """Calls as entries tell of them. ``ready`` are those of which the end is known, in order of arrival."""

    def __init__(self) -> None:
        self.ready: deque[RecordedCall] = deque()
        self._open: dict[str, RecordedCall] = {}
        self._begun: deque[RecordedCall] = deque()
        self._count = 0

    def take(self, entry: Entry) -> None:
        """Take in what happened and what was decided."""
        event = entry.event
        if isinstance(event, Arrived):
            self._open[event.ticket] = call = RecordedCall(event, self._count)
            self._begun.append(call)
            self._count += 1
        elif isinstance(event, FirstToken | Finished | ClientGone) and event.ticket in self._open:
            self._heard(self._open[event.ticket], event)
        for effect in entry.effects:
            if isinstance(effect, Admitted | Dispatch | Cut | Refuse | Replay | Close):
                self._decided(effect, event.at)
        while self._begun and self._begun[0].outcome:
            self.ready.append(self._begun.popleft())

    def close(self) -> None:
        """The journal is over: what is open stays open."""
        for call in self._begun:
            call.outcome = call.outcome or "open"
        self.ready.extend(self._begun)
        self._begun.clear()

    def _heard(self, call: RecordedCall, event: FirstToken | Finished | ClientGone) -> None:
        if not isinstance(event, FirstToken):
            call.usage = event.usage
        elif call.first_at is None:
            call.first_at = event.at
            call.usage = Usage(event.prompt_tokens, event.cached_tokens)

    def _decided(self, effect: Admitted | Dispatch | Cut | Refuse | Replay | Close, at: float) -> None:
        call = self._open.get(effect.ticket)
        if call is None:
            return
        match effect:
            case Admitted():
                call.tenant, call.key_id, call.band = effect.tenant, effect.key_id, effect.band or call.band
            case Dispatch():
                call.replica, call.attempts = effect.replica, effect.attempt
            case Cut():
                call.cut = True
            case Refuse():
                self._end(call, "refused", at)
            case Replay():
                self._end(call, "repeated", at)
            case Close():
                self._end(call, "refused" if effect.reason == "bad_request" else _ENDS[effect.outcome], at)

    def _end(self, call: RecordedCall, outcome: str, at: float) -> None:
        del self._open[call.arrived.ticket]
        call.outcome = outcome
        call.ended_at = at


def calls_of(entries: Iterable[Entry]) -> Iterator[RecordedCall]:
    """The calls that some entries tell of, in order of arrival."""
    calls = Calls()
    for entry in entries:
        calls.take(entry)
        while calls.ready:
            yield calls.ready.popleft()
    calls.close()
    yield from calls.ready


def calls_in(path: Path) -> Iterator[RecordedCall]:
    """The calls of a journal, in order of arrival. Errors: BadRequest, when they are met."""
    with opened(path) as (_, entries):
        yield from calls_of(entries)
