"""Where things lie on this machine: the data directory, the settings file, and a platform that runs.

A running platform writes ``run.json`` into its data directory, so that another process finds it, and holds a
lock there, so that two platforms never share one directory. Nothing heavy is imported here: ``underlay ask``
passes through on its way to a first token.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SETTINGS_NAME = "underlay.yaml"
RUN_NAME = "run.json"
LOCK_NAME = "lock"

_held: set[Path] = set()


class AlreadyRunning(Exception):
    """Another process holds the data directory. ``pid`` is ``None`` where it could not be read."""

    def __init__(self, data_dir: Path, pid: int | None) -> None:
        by = f"process {pid}" if pid else "another process"
        super().__init__(f"{data_dir} is in use by {by}")
        self.data_dir = data_dir
        self.pid = pid


class RunFile(NamedTuple):
    """A platform that runs: its process and where it listens.

    ``pid_ticks`` is when the process started in clock ticks since boot (0 where the system does not tell): a
    later process with the same number is not mistaken for it. ``started_s`` is Unix time.
    """

    pid: int
    pid_ticks: int
    public_url: str
    console_url: str
    version: str
    started_s: float

    @classmethod
    def of_this_process(cls, public_url: str, console_url: str, version: str, started_s: float) -> RunFile:
        """What this process has to say of itself."""
        pid = os.getpid()
        return cls(pid, process_ticks(pid), public_url, console_url, version, started_s)


def prepare(data_dir: Path) -> Path:
    """Make the data directory, closed to other users, unless it is there."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return data_dir


def write_private(path: Path, text: str) -> None:
    """Write a whole file at once, readable by its owner only: a reader sees the old text or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
    beside.replace(path)


def write(data_dir: Path, run: RunFile) -> None:
    """Let others find this platform."""
    write_private(prepare(data_dir) / RUN_NAME, json.dumps(run._asdict()) + "\n")


def remove(data_dir: Path) -> None:
    """Take back what ``write`` said, unless another process has said something else since."""
    run = _read(data_dir)
    if run is not None and run.pid == os.getpid():
        (data_dir / RUN_NAME).unlink(missing_ok=True)


def find(data_dir: Path) -> RunFile | None:
    """The platform that runs on this data directory, if its process lives."""
    run = _read(data_dir)
    return run if run is not None and is_alive(run.pid, run.pid_ticks) else None


def _read(data_dir: Path) -> RunFile | None:
    try:
        said = json.loads((data_dir / RUN_NAME).read_text(encoding="utf-8"))
        return RunFile(
            pid=int(said["pid"]),
            pid_ticks=int(said["pid_ticks"]),
            public_url=str(said["public_url"]),
            console_url=str(said["console_url"]),
            version=str(said["version"]),
            started_s=float(said["started_s"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def process_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if it does not live or the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # The program's name, in parentheses, may hold spaces and parentheses; fields are counted after it.
    fields = stat.rpartition(")")[2].split()
    if not fields or fields[0] in {"Z", "X"}:
        return 0
    return int(fields[19])


def is_alive(pid: int, ticks: int) -> bool:
    """Whether the process that had this number when it started at ``ticks`` still runs."""
    if ticks:
        return process_ticks(pid) == ticks
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def hold(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for the length of a ``with`` block, or raise ``AlreadyRunning`` at once.

    A process that holds it already may hold it once more: who starts a platform takes it early, the platform
    itself takes it too.
    """
    path = prepare(data_dir).resolve() / LOCK_NAME
    if path in _held:
        yield
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AlreadyRunning(data_dir, _pid_in(descriptor)) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        _held.add(path)
        yield
    finally:
        _held.discard(path)
        # The file stays: removing a lock file lets a third process lock a file that nobody sees any more.
        os.close(descriptor)


def _pid_in(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None


def settings_path(config: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    """The settings file to read: the one named, ``$UNDERLAY_CONFIG``, ``./underlay.yaml``, or the user's own.

    A file that was named need not exist (reading it then says so); the others are taken only if they do.
    """
    named = config or environ.get("UNDERLAY_CONFIG")
    if named:
        return Path(named).expanduser()
    home = environ.get("XDG_CONFIG_HOME") or "~/.config"
    for path in (Path(SETTINGS_NAME), Path(home).expanduser() / "underlay" / SETTINGS_NAME):
        if path.is_file():
            return path
    return None
