"""What outlives the process: keys, charges, journeys and how far the journal is settled, in one SQLite file.

Two doors. ``Store`` reads everything and writes keys, at once, for whoever waits for the answer. ``StoreWriter``
takes charges and journeys from the gateway without ever making it wait: a thread commits them in batches, and
goes on trying when the disk is full or the file is locked. What it could not take is still in the journal,
and is settled from there; a charge enters the ledger once, however often it is submitted.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
from msgspec import Struct

from underlay.domain.answer import Usage
from underlay.domain.keys import Key, Limits
from underlay.domain.views import Journey, LedgerRow
from underlay.live import locate

STORE_NAME = "underlay.db"
SCHEMA_VERSION = 1
BUSY_S = 5.0
RETRY_FIRST_S = 0.05
RETRY_LAST_S = 5.0
#: Costs are added in two halves, because SQLite refuses sums beyond 64 bits (9.2 million dollars).
HALF = 1_000_000_000

Group = Literal["tenant", "key", "model", "day"]

SCHEMA = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    models TEXT NOT NULL,
    limits TEXT NOT NULL,
    created_s REAL NOT NULL,
    expires_s REAL,
    revoked_s REAL,
    replaced_by TEXT REFERENCES keys (id),
    change INTEGER NOT NULL
);
CREATE INDEX keys_by_change ON keys (change);
CREATE TABLE charges (
    request_id TEXT PRIMARY KEY,
    at_s REAL NOT NULL,
    tenant TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    outcome TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost_pico_usd INTEGER NOT NULL
);
CREATE INDEX charges_by_time ON charges (at_s);
CREATE TABLE journeys (
    arrival INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    at_s REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX journeys_by_time ON journeys (at_s);
CREATE TABLE journal_marks (
    segment TEXT PRIMARY KEY,
    settled_bytes INTEGER NOT NULL
);
"""

_KEY_COLUMNS = "id, digest, tenant, name, prefix, models, limits, created_s, expires_s, revoked_s, replaced_by"
_CHARGE_COLUMNS = (
    "request_id, at_s, tenant, key_id, model, outcome,"
    " prompt_tokens, cached_tokens, completion_tokens, cost_pico_usd"
)
_GROUP_COLUMN: dict[Group, str] = {
    "tenant": "tenant",
    "key": "key_id",
    "model": "model",
    "day": "strftime('%Y-%m-%d', at_s, 'unixepoch')",
}


class StoreTooNew(Exception):
    """The file was written by a later version, which may mean other things by the same columns."""


class LedgerSum(Struct, frozen=True):
    """Charges added up. ``group`` is the tenant, key, model or UTC day; empty for the sum of all."""

    group: str
    requests: int
    usage: Usage
    cost_pico_usd: int


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


def store_path(data_dir: Path) -> Path:
    """Where the file lies, whether or not it is there."""
    return data_dir / STORE_NAME


def _connect(data_dir: Path) -> sqlite3.Connection:
    """Open the file, made and brought up to date if need be, closed to other users."""
    path = store_path(locate.prepare(data_dir))
    with contextlib.suppress(FileExistsError):
        # Only a new file: closing one that is in use would drop this process's locks on it (POSIX), and the next
        # process to leave would take itself for the last and delete the log under those who stay.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)  # its -wal and -shm files take their mode from it
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Let readers and the writer work at the same time.

    Only the first to open a new file changes the mode; SQLite does not wait when two try it at once.
    """
    until_s = time.monotonic() + BUSY_S
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.02)


def _migrate(connection: sqlite3.Connection) -> None:
    version = _schema_version(connection)
    if version > SCHEMA_VERSION:
        raise StoreTooNew(f"the store has schema {version}; this version knows {SCHEMA_VERSION}")
    if version == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _schema_version(connection) == 0:  # nobody else made the tables while this waited to begin
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
            connection.execute("INSERT INTO schema_version VALUES (?)", (SCHEMA_VERSION,))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _schema_version(connection: sqlite3.Connection) -> int:
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchone()
    return int(connection.execute("SELECT version FROM schema_version").fetchone()[0]) if there else 0


class Store:
    """Reads everything and writes keys. May be shared between threads and opened by several processes."""

    def __init__(self, data_dir: Path) -> None:
        self._connection = _connect(data_dir)
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of a ``with`` block's reading and writing at once, or none of it."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    # keys

    def put_key(self, key: Key) -> None:
        """Remember a key, new or changed; every other process learns of it at its next ``KeyWatch.poll``."""
        with self.transaction():
            self._connection.execute(
                f"INSERT INTO keys ({_KEY_COLUMNS}, change)"  # noqa: S608
                " VALUES (?,?,?,?,?,?,?,?,?,?,?, (SELECT coalesce(max(change), 0) + 1 FROM keys))"
                " ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, name = excluded.name,"
                " models = excluded.models, limits = excluded.limits, expires_s = excluded.expires_s,"
                " revoked_s = excluded.revoked_s, replaced_by = excluded.replaced_by, change = excluded.change",
                (
                    key.id,
                    key.digest,
                    key.tenant,
                    key.name,
                    key.prefix,
                    msgspec.json.encode(key.models).decode(),
                    msgspec.json.encode(key.limits).decode(),
                    key.created_s,
                    key.expires_s,
                    key.revoked_s,
                    key.replaced_by,
                ),
            )

    def keys(self) -> list[Key]:
        """All keys there ever were, oldest first."""
        return self._keys_where("1 ORDER BY created_s, rowid")

    def key(self, key_id: str) -> Key | None:
        """The key with this id."""
        return next(iter(self._keys_where("id = ?", key_id)), None)

    def key_of_digest(self, digest: str) -> Key | None:
        """The key whose secret has this SHA-256."""
        return next(iter(self._keys_where("digest = ?", digest)), None)

    def key_changes_since(self, change: int) -> tuple[int, list[Key]]:
        """Keys made or changed after change number ``change`` (0: all), and the number to ask with next time."""
        rows = self._rows(
            f"SELECT {_KEY_COLUMNS}, change FROM keys WHERE change > ? ORDER BY change",  # noqa: S608
            change,
        )
        return (rows[-1][-1] if rows else change), [_key(row) for row in rows]

    def _keys_where(self, condition: str, *values: Any) -> list[Key]:
        rows = self._rows(f"SELECT {_KEY_COLUMNS} FROM keys WHERE {condition}", *values)  # noqa: S608
        return [_key(row) for row in rows]

    # journeys

    def journey(self, journey_id: str) -> Journey | None:
        """The journey with this id."""
        rows = self._rows("SELECT body FROM journeys WHERE id = ?", journey_id)
        return msgspec.json.decode(rows[0][0], type=Journey) if rows else None

    def journeys_beginning(self, prefix: str, limit: int = 20) -> list[str]:
        """Ids that begin so, newest first."""
        rows = self._rows(
            "SELECT id FROM journeys WHERE id >= ? AND id < ? ORDER BY arrival DESC LIMIT ?",
            prefix,
            prefix + "\U0010ffff",
            limit,
        )
        return [row[0] for row in rows]

    def journeys(self, limit: int = 50, before: float | None = None) -> list[Journey]:
        """Journeys, latest first; with ``before`` only those that began before that Unix time."""
        rows = self._rows(
            "SELECT body FROM journeys WHERE ?1 IS NULL OR at_s < ?1 ORDER BY at_s DESC, arrival DESC LIMIT ?2",
            before,
            limit,
        )
        return [msgspec.json.decode(row[0], type=Journey) for row in rows]

    # ledger

    def charge(self, request_id: str) -> LedgerRow | None:
        """What one request was charged."""
        rows = self._rows(f"SELECT {_CHARGE_COLUMNS} FROM charges WHERE request_id = ?", request_id)  # noqa: S608
        return _charge(rows[0]) if rows else None

    def ledger(
        self,
        *,
        since_s: float | None = None,
        until_s: float | None = None,
        tenant: str | None = None,
        limit: int = 1000,
    ) -> list[LedgerRow]:
        """Charges from ``since_s`` until before ``until_s`` (Unix time), newest first."""
        rows = self._rows(
            f"SELECT {_CHARGE_COLUMNS} FROM charges WHERE {_PERIOD} AND (?3 IS NULL OR tenant = ?3)"  # noqa: S608
            " ORDER BY at_s DESC, request_id DESC LIMIT ?4",
            since_s,
            until_s,
            tenant,
            limit,
        )
        return [_charge(row) for row in rows]

    def ledger_sums(
        self, by: Group, *, since_s: float | None = None, until_s: float | None = None
    ) -> list[LedgerSum]:
        """Charges added up by tenant, key, model or UTC day, in the order of their names."""
        rows = self._rows(
            f"SELECT {_GROUP_COLUMN[by]} AS grouped, {_SUMS} FROM charges WHERE {_PERIOD}"  # noqa: S608
            " GROUP BY grouped ORDER BY grouped",
            since_s,
            until_s,
        )
        return [_sum(row) for row in rows]

    def totals(self, *, since_s: float | None = None, until_s: float | None = None) -> LedgerSum:
        """All charges of a period added up."""
        return _sum(self._rows(f"SELECT '', {_SUMS} FROM charges WHERE {_PERIOD}", since_s, until_s)[0])  # noqa: S608

    # journal

    def marks(self) -> dict[str, int]:
        """How many bytes of each journal segment are settled."""
        return dict(self._rows("SELECT segment, settled_bytes FROM journal_marks"))

    def forget_mark(self, segment: str) -> None:
        """A journal segment was deleted."""
        with self.transaction():
            self._connection.execute("DELETE FROM journal_marks WHERE segment = ?", (segment,))


_PERIOD = "(?1 IS NULL OR at_s >= ?1) AND (?2 IS NULL OR at_s < ?2)"
_SUMS = (
    "count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(cached_tokens), 0),"
    f" coalesce(sum(completion_tokens), 0), coalesce(sum(cost_pico_usd / {HALF}), 0),"
    f" coalesce(sum(cost_pico_usd % {HALF}), 0)"
)


def _key(row: tuple[Any, ...]) -> Key:
    return Key(
        id=row[0],
        digest=row[1],
        tenant=row[2],
        name=row[3],
        prefix=row[4],
        models=msgspec.json.decode(row[5], type=tuple[str, ...]),
        limits=msgspec.json.decode(row[6], type=Limits),
        created_s=row[7],
        expires_s=row[8],
        revoked_s=row[9],
        replaced_by=row[10],
    )


def _charge(row: tuple[Any, ...]) -> LedgerRow:
    return LedgerRow(
        request_id=row[0],
        at_s=row[1],
        tenant=row[2],
        key_id=row[3],
        model=row[4],
        outcome=row[5],
        usage=Usage(prompt_tokens=row[6], cached_tokens=row[7], completion_tokens=row[8]),
        cost_pico_usd=row[9],
    )


def _sum(row: tuple[Any, ...]) -> LedgerSum:
    group, requests, prompt, cached, completion, cost_high, cost_low = row
    return LedgerSum(group, requests, Usage(prompt, cached, completion), cost_high * HALF + cost_low)


class KeyWatch:
    """Notices keys that were made, changed or revoked, by this process or another one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._change = 0

    def poll(self) -> list[Key]:
        """Keys made or changed since the last call; the first call gives all. Cheap enough for twice a second."""
        self._change, keys = self._store.key_changes_since(self._change)
        return keys


class StoreWriter:
    """The thread that commits charges, journeys and journal marks, in the order in which they were submitted.

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
        self._waiting: deque[tuple[float, LedgerRow | Journey | Mark]] = deque()
        self._submitted = 0
        self._committed = 0
        self._flushing = 0
        self._closing = False
        self._abandoned = False
        self._dropped = 0
        self._rejected = 0
        self._last_error: str | None = None
        self._connection: sqlite3.Connection | None = None
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
    def last_error(self) -> str | None:
        """What the last attempt to commit failed with; ``None`` if it did not fail."""
        return self._last_error

    def _submit(self, record: LedgerRow | Journey | Mark, room: int) -> bool:
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

    def _next_batch(self) -> list[LedgerRow | Journey | Mark]:
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

    def _commit(self, batch: list[LedgerRow | Journey | Mark]) -> bool:
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

    def _commit_together(self, batch: list[LedgerRow | Journey | Mark]) -> None:
        connection = self._connection = self._connection or _connect(self._data_dir)
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

    def _commit_apart(self, batch: list[LedgerRow | Journey | Mark]) -> None:
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
        connection.execute(
            "DELETE FROM journeys WHERE arrival <="
            " (SELECT arrival FROM journeys ORDER BY arrival DESC LIMIT 1 OFFSET ?)",
            (self._journeys_kept,),
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


def _write(connection: sqlite3.Connection, record: LedgerRow | Journey | Mark) -> None:
    match record:
        case LedgerRow():
            usage = record.usage
            connection.execute(
                f"INSERT INTO charges ({_CHARGE_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)"  # noqa: S608
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
                " ON CONFLICT (id) DO UPDATE SET at_s = excluded.at_s, body = excluded.body",
                (record.id, record.at_s, msgspec.json.encode(record)),
            )
        case Mark():
            connection.execute(
                "INSERT INTO journal_marks (segment, settled_bytes) VALUES (?,?) ON CONFLICT (segment)"
                " DO UPDATE SET settled_bytes = max(settled_bytes, excluded.settled_bytes)",
                (record.segment, record.settled_bytes),
            )
