"""Replay a live journal through a fresh desk: the same events must give exactly the same effects.

This is the gate between the live platform and the twin: if it holds, whatever the twin says about decisions is
said by the very code that makes them.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from underlay.control import journal
from underlay.control.desk import assemble
from underlay.control.journal import Entry


class ReplayReport(Struct, frozen=True):
    """What a replay found. ``first_difference`` says in words where live and replay parted, if they did.

    ``open_tickets`` are requests that had not ended when the journal did; ``span_s`` is from its first event
    to its last.
    """

    path: str
    version: str
    events: int
    effects: int
    equal: bool
    first_difference: str | None
    open_tickets: int
    span_s: float


def replay(path: Path) -> ReplayReport:
    """Decide a recorded journal again. Raises ``OSError`` or ``JournalError``."""
    header, entries = journal.decode(path.read_bytes())
    desk = assemble(header.settings)
    events = effects = 0
    difference: str | None = None
    first_at = last_at = header.begun_at
    for entry, _ in entries:
        events += 1
        effects += len(entry.effects)
        first_at = entry.event.at if events == 1 else first_at
        last_at = entry.event.at
        try:
            decided = desk.handle(entry.event)
            desk.check()
        except AssertionError as error:  # no desk can have seen this: the journal was made by another, or doctored
            difference = difference or f"event {events} ({entry.event}) cannot be: {error}"
            break
        if decided != entry.effects and difference is None:
            difference = _difference(events, entry, decided)
    return ReplayReport(
        path=str(path),
        version=header.version,
        events=events,
        effects=effects,
        equal=difference is None,
        first_difference=difference,
        open_tickets=len(desk.tickets),
        span_s=last_at - first_at,
    )


def _difference(number: int, entry: Entry, decided: list) -> str:  # type: ignore[type-arg]
    """Say where the two lists of effects part."""
    for index, (live, again) in enumerate(zip(entry.effects, decided, strict=False)):
        if live != again:
            return f"event {number} ({entry.event}): effect {index + 1} was {live}, is now {again}"
    return f"event {number} ({entry.event}): {len(entry.effects)} effects then, {len(decided)} now"
