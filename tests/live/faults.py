"""Faults between our code and SQLite, the disk and the event loop; nothing of ours is replaced."""

from __future__ import annotations

import math
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

from underlay.live import store


class Faults:
    """What goes wrong with the store: ``kind``, as many ``times``."""

    def __init__(self) -> None:
        self.heal()

    def heal(self) -> None:
        self.kind, self.times = "", 0.0

    def strikes(self, *kinds: str) -> bool:
        if self.kind not in kinds or self.times <= 0:
            return False
        self.times -= 1
        return True

    def connect(self, data_dir: Path) -> Connection:
        if self.strikes("away"):
            raise sqlite3.OperationalError("unable to open database file")
        return Connection(store.connect(data_dir), self)


class Connection:
    """A connection to the store that does as it is told, or says that it did not."""

    def __init__(self, real: sqlite3.Connection, faults: Faults) -> None:
        self._real = real
        self._faults = faults

    def execute(self, statement: str, *values):
        faults = self._faults
        if statement == "BEGIN IMMEDIATE" and faults.strikes("locked"):
            raise sqlite3.OperationalError("database is locked")
        if statement == "COMMIT" and faults.strikes("refused"):
            raise sqlite3.OperationalError("disk I/O error")
        done = self._real.execute(statement, *values)
        if statement == "COMMIT" and faults.strikes("timed out"):
            raise sqlite3.OperationalError("disk I/O error")
        if statement == "COMMIT" and faults.strikes("misjudged"):
            raise sqlite3.IntegrityError("constraint failed")
        return done

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def close(self) -> None:
        self._real.close()


class Disk:
    """What the journal is written to: ``os`` with a ``write`` that may find no room, or little."""

    O_WRONLY, O_CREAT, O_EXCL, O_APPEND = os.O_WRONLY, os.O_CREAT, os.O_EXCL, os.O_APPEND

    def __init__(self) -> None:
        self.room = math.inf

    def __getattr__(self, name: str):
        return getattr(os, name)

    def write(self, descriptor: int, data: bytes) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        written = os.write(descriptor, data[: int(min(self.room, len(data)))])
        self.room -= written
        return written


class Timers:
    """An event loop as far as the journal knows one; its timers ring when a test says so."""

    def __init__(self) -> None:
        self._due = []

    def call_later(self, _: float, call):
        self._due.append(call)
        return SimpleNamespace(cancel=lambda: call in self._due and self._due.remove(call))

    def forget(self) -> None:
        self._due = []

    def ring(self) -> None:
        due, self._due = self._due, []
        for call in due:
            call()
