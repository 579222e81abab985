"""The life of one replica: start it, watch it, give it up, wait a little, start it again.

Ours is a child process that is read, asked and ended; one at an address belongs to somebody else and is only asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import msgspec
import structlog

from underlay.live.fleet import probe
from underlay.live.fleet.status import ReplicaStatus
from underlay.live.settings import ModelSettings

log = structlog.get_logger("underlay.fleet")

_BACKOFF_FIRST_S = 0.2
_BACKOFF_MAX_S = 30.0
#: After so long in good health a failure counts as the first again.
_HEALTHY_S = 30.0
_TERMINATE_S = 3.0
_LOG_LINES = 8

Progress = Callable[[str], None]


class ReplicaFailed(Exception):
    """A replica is given up; the message says why."""


class Tell(msgspec.Struct, frozen=True):
    """Whom a replica tells."""

    seen: Callable[[ReplicaStatus], None]
    lost: Callable[[str, str], None]
    progress: Progress


class Replica:
    """One replica and the task of its life."""

    #: After the one before it is ready; a child leaves it the cores for its first answer.
    _apart_s = 0.0

    def __init__(self, model: ModelSettings, index: int, tell: Tell) -> None:
        engine = model.engine
        self.status = ReplicaStatus(f"{model.name}/{index}", model.name, engine.kind, engine.slots)
        #: Set when its first start has ended, well or not.
        self.settled = asyncio.Event()
        self._engine = engine
        self._tell = tell
        self._pause_s = _BACKOFF_FIRST_S

    async def live(self, turn: asyncio.Event | None) -> None:
        """Run until cancelled."""
        if turn is not None:
            await turn.wait()
            await asyncio.sleep(self._apart_s)
        while True:
            try:
                await self._once()
            except ReplicaFailed as failure:
                self._lost(str(failure))
            except Exception as error:
                log.exception("replica watch failed", replica=self.status.name)
                self._lost(f"{type(error).__name__}: {error}")
            finally:
                await self.end()
                self.settled.set()
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, _BACKOFF_MAX_S)
            self._restarted()

    async def _once(self) -> None:
        """Start and watch; never returns, but raises ``ReplicaFailed``."""
        await self._begin()
        self.status.generation += 1
        self.status.started_at = time.monotonic()
        self.status.step("answered")
        self.settled.set()
        log.info("replica ready", replica=self.status.name, generation=self.status.generation)
        self._tell.seen(self.status)
        await self._watch()

    def _lost(self, why: str) -> None:
        known = self.status.state == "ready"
        self.status.step("failed")
        if self.status.started_at and time.monotonic() - self.status.started_at > _HEALTHY_S:
            self._pause_s = _BACKOFF_FIRST_S
        if known:
            self._tell.lost(self.status.name, why)
        elif why != self.status.why:
            log.warning("replica does not start", replica=self.status.name, why=why)
            self._tell.progress(f"{self.status.name} does not start: {why}")
        self.status.why = why
        self.status.started_at, self.status.resident_mb, self.status.gauges = 0.0, None, {}

    def _restarted(self) -> None:
        self.status.step("restarted")

    async def _begin(self) -> None:
        """Bring it to where it answers, or raise ``ReplicaFailed``."""
        raise NotImplementedError

    async def end(self) -> None:
        """Leave nothing of it behind; once more, if the task of its life was cancelled while it did that."""

    async def _nap(self, seconds: float) -> None:
        """Wait until the next look."""
        await asyncio.sleep(seconds)

    async def _watch(self) -> None:
        judge = probe.Watch(self._engine.probe_strikes, self._engine.stall_s).judge
        spent_s = 0.0
        while True:
            # A probe that waited for an answer in vain was pause enough.
            await self._nap(max(0.0, self._engine.probe_s - spent_s))
            began_at = time.monotonic()
            look = await self._look()
            spent_s = 0.0 if look.alive else time.monotonic() - began_at
            if look.values is not None:
                self.status.gauges = look.values
            if self.status.pid is not None:
                self.status.resident_mb = probe.resident_mb(self.status.pid)
            why = judge(look)
            if why:
                raise ReplicaFailed(why)

    async def _look(self) -> probe.Look:
        trouble = await self._health()
        values = None if trouble else await self._metrics()
        pid = self.status.pid
        used_s = probe.cpu_s(pid) if pid is not None else None
        return probe.Look(time.monotonic(), not trouble, values, used_s, trouble)

    @property
    def _timeout_s(self) -> float:
        """How long a probe may take: a machine under load answers late, and late is not dead."""
        return max(2.0, self._engine.probe_s)

    async def _health(self) -> str:
        """What is wrong, or nothing."""
        try:
            status = await self._status("/health")
            if status in (404, 405):
                status = await self._status("/v1/models")
        except TimeoutError:
            return f"no answer in {self._timeout_s:g} s"
        except (OSError, ValueError) as error:
            return str(error) or type(error).__name__
        return "" if status == 200 else f"health check answered {status}"

    async def _status(self, path: str) -> int:
        key = os.environ.get(self._engine.api_key_env or "", "")
        headers = f"Authorization: Bearer {key}\r\n" if key else ""
        return (await probe.get(self.status.address, path, self._timeout_s, headers))[0]

    async def _metrics(self) -> dict[str, float] | None:
        try:
            status, body = await probe.get(self.status.address, "/metrics", self._timeout_s)
        except (OSError, ValueError):
            return None
        return probe.gauges(body) if status == 200 else {}


class Reached(Replica):
    """A replica that somebody else runs."""

    def __init__(self, model: ModelSettings, index: int, tell: Tell, address: tuple[str, int]) -> None:
        super().__init__(model, index, tell)
        self.status.address = address

    async def _begin(self) -> None:
        trouble = await self._health()
        if trouble:
            raise ReplicaFailed(trouble)
        # Its own backoff is the probe's pause: asking costs next to nothing.
        self._pause_s = self._engine.probe_s

    def _restarted(self) -> None:
        self._pause_s = self._engine.probe_s
        super()._restarted()


class Child(Replica):
    """A replica that is our child process."""

    _apart_s = 1.5

    def __init__(self, model: ModelSettings, index: int, tell: Tell, command: Sequence[str]) -> None:
        super().__init__(model, index, tell)
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._gone: asyncio.Task[int] | None = None
        self._log: deque[str] = deque(maxlen=_LOG_LINES)

    def _restarted(self) -> None:
        super()._restarted()
        self.status.restarts += 1

    async def _begin(self) -> None:
        address: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        gone = await self._spawn(address)
        await asyncio.wait(
            (address, gone), timeout=self._engine.startup_timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if not address.done():
            self._raise_if_gone()
            raise ReplicaFailed(f"not ready after {self._engine.startup_timeout_s:g} s{self._last_words()}")
        self.status.address = address.result()
        await self._answers()

    async def _spawn(self, address: asyncio.Future[tuple[str, int]]) -> asyncio.Task[int]:
        """Start the process and read what it says; returns the task that ends when it does."""
        self._log.clear()
        pipe = asyncio.subprocess.PIPE
        spawning = asyncio.ensure_future(
            asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe, stderr=pipe)
        )
        try:
            # A fleet that is stopped at this moment must still learn of its child.
            process = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            self._own(await spawning, address)
            raise
        return self._own(process, address)

    def _own(
        self, process: asyncio.subprocess.Process, address: asyncio.Future[tuple[str, int]]
    ) -> asyncio.Task[int]:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self.status.pid = process.pid
        self._gone = asyncio.create_task(process.wait())
        self._readers = [
            asyncio.create_task(self._read(process.stdout, address)),
            asyncio.create_task(self._read(process.stderr, None)),
        ]
        return self._gone

    async def _answers(self) -> None:
        """Wait until it says that its model is loaded."""
        until = time.monotonic() + self._engine.startup_timeout_s
        while trouble := await self._health():
            if time.monotonic() > until:
                raise ReplicaFailed(f"not ready in time: {trouble}")
            await self._nap(0.02)

    async def _read(self, stream: asyncio.StreamReader, address: asyncio.Future[tuple[str, int]] | None) -> None:
        """Read all that the child writes, so that it never waits for us; keep the last lines."""
        rest = b""
        while data := await stream.read(65_536):
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-4096:]
            for line in lines:
                if address is not None and not address.done() and line.startswith(b"{"):
                    self._hear_address(line, address)
                else:
                    self._log.append(line[:300].decode(errors="replace"))

    @staticmethod
    def _hear_address(line: bytes, address: asyncio.Future[tuple[str, int]]) -> None:
        with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError, ValueError):
            parts = urlsplit(msgspec.json.decode(line)["listening"])
            address.set_result((parts.hostname or "127.0.0.1", parts.port or 80))

    async def _nap(self, seconds: float) -> None:
        """Wait until the next look, or until the process ends."""
        if self._gone is not None:
            await asyncio.wait((self._gone,), timeout=seconds)
            self._raise_if_gone()

    def _raise_if_gone(self) -> None:
        if self._gone is None or not self._gone.done():
            return
        code = self._gone.result()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise ReplicaFailed(how + self._last_words())

    def _last_words(self) -> str:
        words = " | ".join(line.strip() for line in self._log if line.strip())
        return f": {words}" if words else ""

    async def end(self) -> None:
        """End the process, gently if it listens, and wait for it."""
        process, gone = self._process, self._gone
        if process is None or gone is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            # A replica that was given up may be stopped or stuck; it gets no time to clean up.
            if number == signal.SIGTERM and self.status.state == "lost":
                continue
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            await asyncio.wait((gone,), timeout=_TERMINATE_S)
            if gone.done():
                break
        # They end with the pipes, unless something that the child left behind keeps those open.
        await asyncio.wait(self._readers, timeout=_TERMINATE_S)
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._process, self._gone, self._readers = None, None, []
        self.status.pid = None
