"""The life of one replica: start it, watch it, give it up, wait a little, start it again.

One at an address belongs to somebody else and is only asked; ours is a child process (``live.fleet.child``).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

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
#: How long an urgent probe waits. A busy engine answers in milliseconds: another thread does that.
_URGENT_S = 0.6

Progress = Callable[[str], None]


class ReplicaFailed(Exception):
    """A replica is given up; the message says why."""


class Retired(Exception):
    """A replica is taken out of service: nothing runs on it any more."""


class Tell(msgspec.Struct, frozen=True):
    """Whom a replica tells."""

    seen: Callable[[ReplicaStatus], None]
    lost: Callable[[str, str], None]
    progress: Progress


class Replica:
    """One replica and the task of its life."""

    #: After the one before it is ready; a child leaves it the cores for its first answer.
    _apart_s = 0.0
    #: Urgent probes in a row without an answer that lose it.
    _urgent_strikes = 3

    def __init__(self, model: ModelSettings, index: int, tell: Tell) -> None:
        engine = model.engine
        self.status = ReplicaStatus(f"{model.name}/{index}", model.name, engine.kind, engine.slots)
        if engine.kind == "llamacpp":  # each slot keeps what it last worked on
            self.status.cache_tokens = engine.slots * model.context_tokens
        #: Set when its first start has ended, well or not.
        self.settled = asyncio.Event()
        self._engine = engine
        self._tell = tell
        self._pause_s = _BACKOFF_FIRST_S
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._word: asyncio.Future[Exception] | None = None  # what ends its watch from outside
        self._urging: asyncio.Task[None] | None = None

    async def live(self, turn: asyncio.Event | None) -> None:
        """Run until cancelled."""
        if turn is not None:
            await turn.wait()
            await asyncio.sleep(self._apart_s)
        while True:
            retired = False
            try:
                await self._once()
            except Retired:
                retired = True
            except ReplicaFailed as failure:
                self._lost(str(failure))
            except Exception as error:
                log.exception("replica watch failed", replica=self.status.name)
                self._lost(f"{type(error).__name__}: {error}")
            finally:
                await self.end()
                self.settled.set()
            if not retired:
                await asyncio.sleep(self._pause_s)
                self._pause_s = min(2 * self._pause_s, _BACKOFF_MAX_S)
            if retired or not self._wanted.is_set():
                await self._stay_away()
            self._restarted()

    async def _stay_away(self) -> None:
        """Wait, out of service, until it is wanted again."""
        self.status.step("retired")
        self.status.started_at, self.status.resident_mb, self.status.gauges = 0.0, None, {}
        log.info("replica drained", replica=self.status.name)
        await self._wanted.wait()

    # Orders from outside, which hold over all its lives.

    def drain(self) -> None:
        """Prepare to take it out of service: what runs on it goes on, but it is not started again."""
        self._wanted.clear()
        if self.status.state == "ready":
            self.status.step("drain")

    def retire(self) -> None:
        """Take it out of service, if it is to be: nothing runs on it any more."""
        if not self._wanted.is_set():
            self._interrupt(Retired())

    def restore(self) -> None:
        """Want it after all; one that is out of service starts again."""
        self._wanted.set()
        if self.status.state == "draining" and self._word is not None and not self._word.done():
            self.status.step("restored")

    def suspect(self, silent: Callable[[], bool]) -> None:
        """Find out quickly whether it lives: it has streams open and says nothing on any of them.

        ``silent`` tells whether that is still so.
        """
        if self._word is not None and (self._urging is None or self._urging.done()):
            self._urging = asyncio.create_task(self._urge(silent))

    def _interrupt(self, word: Exception) -> None:
        if self._word is not None and not self._word.done():
            self._word.set_result(word)

    async def _urge(self, silent: Callable[[], bool]) -> None:
        """Probe again and again at once, until it answers, speaks, or must be given up."""
        for _ in range(self._urgent_strikes):
            before = self._signs()
            began_at = time.monotonic()
            answered = await self._answers_now()
            late = time.monotonic() - began_at > 2 * _URGENT_S  # then it is we who were slow
            if answered or late or not silent():
                return
            now = self._signs()
            if now is not None and now.stopped:
                self._interrupt(ReplicaFailed("silent: its process is stopped"))
                return
            if now is not None and before is not None and now.lives_since(before):
                return  # the slower probes decide
        self._interrupt(ReplicaFailed(f"silent: no word, and no answer to {self._urgent_strikes} urgent probes"))

    async def _answers_now(self) -> bool:
        """Whether anything at all comes back in the time of an urgent probe, which is waited out otherwise."""
        until = time.monotonic() + _URGENT_S
        try:
            await self._status("/health", _URGENT_S)
        except OSError:
            await asyncio.sleep(max(0.0, until - time.monotonic()))
            return False
        except ValueError:
            return True
        return True

    def _signs(self) -> probe.Signs | None:
        """What the kernel says of its process, where that is ours."""
        return None if self.status.pid is None else probe.process_signs(self.status.pid)

    # One life.

    async def _once(self) -> None:
        """Start and watch; never returns, but raises ``ReplicaFailed`` or ``Retired``."""
        await self._begin()
        if not self._wanted.is_set():
            raise Retired
        self.status.generation += 1
        self.status.started_at = time.monotonic()
        self.status.step("answered")
        self.settled.set()
        log.info("replica ready", replica=self.status.name, generation=self.status.generation)
        self._tell.seen(self.status)
        await self._watch_until_told()

    async def _watch_until_told(self) -> None:
        word = self._word = asyncio.get_running_loop().create_future()
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait((watching, word), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            raise word.result()
        finally:
            self._word = None
            watching.cancel()
            if self._urging is not None:
                self._urging.cancel()

    def _lost(self, why: str) -> None:
        known = self.status.state in ("ready", "draining")
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
            status = await self._status("/health", self._timeout_s)
            if status in (404, 405):
                status = await self._status("/v1/models", self._timeout_s)
        except TimeoutError:
            return f"no answer in {self._timeout_s:g} s"
        except (OSError, ValueError) as error:
            return str(error) or type(error).__name__
        return "" if status == 200 else f"health check answered {status}"

    async def _status(self, path: str, timeout_s: float) -> int:
        key = os.environ.get(self._engine.api_key_env or "", "")
        headers = f"Authorization: Bearer {key}\r\n" if key else ""
        return (await probe.get(self.status.address, path, timeout_s, headers))[0]

    async def _metrics(self) -> dict[str, float] | None:
        try:
            status, body = await probe.get(self.status.address, "/metrics", self._timeout_s)
        except (OSError, ValueError):
            return None
        return probe.gauges(body) if status == 200 else {}


class Reached(Replica):
    """A replica that somebody else runs."""

    #: Nobody can say what its process does, and a network may lose a packet.
    _urgent_strikes = 4

    def __init__(self, model: ModelSettings, index: int, tell: Tell, address: tuple[str, int]) -> None:
        super().__init__(model, index, tell)
        self.status.address = address

    async def _begin(self) -> None:
        trouble = await self._health()
        if trouble:
            raise ReplicaFailed(trouble)
        # Its own backoff is the probe's pause: asking costs next to nothing.
        self._pause_s = self._engine.probe_s
        if self._engine.kind == "openai":
            await self._ask_cache_size()

    async def _ask_cache_size(self) -> None:
        try:
            _, body = await probe.get(self.status.address, "/metrics", self._timeout_s)
        except (OSError, ValueError):
            return
        self.status.cache_tokens = probe.cache_tokens(body)

    def _restarted(self) -> None:
        self._pause_s = self._engine.probe_s
        super()._restarted()
