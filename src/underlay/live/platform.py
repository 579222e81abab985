"""The running platform: starts everything in order, keeps it running, and drains it at the end.

Order of starting: the data directory is locked, what an earlier run left is settled, the desk gets its keys, the
listeners open, the engines start. Order of ending: no new connections, open streams finish (or are cut when
the drain's time is over), engines stop, journal and store are written out.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import uvicorn
import uvloop
from msgspec import structs

from underlay import __version__
from underlay.control.events import KeyChanged, ReplicaLost, ReplicaSeen, SettingsChanged
from underlay.documents import desk as desk_sections
from underlay.domain.answer import ModelCard
from underlay.domain.keys import Key
from underlay.domain.money import Price
from underlay.domain.policy import DeskSettings, ModelPolicy
from underlay.domain.views import Journey, PlatformRow
from underlay.live import accounts, grid_hours, journal_file, keyring, locate, logs, spent
from underlay.live.driver import Driver
from underlay.live.engines import adapter_for, template_of
from underlay.live.fleet.process import ProcessFleet
from underlay.live.fleet.status import ReplicaStatus
from underlay.live.gateway.blocks import Digests, load_secret
from underlay.live.gateway.listener import Gateway
from underlay.live.gateway.shelf import Shelf
from underlay.live.metrics import Metrics
from underlay.live.running_energy import RunningEnergy
from underlay.live.settings import ModelSettings, Settings
from underlay.live.store import KeyWatch, Store
from underlay.live.store_writer import StoreWriter
from underlay.live.views import LiveViews
from underlay.live.warming import warm

log = structlog.get_logger("underlay.platform")

_KEYS_S = 0.5
_LEDGER_S = 60.0
_MARK_S = 5.0
_SESSION_KEY_S = 3_600.0
_WARM_AFTER_S = 1.0

Announce = Callable[[PlatformRow, str | None], None]
Progress = Callable[[str], None]
Console = Callable[[LiveViews], Any]


def run(settings: Settings, *, announce: Announce, console: Console, progress: Progress = lambda _: None) -> int:
    """Run the platform until SIGTERM or SIGINT; returns the exit status.

    ``console`` makes the ASGI application of the console listener from what it may see (``console.create_app``).
    ``announce`` is called once, when the first replica is ready, with the secret of the local key. Raises
    ``locate.AlreadyRunning`` and ``OSError`` (a port that is taken) before anything is started.
    """
    data_dir = locate.prepare(settings.data_dir.expanduser())
    logs.configure(settings.log)
    # The store's thread and the console's would otherwise keep the interpreter for 5 ms while a token waits.
    sys.setswitchinterval(0.0005)
    with locate.hold(data_dir), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Platform(settings, data_dir, console).run(announce, progress))


def desk_settings(settings: Settings) -> DeskSettings:
    """The part of the settings that decisions are made by."""
    models = (_policy(model) for model in settings.models)
    return desk_sections.desk_settings(settings.desk, models, accounts.accounts(settings), settings.limits)


def _policy(model: ModelSettings) -> ModelPolicy:
    operations = ("embedding", "count") if model.engine.embeddings else ("chat", "completion", "count")
    return ModelPolicy(
        model.name,
        model.context_tokens,
        Price(**model.price.model_dump()),
        operations,
        template=template_of(model.engine),
    )


class Platform:
    """Everything that one process runs."""

    def __init__(self, settings: Settings, data_dir: Path, console: Console) -> None:
        self._make_console = console
        self.settings = settings
        self.data_dir = data_dir
        self._began_s = time.time()
        self._status = 0
        self._stopping = asyncio.Event()
        self._first_ready = asyncio.Event()
        self._hurry = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._warming: set[asyncio.Task[None]] = set()
        self._session_secret = ""
        self._session_until = 0.0
        self._session_lock = threading.Lock()

    async def run(self, announce: Announce, progress: Progress) -> int:
        """Start, serve, drain."""
        self.loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._asked_to_stop)
        with Store(self.data_dir) as store, contextlib.closing(StoreWriter(self.data_dir)) as writer:
            self.store, self.writer = store, writer
            cut_off = journal_file.settle_old(self.data_dir, store, writer)
            # Who looks at the ledger from here on must see it whole: budgets are reckoned from it, once.
            if not await asyncio.to_thread(writer.flush, _LEDGER_S):
                log.error("the ledger cannot be written", effect="budgets may count too little in this run")
            if cut_off:
                log.warning("an earlier run was cut off", requests=cut_off, settled="by what they had used")
            self._assemble()
            try:
                await self._serve(announce, progress)
            finally:
                await self._close(progress)
        return self._status

    # Starting.

    def _assemble(self) -> None:
        settings = self.settings
        decided_by = desk_settings(settings)
        self.cards = [
            ModelCard(p.name, int(self._began_s), p.context_tokens, operations=p.operations)
            for p in decided_by.models
        ]
        self.metrics = Metrics(__version__, [card.id for card in self.cards])
        self.journal = journal_file.begin(self.data_dir, decided_by, __version__, self._began_s)
        adapters = {model.name: (adapter_for(model), model.engine) for model in settings.models}
        self.shelf = Shelf(time.monotonic)
        digests = Digests(load_secret(self.data_dir))
        self.driver = Driver(decided_by, self.journal, self.writer, adapters, self._over)
        self.driver.salt = digests.salt
        self.secret = keyring.local_secret(self.store, self.data_dir, self._began_s)
        self.keys = KeyWatch(self.store)
        self._tell_keys()
        for event in spent.spent(self.store, self.store.keys(), decided_by, self.driver.now()):
            self.driver.submit(event)
        grid = grid_hours.seen(settings, self.driver.now())
        if grid is not None:
            self.driver.submit(grid)
        self.fleet = ProcessFleet(settings.models, self.data_dir, on_seen=self._seen, on_lost=self._lost)
        self.driver.on_refused = self._refused
        self.driver.on_silent = self.fleet.suspect
        self.driver.on_drained = self.fleet.retire
        self.views = LiveViews(
            version=__version__,
            pid=os.getpid(),
            data_dir=self.data_dir,
            driver=self.driver,
            fleet=self.fleet,
            store=self.store,
            writer=self.writer,
            metrics=self.metrics,
            cards=self.cards,
            session_key=self._session_key,
        )
        self.energy = RunningEnergy(
            settings, self.data_dir, self.driver, self.writer, self.views, self.metrics, self._engine_pids
        )
        self.gateway = Gateway(
            settings.public,
            self.driver,
            self.cards,
            self.shelf,
            self.views.ready,
            lambda: self._origins,
            digests,
            self.views.journey,
        )

    async def _serve(self, announce: Announce, progress: Progress) -> None:
        console_socket = _bind(self.settings.console.host, self.settings.console.port)
        console_port = console_socket.getsockname()[1]
        try:
            host, port = await self.gateway.listen()
        except BaseException:
            console_socket.close()
            raise
        self.views.urls = (_url(host, port), _url(self.settings.console.host, console_port))
        names = {self.settings.console.host, "127.0.0.1", "localhost"}
        self._origins = frozenset(f"http://{name}:{console_port}" for name in names)
        self._start_console(console_socket)
        self._tasks = [asyncio.create_task(self._watch_keys()), asyncio.create_task(self._mark_journal())]
        self._tasks.append(asyncio.create_task(self._start_fleet(announce, progress)))
        self._tasks += [asyncio.create_task(self.energy.account()), asyncio.create_task(self.energy.cap_power())]
        _calm_collector()
        await self._stopping.wait()

    async def _start_fleet(self, announce: Announce, progress: Progress) -> None:
        try:
            await self.fleet.start(progress)
            await self._first_ready.wait()
        except Exception as error:  # reported to whoever started us, in words
            progress(f"engines cannot start: {error}")
            log.exception("engines cannot start")
            self._status = 1
            self._asked_to_stop()
            return
        run = locate.RunFile.of_this_process(*self.views.urls, __version__, self._began_s)
        locate.write(self.data_dir, run)
        announce(self.views.platform(), self.secret)

    def _engine_pids(self) -> list[int]:
        """Processes of the engines that run here; called from a meter's thread."""
        return [status.pid for status in self.fleet.statuses() if status.pid is not None]

    def _start_console(self, listening: socket.socket) -> None:
        """Run the console in a thread with its own loop, so that a spent public side does not take it along."""
        config = uvicorn.Config(
            self._make_console(self.views),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
            timeout_keep_alive=15,
            limit_concurrency=256,
            server_header=False,
        )
        self._console = uvicorn.Server(config)
        self._console_thread = threading.Thread(
            target=self._console.run, args=([listening],), name="underlay-console", daemon=True
        )
        self._console_thread.start()

    # While it runs.

    def _seen(self, status: ReplicaStatus) -> None:
        chosen = status.slots if status.engine == "llamacpp" else 0  # who else has slots, chooses among them itself
        self.driver.place(status.name, status.address, chosen)
        self.driver.submit(
            ReplicaSeen(
                at=self.driver.now(),
                replica=status.name,
                model=status.model,
                slots=status.slots,
                generation=status.generation,
                cache_tokens=status.cache_tokens,
            )
        )
        self._first_ready.set()
        warming = asyncio.create_task(self._warm(status))
        self._warming.add(warming)
        warming.add_done_callback(self._warming.discard)

    async def _warm(self, status: ReplicaStatus) -> None:
        """Warm the caches of a replica once the first questions have been asked of it."""
        await asyncio.sleep(_WARM_AFTER_S)
        await warm(self.driver, status, self.driver.slots)

    def _lost(self, name: str, cause: str) -> None:
        log.warning("replica lost", replica=name, why=cause)
        self.driver.submit(ReplicaLost(at=self.driver.now(), replica=name, cause=cause))

    def _refused(self, name: str) -> None:
        """Nobody listens where a replica should: it is lost before a probe finds out.

        If the probes find nothing wrong in the time they have, it is there after all.
        """
        self._lost(name, "it refused a connection")
        for status in self.fleet.statuses():
            if status.name == name:
                engine = self.driver.engine_settings(status.model)
                self.loop.call_later(engine.probe_s * (engine.probe_strikes + 1), self._look_again, status)

    def _look_again(self, status: ReplicaStatus) -> None:
        replica = self.driver.desk.replicas.get(status.name)
        if status.state == "ready" and replica is not None and replica.state == "lost":
            self._seen(status)

    def _over(self, journey: Journey, replica: str) -> None:
        """A request is over: remember it, count it, log it."""
        self.views.remember(journey, replica)
        if journey.key_id:  # strangers may not push the journeys of our own out of the store
            self.writer.submit_journey(journey)
        self.metrics.count(journey)
        self.energy.over(journey)
        log.info(
            "request",
            request_id=journey.id,
            trace_id=journey.trace_id,
            tenant=journey.tenant,
            key_id=journey.key_id,
            model=journey.model,
            dialect=journey.dialect,
            operation=journey.operation,
            replica=replica,
            outcome=journey.outcome,
            status=journey.status,
            reason=journey.reason,
            attempts=journey.attempts,
            prompt_tokens=journey.usage.prompt_tokens,
            completion_tokens=journey.usage.completion_tokens,
            ttft_ms=journey.ttft_ms,
            latency_ms=journey.duration_ms,
        )

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(_KEYS_S)
            try:
                self._tell_keys()
            except Exception:  # a store that cannot be read now may be readable later
                log.exception("keys cannot be read")

    def _tell_keys(self) -> None:
        for key in self.keys.poll():
            self.driver.submit(KeyChanged(at=self.driver.now(), key=key))

    async def _mark_journal(self) -> None:
        while True:
            await asyncio.sleep(_MARK_S)
            try:
                await self._settle_gap()
            except Exception:
                log.exception("journal cannot be settled")
            self._mark()

    async def _settle_gap(self) -> None:
        # Charges found no room for a while; now there is, and all of them can be read from the journal.
        if self.writer.has_gap and not self.writer.lag and self.journal.whole:
            self.writer.close_gap()
            try:
                await asyncio.to_thread(journal_file.settle, self.journal.path, self.writer)
            except BaseException:  # also when the platform stops meanwhile: without a mark the next start does it
                self.writer.has_gap = True
                raise

    def _mark(self) -> None:
        """Note that the journal is settled up to here: not while requests are open, which a crash would cut off."""
        if not self.driver.desk.tickets:
            self.writer.submit_mark(self.journal.path.name, self.journal.bytes_written)

    def _session_key(self) -> str:
        """A key for the chat page that lives in memory only, for an hour; called from the console's thread."""
        with self._session_lock:
            now = time.time()
            if now > self._session_until - 60:
                self._session_secret, self._session_until = keyring.mint(), now + _SESSION_KEY_S
                key = Key(
                    id=f"key_console_{int(now)}",
                    digest=keyring.digest(self._session_secret),
                    tenant="local",
                    name="console",
                    prefix=keyring.prefix(self._session_secret),
                    created_s=now,
                    expires_s=self._session_until,
                )
                asyncio.run_coroutine_threadsafe(self._tell_key(key), self.loop).result(timeout=5)
            return self._session_secret

    async def _tell_key(self, key: Key) -> None:
        self.driver.submit(KeyChanged(at=self.driver.now(), key=key))

    # Ending.

    def _asked_to_stop(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def _close(self, progress: Progress) -> None:
        self.views.draining = True
        locate.remove(self.data_dir)
        self.gateway.stop_accepting()
        self._begin_deferred()
        await self._drain(progress)
        await self.energy.finish()
        tasks = [*self._tasks, *self._warming]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.fleet.stop()
        await self.energy.close()
        if hasattr(self, "_console"):
            self._console.should_exit = True
            await asyncio.to_thread(self._console_thread.join, 5)
        self.gateway.close()
        self.driver.close()
        self.journal.close()
        self._mark()

    def _begin_deferred(self) -> None:
        """What waits for a better hour begins now: no hour comes after this one."""
        settings = self.driver.desk.settings
        if settings.deferral != "none":
            at_once = structs.replace(settings, deferral="none")
            self.driver.submit(SettingsChanged(at=self.driver.now(), settings=at_once))

    async def _drain(self, progress: Progress) -> None:
        """Let open streams finish; cut what is left when the time is over or someone is in a hurry."""
        until = time.monotonic() + self.settings.public.drain_s
        told = False
        while self.driver.exchanges and time.monotonic() < until and not self._hurry.is_set():
            if not told:
                progress(f"draining: {len(self.driver.exchanges)} open; Ctrl-C again to cut them off")
                told = True
            await asyncio.sleep(0.05)
        self.gateway.cut_off()
        await asyncio.sleep(0.05 if self.driver.exchanges else 0)


def _calm_collector() -> None:
    """Take everything made so far out of the garbage collector's rounds, and let it come around less often.

    A full round over all modules took several milliseconds, in the middle of somebody's first token: a tenth
    of the gateway's time under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _bind(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # now: whoever is told the address may come before the server does
    except OSError:
        listening.close()
        raise
    listening.set_inheritable(False)
    return listening


def _url(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  # shown, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
