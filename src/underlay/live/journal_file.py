"""The live journal on disk: every event with its effects, written before the effects are performed.

Bytes go to the operating system at once for what a bill depends on and within 50 ms for the rest, so they survive
kill -9 of this process; a power failure may cost the last seconds (nothing is forced to the disk: no fsync).
Each run begins a segment of its own. ``settle_old`` books what an earlier run had decided but not stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import structlog

from underlay.control import journal
from underlay.control.desk import Desk, assemble
from underlay.control.effects import AnyEffect, Charge
from underlay.control.events import AnyEvent, ClientGone, Progress
from underlay.domain.policy import DeskSettings
from underlay.domain.views import LedgerRow
from underlay.live.store import Store
from underlay.live.store_writer import StoreWriter

log = structlog.get_logger("underlay.journal")

_FLUSH_S = 0.05
_RETRY_S = 1.0
_PENDING_MAX = 67_108_864  # bytes; what a disk that stays full may cost in memory
_SEGMENTS_KEPT = 20


class JournalFile:
    """The segment of this run. Append only."""

    def __init__(self, path: Path, settings: DeskSettings, version: str, begun_at: float) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self.bytes_written = 0
        self.last_error: str | None = None
        self.broken_off = False  # nothing could be written for so long that the rest of this run is not in it
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._flush_due: asyncio.TimerHandle | None = None
        self._closing = False
        self._keep(journal.encode(journal.Header(journal.FORMAT, version, begun_at, settings)))
        self.flush()

    def append(self, event: AnyEvent, effects: list[AnyEffect]) -> None:
        """Write down what happened and what was decided; at once if a bill depends on it."""
        self._keep(journal.encode(journal.Entry(event, effects)))
        billed = type(event) is Progress or any(type(effect) is Charge for effect in effects)
        if self.last_error is None and billed:
            self.flush()
        elif self._flush_due is None:
            self._flush_due = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)

    @property
    def whole(self) -> bool:
        """Whether everything appended so far can be read from the file."""
        return not self._pending and not self.broken_off

    def _keep(self, frame: bytes) -> None:
        """Keep a frame until it is written, or, while nothing can be written, as long as there is room.

        A journal with a gap would replay to something else, so after the first frame without room none is kept.
        """
        if self.broken_off or self._pending_bytes + len(frame) > _PENDING_MAX:
            self.broken_off = True
            return
        self._pending.append(frame)
        self._pending_bytes += len(frame)

    def flush(self) -> None:
        """Hand everything to the operating system.

        A disk that is full must not take the service down: what cannot be written is kept and tried again soon,
        and readiness says so.
        """
        if self._flush_due is not None:
            self._flush_due.cancel()
            self._flush_due = None
        data = b"".join(self._pending)
        if not data:
            return
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            self.last_error, written = str(error), 0
        else:
            self.last_error = None
        self.bytes_written += written
        self._pending = [data[written:]] if written < len(data) else []
        self._pending_bytes = len(data) - written
        if self._pending and not self._closing:
            self._flush_due = asyncio.get_running_loop().call_later(_RETRY_S, self.flush)

    def close(self) -> None:
        """Write what is left and close."""
        self._closing = True
        self.flush()
        os.close(self._descriptor)


def begin(data_dir: Path, settings: DeskSettings, version: str, begun_at: float) -> JournalFile:
    """Begin this run's segment under ``data_dir/journal``."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(begun_at))
    name, again = f"{stamp}-{os.getpid()}", 0
    while True:  # in a container every run may have the same process id, and two may begin in one second
        path = data_dir / "journal" / (f"{name}-{again}.journal" if again else f"{name}.journal")
        with contextlib.suppress(FileExistsError):
            return JournalFile(path, settings, version, begun_at)
        again += 1


def settle_old(data_dir: Path, store: Store, writer: StoreWriter) -> int:
    """Book what earlier runs left: charges that the store may lack, and requests cut off by a crash.

    Returns how many requests a crash had cut off. Doing it twice books nothing twice: charges are booked under
    their request's id. Segments that were settled before are removed, but for the newest 20.
    """
    marks = store.marks()
    paths = sorted((data_dir / "journal").glob("*.journal"))
    for path in paths[:-_SEGMENTS_KEPT]:
        if marks.get(path.name) == path.stat().st_size:  # never one whose charges the store may lack
            path.unlink()
    cut_off = 0
    for path in [path for path in paths if path.exists()]:
        size = path.stat().st_size
        if size == 0 or marks.get(path.name) == size:
            continue
        try:
            cut_off += _settle_and_end(path, writer)
        except journal.JournalError as error:  # what could be read is booked; the rest is for a person to look at
            log.exception("journal damaged", journal=path.name, why=str(error), kept_as=f"{path.name}.damaged")
            path.rename(path.with_name(f"{path.name}.damaged"))
            continue
        writer.submit_mark(path.name, path.stat().st_size)
    return cut_off


def settle(path: Path, writer: StoreWriter) -> tuple[Desk, int, float]:
    """Replay one segment and book its charges.

    Returns the desk as it stood at the end, how many bytes were whole, and the time of the last event.
    """
    header, entries = journal.decode(path.read_bytes())
    desk = assemble(header.settings)
    end, at, patient = 0, header.begun_at, True
    for entry, entry_end in entries:
        if patient and writer.crowded:  # else those that are booked would leave no room for those that are not
            patient = writer.flush()
        _decide_again(desk, entry.event)
        book(entry.effects, entry.event.at, writer)
        end, at = entry_end, entry.event.at
    return desk, end, at


def _decide_again(desk: Desk, event: AnyEvent) -> list[AnyEffect]:
    """Bring an event to a desk that replays.

    A defect in one decision must not keep the others from being booked, nor the platform from starting: the run
    that wrote the journal went on after it, too.
    """
    try:
        return desk.handle(event)
    except Exception:
        log.exception("cannot be decided again", kind=type(event).__name__)
        return []


def _settle_and_end(path: Path, writer: StoreWriter) -> int:
    """Settle a segment that nobody writes any more, and end the requests that were open when it stopped."""
    desk, end, at = settle(path, writer)
    if end:
        os.truncate(path, end)  # a torn last frame would make what follows it unreadable
    return _end_open_tickets(path, desk, at, writer)


def _end_open_tickets(path: Path, desk: Desk, at: float, writer: StoreWriter) -> int:
    """Bill each open request for what its last ``Progress`` said, and write that down like any decision."""
    open_tickets = list(desk.tickets.items())
    with path.open("ab") as segment:
        for name, ticket in open_tickets:
            event = ClientGone(at=at, ticket=name, usage=ticket.usage)
            effects = _decide_again(desk, event)
            segment.write(journal.encode(journal.Entry(event, effects)))
            segment.flush()
            book(effects, at, writer)
    return len(open_tickets)


def book(effects: list[AnyEffect], at: float, writer: StoreWriter) -> None:
    """Submit every charge among ``effects`` to the ledger."""
    for effect in effects:
        if type(effect) is Charge:
            writer.submit_charge(
                LedgerRow(
                    request_id=effect.ticket,
                    at_s=at,
                    tenant=effect.tenant,
                    key_id=effect.key_id,
                    model=effect.model,
                    outcome=effect.outcome,
                    usage=effect.usage,
                    cost_pico_usd=effect.cost_pico_usd,
                )
            )
