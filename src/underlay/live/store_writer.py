"""The thread that enters charges, energy, journeys and marks in the store, so that the gateway never waits.

It commits in batches and goes on trying when the disk is full or the file is locked. What it could not take is
still in the journal, and is settled from there; a charge enters the ledger once, however often it is submitted.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import msgspec
from msgspec import Struct

from underlay.domain.energy import Booked
from underlay.domain.views import Journey, LedgerRow
from underlay.live.store import BUSY_S, CHARGE_COLUMNS, connect
from underlay.live.store_energy import OPEN, EnergyRecord, write_energy
from underlay.live.store_schema import MICRO

RETRY_FIRST_S = 0.05
RETRY_LAST_S = 5.0


class WriterHealth(Struct, frozen=True):
    """How the writer thread is doing; readiness looks at it.

    ``waiting`` records are not yet committed, the first of them for ``lag_s`` seconds; ``last_error`` is what
    the last attempt failed with (``None``: it did not); ``dropped`` found no room (the journal has them),
    ``rejected`` could never be written.
    """

    waiting: int
    lag_s: float
    last_error: str | None
    dropped: int
    rejected: int


class Mark(Struct, frozen=True):
    """Everything before byte ``settled_bytes`` of a journal segment has been submitted."""

    segment: str
    settled_bytes: int


Record = LedgerRow | Journey | Mark | EnergyRecord


class StoreWriter:
    """The thread that commits charges, energy, journeys and journal marks, in the order in which they came.

    ``submit_*`` never blocks and never raises; it says ``False`` when there is no room. Then the record is
    only in the journal, and marks are refused from there on (``has_gap``), so that the journal is settled
    again from before it; ``close_gap`` says that this was done.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        journeys_kept: int = 10_000,
        waiting_max: int = 100_000,
        batch_max: int = 256,
        pause_s: float = 0.05,
    ) -> None:
        self._data_dir = data_dir
        self._journeys_kept = journeys_kept
        self._waiting_max = waiting_max
        self._batch_max = batch_max
        self._pause_s = pause_s
        self._changed = threading.Condition()
        self._waiting: deque[tuple[float, Record]] = deque()
        self._submitted = 0
        self._committed = 0
        self._flushing = 0
        self._closing = False
        self._abandoned = False
        self._dropped = 0
        self._rejected = 0
        self._last_error: str | None = None
        self._connection: sqlite3.Connection | None = None
        self._open_j = 0.0
        self._open_micro: int | None = None
        self.has_gap = False
        self._thread = threading.Thread(target=self._work, name="underlay-store", daemon=True)
        self._thread.start()

    def submit_charge(self, row: LedgerRow) -> bool:
        """Enter a charge in the ledger, once."""
        taken = self._submit(row, self._waiting_max)
        if not taken:
            self.has_gap = True
        return taken

    def submit_journey(self, journey: Journey) -> bool:
        """Keep a journey. Journeys give way first: they may fill only half of the room."""
        return self._submit(journey, self._waiting_max // 2)

    def submit_energy(self, booked: Booked, journeys: Sequence[Journey]) -> bool:
        """Enter what the meters counted, with the requests settled in it (their journeys with ``energy``).

        All of it or nothing. The journal has no joules: what finds no room is lost, from the meters' sum as from
        the accounts, and said in ``health().dropped``; what was open of it stays open. To be called by one
        thread at a time.
        """
        open_j = self._open_j + booked.accounts.get(OPEN, 0.0)
        open_micro = round(open_j * MICRO)  # of the running sum, or rounding would add up
        first = self._open_micro is None
        change = open_micro - (self._open_micro or 0)
        taken = self._submit(EnergyRecord(booked, tuple(journeys), change, first), self._waiting_max)
        if taken:
            self._open_j, self._open_micro = open_j, open_micro
        return taken

    def submit_mark(self, segment: str, settled_bytes: int) -> bool:
        """Note how far a journal segment is settled, after everything submitted before has been committed."""
        return not self.has_gap and self._submit(Mark(segment, settled_bytes), self._waiting_max)

    def close_gap(self) -> None:
        """What was dropped has been submitted again, from the journal."""
        self.has_gap = False

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything submitted so far is committed; ``False`` if that took too long."""
        with self._changed:
            upto = self._submitted
            self._flushing += 1
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: self._committed >= upto, timeout_s)
            self._flushing -= 1
            return done

    def close(self, timeout_s: float = 10.0) -> bool:
        """Commit what is waiting and stop; ``False`` if some of it could not be committed in time."""
        done = self.flush(timeout_s)
        with self._changed:
            self._closing = True
            self._abandoned = not done
            self._changed.notify_all()
        self._thread.join(timeout_s + BUSY_S)
        return done

    def health(self, now_s: float | None = None) -> WriterHealth:
        """How the thread is doing; ``now_s`` is ``time.monotonic()``."""
        with self._changed:
            now_s = time.monotonic() if now_s is None else now_s
            lag_s = max(0.0, now_s - self._waiting[0][0]) if self._waiting else 0.0
            return WriterHealth(len(self._waiting), lag_s, self._last_error, self._dropped, self._rejected)

    @property
    def lag(self) -> int:
        """Records not yet committed."""
        return len(self._waiting)

    @property
    def crowded(self) -> bool:
        """Whether who can wait should: half of the room is taken."""
        return len(self._waiting) * 2 >= self._waiting_max

    @property
    def last_error(self) -> str | None:
        """What the last attempt to commit failed with; ``None`` if it did not fail."""
        return self._last_error

    def _submit(self, record: Record, room: int) -> bool:
        with self._changed:
            if self._closing or len(self._waiting) >= room:
                self._dropped += 1
                return False
            self._waiting.append((time.monotonic(), record))
            self._submitted += 1
            if len(self._waiting) == 1 or len(self._waiting) == self._batch_max:
                self._changed.notify_all()
            return True

    # below here: the thread

    def _work(self) -> None:
        retry_s = RETRY_FIRST_S
        try:
            while batch := self._next_batch():
                if self._commit(batch):
                    retry_s = RETRY_FIRST_S
                    self._forget(len(batch))
                else:
                    with self._changed:
                        self._changed.wait_for(lambda: self._abandoned, retry_s)
                    retry_s = min(RETRY_LAST_S, retry_s * 2)
        finally:
            self._disconnect()

    def _next_batch(self) -> list[Record]:
        """What to commit next, after a short pause for more to come; nothing means stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if self._abandoned:
                return []
            self._changed.wait_for(
                lambda: self._closing or self._flushing or len(self._waiting) >= self._batch_max, self._pause_s
            )
            return [record for _, record in islice(self._waiting, self._batch_max)]

    def _forget(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._waiting.popleft()
            self._committed += count
            self._changed.notify_all()

    def _commit(self, batch: list[Record]) -> bool:
        """Commit a batch. ``False``: nothing can be written now, the same batch is to be tried again."""
        try:
            try:
                self._commit_together(batch)
            except _UNWRITABLE:
                self._commit_apart(batch)
            else:
                self._last_error = None
        except Exception as error:  # noqa: BLE001  # whatever it is, the thread must outlive it
            self._last_error = f"{type(error).__name__}: {error}"
            self._disconnect()
            return False
        return True

    def _commit_together(self, batch: list[Record]) -> None:
        connection = self._connection = self._connection or connect(self._data_dir)
        connection.execute("BEGIN IMMEDIATE")
        try:
            for record in batch:
                _write(connection, record)
            if any(isinstance(record, Journey) for record in batch):
                self._prune(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _commit_apart(self, batch: list[Record]) -> None:
        """Commit one by one, so that a record that can never be written does not hold up the others."""
        rejected, last_error = 0, None
        for record in batch:
            try:
                self._commit_together([record])
            except _UNWRITABLE as error:
                rejected += 1
                last_error = f"cannot be written: {type(error).__name__}: {error}"
        with self._changed:
            self._rejected += rejected
            self._last_error = last_error

    def _prune(self, connection: sqlite3.Connection) -> None:
        # Only the oldest are ever deleted, so arrivals have no gaps; to count them off took 7 ms each time.
        connection.execute(
            "DELETE FROM journeys WHERE arrival <= (SELECT max(arrival) FROM journeys) - ?", (self._journeys_kept,)
        )

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


#: What is wrong with a record itself: trying again cannot help.
_UNWRITABLE = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    TypeError,
    ValueError,
)


def _write(connection: sqlite3.Connection, record: Record) -> None:
    match record:
        case LedgerRow():
            usage = record.usage
            connection.execute(
                f"INSERT INTO charges ({CHARGE_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)"  # noqa: S608
                " ON CONFLICT (request_id) DO NOTHING",
                (
                    record.request_id,
                    record.at_s,
                    record.tenant,
                    record.key_id,
                    record.model,
                    record.outcome,
                    usage.prompt_tokens,
                    usage.cached_tokens,
                    usage.completion_tokens,
                    record.cost_pico_usd,
                ),
            )
        case Journey():
            connection.execute(
                "INSERT INTO journeys (id, at_s, body) VALUES (?,?,?)"
                " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                (record.id, record.at_s, msgspec.json.encode(record)),
            )
        case EnergyRecord():
            write_energy(connection, record)
        case Mark():
            connection.execute(
                "INSERT INTO journal_marks (segment, settled_bytes) VALUES (?,?) ON CONFLICT (segment)"
                " DO UPDATE SET settled_bytes = max(settled_bytes, excluded.settled_bytes)",
                (record.segment, record.settled_bytes),
            )
