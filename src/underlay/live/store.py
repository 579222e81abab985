"""What outlives the process: keys, charges, journeys and how far the journal is settled, in one SQLite file.

Two doors. ``Store`` reads everything and writes keys, at once, for whoever waits for the answer. ``StoreWriter``
(``live.store_writer``) takes charges and journeys from the gateway without ever making it wait.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
from msgspec import Struct

from underlay.domain.answer import Usage
from underlay.domain.keys import Budget, Key, Limits
from underlay.domain.views import Journey, LedgerRow
from underlay.live import locate, store_sums
from underlay.live.store_energy_sums import EnergyLedger, EnergySum, energy_ledger, energy_sums
from underlay.live.store_schema import HALF, MICRO, migrate
from underlay.live.store_sums import PERIOD, Group, LedgerSum

STORE_NAME = "underlay.db"
BUSY_S = 5.0

_KEY_COLUMNS = (
    "id, digest, tenant, name, prefix, models, limits, created_s, expires_s, revoked_s, replaced_by,"
    " user, band, budgets"
)
CHARGE_COLUMNS = (
    "request_id, at_s, tenant, key_id, model, outcome,"
    " prompt_tokens, cached_tokens, completion_tokens, cost_pico_usd"
)


class Spent(Struct, frozen=True):
    """What a key of a tenant used of a model; ``joules`` of what is settled, by the meters."""

    key_id: str
    tenant: str
    model: str
    tokens: int
    pico_usd: int
    joules: float = 0.0


def store_path(data_dir: Path) -> Path:
    """Where the file lies, whether or not it is there."""
    return data_dir / STORE_NAME


def connect(data_dir: Path) -> sqlite3.Connection:
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
        migrate(connection)
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


class Store:
    """Reads everything and writes keys. May be shared between threads and opened by several processes."""

    def __init__(self, data_dir: Path) -> None:
        self._connection = connect(data_dir)
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
        with self._within("BEGIN IMMEDIATE"):
            yield

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """A ``with`` block reads one state of the file, while others go on writing."""
        with self._within("BEGIN"):
            yield

    @contextlib.contextmanager
    def _within(self, begin: str) -> Iterator[None]:
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute(begin)
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
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?, (SELECT coalesce(max(change), 0) + 1 FROM keys))"
                " ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, name = excluded.name,"
                " user = excluded.user, band = excluded.band, budgets = excluded.budgets,"
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
                    key.user,
                    key.band,
                    msgspec.json.encode(key.budgets).decode(),
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
        rows = self._rows(f"SELECT {CHARGE_COLUMNS} FROM charges WHERE request_id = ?", request_id)  # noqa: S608
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
            f"SELECT {CHARGE_COLUMNS} FROM charges WHERE {PERIOD} AND (?3 IS NULL OR tenant = ?3)"  # noqa: S608
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
        """Charges added up by tenant, key, model, region or UTC day, in the order of their names."""
        return store_sums.ledger_sums(self._rows, by, since_s, until_s)

    def totals(self, *, since_s: float | None = None, until_s: float | None = None) -> LedgerSum:
        """All charges of a period added up."""
        return store_sums.totals(self._rows, since_s, until_s)

    def energy_ledger(
        self, by: Group, *, since_s: float | None = None, until_s: float | None = None, running: bool = True
    ) -> EnergyLedger:
        """Whose the joules of a period were; ``running``: whether a platform may still settle what is open."""
        with self.snapshot():
            return energy_ledger(self._rows, by, since_s, until_s, running=running)

    def energy_by_request(self, since_s: float) -> dict[str, EnergySum]:
        """What each metered request took that ended at ``since_s`` or later, by its id."""
        return {one.group: one for one in energy_sums(self._rows, "request_id", since_s, None)}

    def spent_since(self, since_s: float) -> list[Spent]:
        """What was used from the UTC day that begins at ``since_s`` on.

        Requests that failed cost no tokens and no money; the joules that they took are theirs.
        """
        rows = self._rows(
            "SELECT key_id, tenant, model, sum(tokens), sum(high), sum(low), sum(microjoules) FROM ("
            "SELECT key_id, tenant, model, tokens, cost_high AS high, cost_low AS low, 0 AS microjoules"
            " FROM spent_by_day WHERE day >= ?1"
            " UNION ALL SELECT key_id, tenant, model, 0, 0, 0, microjoules FROM joules_by_day WHERE day >= ?1"
            ") GROUP BY key_id, tenant, model",
            int(since_s // 86_400),
        )
        return [
            Spent(key, tenant, model, tokens, high * HALF + low, microjoules / MICRO)
            for key, tenant, model, tokens, high, low, microjoules in rows
        ]

    # journal

    def marks(self) -> dict[str, int]:
        """How many bytes of each journal segment are settled."""
        return dict(self._rows("SELECT segment, settled_bytes FROM journal_marks"))

    def forget_mark(self, segment: str) -> None:
        """A journal segment was deleted."""
        with self.transaction():
            self._connection.execute("DELETE FROM journal_marks WHERE segment = ?", (segment,))


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
        user=row[11],
        band=row[12],
        budgets=msgspec.json.decode(row[13], type=tuple[Budget, ...]),
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


class KeyWatch:
    """Notices keys that were made, changed or revoked, by this process or another one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._change = 0

    def poll(self) -> list[Key]:
        """Keys made or changed since the last call; the first call gives all. Cheap enough for twice a second."""
        self._change, keys = self._store.key_changes_since(self._change)
        return keys
