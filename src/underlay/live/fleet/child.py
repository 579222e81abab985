"""A replica that is our child process: started, read, asked, and ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from underlay.live.fleet.replica import Replica, ReplicaFailed, Tell
from underlay.live.settings import ModelSettings

_TERMINATE_S = 3.0
_LOG_LINES = 8


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
        self.status.restarts += self.status.state == "lost"
        super()._restarted()

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
