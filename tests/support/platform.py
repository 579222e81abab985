"""A whole running platform as a child process, for tests that need the real thing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from underlay.twin.replay import replay

#: Deciding and checking everything again takes a minute for each so many bytes; benches write more.
_REPLAYED_BYTES_MAX = 4_000_000


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class RunningPlatform:
    """A platform started by ``underlay up``. ``url`` is the public one, without a path."""

    def __init__(
        self, process: subprocess.Popen[bytes], announced: dict[str, Any], data_dir: Path, log: Path
    ) -> None:
        self.process = process
        self.url: str = announced["public_url"]
        self.console_url: str = announced["console_url"]
        self.key: str = announced["key"]
        self.models: list[str] = announced["models"]
        self.pid: int = announced["pid"]
        self.data_dir = data_dir
        self.log = log

    @property
    def address(self) -> tuple[str, int]:
        parts = urllib.parse.urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        key: str | None = "",
    ) -> Reply:
        """One request to the public listener; ``key=None`` sends none."""
        return _ask(self.url, method, path, body, headers, self.key if key == "" else key)

    def admin(self, path: str) -> Any:
        """GET from the console's API, with the local key."""
        reply = _ask(self.console_url, "GET", path, None, None, self.key)
        assert reply.status == 200, reply
        return reply.json()

    def journey(self, request_id: str) -> dict[str, Any]:
        return self.admin(f"/api/journeys/{request_id}")

    def charges(self) -> list[tuple[Any, ...]]:
        """The ledger as it stands in the store."""
        with contextlib.closing(sqlite3.connect(self.data_dir / "underlay.db")) as store:
            return store.execute("SELECT * FROM charges ORDER BY at_s").fetchall()

    def idle(self) -> bool:
        """Whether nothing is open and no replica carries a lease."""
        replicas = self.admin("/api/replicas")
        rows = replicas["replicas"] if isinstance(replicas, dict) else replicas
        platform = self.admin("/api/platform")
        return platform["open_requests"] == 0 and platform["waiting"] == 0 and not any(r["load"] for r in rows)

    def wait_idle(self, limit_s: float = 5.0) -> None:
        until = time.monotonic() + limit_s
        while not self.idle():
            assert time.monotonic() < until, "something is still open, or a lease was kept"
            time.sleep(0.05)

    def stop(self, limit_s: float = 30.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit_s)


def _ask(url: str, method: str, path: str, body: Any, headers: dict[str, str] | None, key: str | None) -> Reply:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json", **(headers or {})}
        if key is not None:
            sent.setdefault("authorization", f"Bearer {key}")
        connection.request(method, path, data, sent)
        reply = connection.getresponse()
        return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def lay_weights(weights: Path, data_dir: Path) -> None:
    """Let a data directory have the bundled model that is there already, as if it had been put together in it."""
    models = data_dir / "models"
    models.mkdir(mode=0o700, parents=True)
    data_dir.chmod(0o700)
    for file in (weights, weights.with_suffix(".checked")):
        os.link(file, models / file.name)


@contextlib.contextmanager
def running_platform(
    folder: Path, settings: dict[str, Any] | None = None, *, limit_s: float = 60.0, weights: Path | None = None
) -> Iterator[RunningPlatform]:
    """Start ``underlay up`` on free ports with a data directory in ``folder``; stop it at the end.

    ``settings`` is what a user would write into underlay.yaml (JSON is YAML). With ``weights``, the bundled model
    is there already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "underlay.yaml"
    config.write_text(json.dumps({"log": {"format": "json"}, **(settings or {})}))
    data_dir = folder / "data"
    if weights is not None:
        lay_weights(weights, data_dir)
    ended_well = False
    log = folder / "up.log"
    command = [
        sys.executable, "-m", "underlay", "up", "--json", "--config", str(config),
        "--data-dir", str(data_dir), "--port", "0", "--console-port", "0",
    ]  # fmt: skip
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=_environment())
    try:
        yield RunningPlatform(process, _announced(process, log, limit_s), data_dir, log)
        ended_well = True
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
        if ended_well:  # else the test has more to say
            replay_all(data_dir)


def replay_all(data_dir: Path) -> None:
    """The gate: every journal that the suite makes gives a fresh desk the same effects."""
    for path in sorted((data_dir / "journal").glob("*.journal")):
        if 0 < path.stat().st_size <= _REPLAYED_BYTES_MAX:
            report = replay(path)
            assert report.equal, f"{path.name}: {report.first_difference}"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("UNDERLAY_")}


def _announced(process: subprocess.Popen[bytes], log: Path, limit_s: float) -> dict[str, Any]:
    timer = threading.Timer(limit_s, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
    finally:
        timer.cancel()
    assert line, f"the platform did not start:\n{log.read_text(errors='replace')[-4000:]}"
    announced = json.loads(line)
    return announced.get("up", announced)
