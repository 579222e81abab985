"""Every coroutine of the live driver, cancelled at each of its suspensions: nothing is left behind.

No task, no socket or pipe, no child process. The driver is small here: requests run in callbacks, whose breaks are
enumerated in ``gateway/test_broken_clients.py``. A coroutine that is added without a case here fails a test.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gc
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.live.fleets import model
from tests.support.cancelling import Case, belongings, cancel_everywhere, left_nothing
from tests.support.inside import inside
from tests.support.scripted import Script, ScriptedEngine

import underlay.live
from underlay.ledger.steps import ANY_COSTS
from underlay.live import platform as platform_module
from underlay.live import warming
from underlay.live.energy.accounting import EnergyAccounts, Hearers
from underlay.live.energy.metered import MeteredHost
from underlay.live.energy.prior import processor_prior
from underlay.live.energy.site import Site
from underlay.live.energy.work import Work
from underlay.live.engines.connections import Call, Pool
from underlay.live.fleet import child as child_module
from underlay.live.fleet import probe, process, replica
from underlay.live.fleet.child import Child
from underlay.live.fleet.process import ProcessFleet
from underlay.live.fleet.replica import Reached, Tell
from underlay.live.fleet.status import ReplicaStatus
from underlay.live.gateway.listener import Gateway
from underlay.live.meters.ladder import Ladder
from underlay.live.platform import Platform
from underlay.live.settings import (
    ConsoleSettings,
    EngineSettings,
    ModelSettings,
    PublicSettings,
    Settings,
    SiteSettings,
)

#: A server as small as Python starts: it says where it listens, is well, and ends with its standard input.
TINY = """
import os, socket, threading
s = socket.create_server(("127.0.0.1", 0))
def serve():
    while True:
        c, _ = s.accept()
        c.recv(4096)
        c.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n")
        c.close()
threading.Thread(target=serve, daemon=True).start()
os.write(1, b'{"listening": "http://127.0.0.1:%d"}\\n' % s.getsockname()[1])
while os.read(0, 4096): pass
"""
COMMAND = (sys.executable, "-I", "-S", "-c", TINY)

both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch) -> None:
    """Nobody waits for long."""
    monkeypatch.setattr(replica, "_BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(replica, "_URGENT_S", 0.03)
    monkeypatch.setattr(Child, "_apart_s", 0.01)
    monkeypatch.setattr(child_module, "_TERMINATE_S", 1.0)
    monkeypatch.setattr(warming, "_IDLE_LOOK_S", 0.01)
    monkeypatch.setattr(platform_module, "_KEYS_S", 0.01)
    monkeypatch.setattr(platform_module, "_MARK_S", 0.01)
    monkeypatch.setattr(platform_module, "_WARM_AFTER_S", 0.01)


async def a_first_child() -> None:
    """The first one of a loop opens what later ones share."""
    pipe = asyncio.subprocess.PIPE
    await (await asyncio.create_subprocess_exec("/bin/true", stdin=pipe, stdout=pipe, stderr=pipe)).communicate()


async def nothing() -> None:
    """What an owner does who has nothing to end."""


@contextlib.asynccontextmanager
async def an_engine(**script: Any):
    engine = ScriptedEngine(Script(**script))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


@contextlib.asynccontextmanager
async def a_mute_server():
    """It takes connections and says nothing."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()


def reached(address: tuple[str, int], **engine: Any) -> ModelSettings:
    return ModelSettings(
        name="m",
        engine=EngineSettings(
            kind="openai", addresses=(f"http://{address[0]}:{address[1]}",), probe_s=0.01, **engine
        ),
    )


def quiet(seen: Callable[[ReplicaStatus], None] = lambda _: None) -> Tell:
    return Tell(seen, lambda _name, _why: None, lambda _: None)


# Probes.


@both_loops
def test_probe(run: Run):
    async def main() -> None:
        async with an_engine() as engine, a_mute_server() as mute:

            def answered() -> Any:
                return probe.get((engine.host, engine.port), "/metrics", 1.0), nothing

            async def patient() -> None:
                with contextlib.suppress(TimeoutError):
                    await probe.get(mute, "/metrics", 0.02)

            await cancel_everywhere(answered, least=3)
            await cancel_everywhere(lambda: (patient(), nothing), least=2)

    run(main())


# Replicas that are not ours.


@pytest.mark.parametrize("fate", ["watched", "refused", "retired", "its turn"])
def test_life_of_a_reached_replica(fate: str):
    """Started, watched, given up and tried again; or taken out of service; or not started yet."""

    async def main() -> None:
        async with an_engine() as engine:
            address = ("127.0.0.1", 1) if fate == "refused" else (engine.host, engine.port)

            def case() -> Any:
                def seen(_: ReplicaStatus) -> None:
                    if fate == "retired":
                        one.drain()
                        asyncio.get_running_loop().call_soon(one.retire)

                one = Reached(reached(address), 0, quiet(seen), address)
                turn = asyncio.Event() if fate == "its turn" else None
                if turn is not None:
                    asyncio.get_running_loop().call_later(0.01, turn.set)
                return one.live(turn), one.end

            await cancel_everywhere(case, limit=14, least=7)
            await cancel_everywhere(case, limit=6, twice=True)

    uvloop.run(main())


def test_watch_and_urgent_probes():
    """The tasks within a replica's life, each by itself."""

    async def main() -> None:
        async with an_engine() as engine, a_mute_server() as mute:

            def watching() -> Any:
                one = Reached(reached((engine.host, engine.port)), 0, quiet(), (engine.host, engine.port))
                return one._watch(), one.end

            def urged(address: tuple[str, int]) -> Case:
                def case() -> Any:
                    one = Reached(reached(address), 0, quiet(), address)
                    one._word = asyncio.get_running_loop().create_future()
                    return one._urge(lambda: True), one.end

                return case

            assert await cancel_everywhere(watching, limit=16) == 16
            await cancel_everywhere(urged((engine.host, engine.port)), least=2)
            await cancel_everywhere(urged(mute), least=4)
            await cancel_everywhere(urged(("127.0.0.1", 1)), least=4)

    uvloop.run(main())


# Replicas that are children of ours.


def a_child(path: Path, command: tuple[str, ...] = COMMAND) -> Child:
    return Child(model(path, probe_s=0.01, startup_timeout_s=5), 0, quiet(), command)


@pytest.mark.parametrize("twice", [False, True], ids=["once", "again while it ends"])
def test_life_of_a_child(tmp_path: Path, twice: bool):
    """Spawned, heard, asked, watched. Its owner ends it, whatever its own ending came to."""

    async def main() -> None:
        def case() -> Any:
            one = a_child(tmp_path)
            return one.live(None), one.end

        await a_first_child()
        await cancel_everywhere(case, limit=9, twice=twice, least=4)

    uvloop.run(main())


def test_ending_a_child(tmp_path: Path):
    """An ending that is cut short is done by the next one."""

    async def main() -> None:
        await a_first_child()
        await cancel_everywhere(lambda: _ending(a_child(tmp_path)))

    def _ending(one: Child) -> Any:
        async def begin_and_end() -> None:
            await one._begin()
            await one.end()

        return begin_and_end(), one.end

    uvloop.run(main())


def test_a_child_that_does_not_start(tmp_path: Path):
    async def main() -> None:
        def case() -> Any:
            one = a_child(tmp_path, ("/bin/false",))
            return one.live(None), one.end

        await a_first_child()
        await cancel_everywhere(case, limit=12)

    uvloop.run(main())


class _Said(asyncio.StreamReader):
    """What a child says, one part each time that somebody waits for more."""

    def __init__(self, *parts: bytes) -> None:
        super().__init__()
        self._parts = iter(parts)

    async def read(self, n: int = -1) -> bytes:
        await asyncio.sleep(0)
        return next(self._parts, b"")


def test_reading_what_a_child_says(tmp_path: Path):
    async def main() -> None:
        def case() -> Any:
            stream = _Said(b"hello\nwor", b'ld\n{"listening": "http://127.0.0.1:1"}\n', b"bye")
            address = asyncio.get_running_loop().create_future()
            return a_child(tmp_path)._read(stream, address), nothing

        await cancel_everywhere(case, least=3)

    uvloop.run(main())


# The fleet.


@pytest.mark.parametrize("moment", ["start", "stop"])
def test_fleet(tmp_path: Path, monkeypatch, moment: str):
    """Stopping it once more leaves nothing, wherever its start or its first stopping was cut short."""
    monkeypatch.setattr(process, "bundled_model", lambda _: tmp_path / "weights.gguf")

    async def main() -> None:
        settings = model(tmp_path, path=None, replicas=2, probe_s=0.01)

        def case() -> Any:
            fleet = ProcessFleet(
                (settings,), tmp_path, on_seen=lambda _: None, on_lost=lambda *_: None, command=lambda *_: COMMAND
            )

            async def start_and_stop() -> None:
                await fleet.start()
                if moment == "stop":
                    await asyncio.sleep(0.08)
                    await fleet.stop()

            return start_and_stop(), fleet.stop

        await asyncio.to_thread(int)  # the thread that prepares weights stays
        await a_first_child()
        await cancel_everywhere(case, least=3 if moment == "stop" else 1)

    uvloop.run(main())


# Connections to engines, and warming.


class _Deaf:
    """A receiver that does not care."""

    def status(self, code: int) -> None: ...
    def body(self, data: bytes) -> None: ...
    def done(self) -> None: ...
    def failed(self, failure: str, detail: str) -> None: ...


@both_loops
def test_connecting_to_an_engine(run: Run):
    async def main() -> None:
        async with an_engine() as engine:
            address = (engine.host, engine.port)

            def connecting() -> Any:
                pool = Pool(asyncio.get_running_loop())
                return pool.connect(address), _closing(pool)

            def opening() -> Any:
                pool = Pool(asyncio.get_running_loop())
                call = Call(pool, address, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n", _Deaf())
                return call._open(), _closing(pool, call)

            await cancel_everywhere(connecting, least=1)
            await cancel_everywhere(opening, least=1)

    run(main())


def _closing(pool: Pool, call: Call | None = None) -> Any:
    async def close() -> None:
        if call is not None:
            call.abort()
        pool.close()

    return close


def test_warming(tmp_path: Path):
    """A replica's slots, one after the other, while somebody's request comes in between."""

    async def main() -> None:
        async with inside(tmp_path, engines=1, slots=2) as place:
            engine, driver = place.engines[0], place.driver
            status = ReplicaStatus("r0", "m", "llamacpp", 2, (engine.host, engine.port), state="ready")
            await warming.warm(driver, status)
            engine.fault("hang", 0, 1000)  # cut short, it must not leave the engine at work
            before = belongings()
            task = asyncio.create_task(warming.warm(driver, status))
            await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            driver.pool.close()
            await left_nothing(before)
            engine.fault("none")
            await place.settles(0)

            def case() -> Any:
                async def close() -> None:
                    driver.pool.close()

                return warming.warm(driver, status), close

            await cancel_everywhere(case, least=2)
            await place.settles(0)

    uvloop.run(main())


# The listener and the platform.


def test_listening(tmp_path: Path):
    """On uvloop, as always; asyncio's own loop forgets a socket here when it is cancelled."""

    async def main() -> None:
        async with inside(tmp_path, engines=1) as place:

            def case() -> Any:
                gateway = Gateway(
                    PublicSettings(port=0),
                    place.driver,
                    [],
                    place.gateway._shelf,
                    lambda: (True, []),
                    frozenset,
                    place.gateway._digests,
                )

                async def close() -> None:
                    gateway.stop_accepting()
                    gateway.close()
                    gc.collect()  # a server that was cut off while it began is nobody's

                return gateway.listen(), close

            await cancel_everywhere(case)

    uvloop.run(main())


@contextlib.contextmanager
def _usual_collector() -> Iterator[None]:
    """The platform tunes the collector of the whole process."""
    was = gc.get_threshold()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*was)


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    """A console that answers nothing."""


def a_platform(folder: Path, engine: ScriptedEngine) -> Platform:
    served = ModelSettings(
        name="m", engine=EngineSettings(addresses=(engine.url,), template="transcript", slots=1, probe_s=0.05)
    )
    settings = Settings(
        models=(served,), public=PublicSettings(port=0), console=ConsoleSettings(port=0), data_dir=folder
    )
    return Platform(settings, folder, lambda _views: _hello)


def test_platform_run(tmp_path: Path):
    """The whole platform, cut short while it starts and while it serves.

    Its ending is nobody's to cancel: signals only make it hurry.
    """

    async def main() -> None:
        async with an_engine(slots=1) as engine:
            await asyncio.to_thread(int)
            folders = iter(range(1000))

            def case() -> Any:
                folder = tmp_path / str(next(folders))
                folder.mkdir()
                one = a_platform(folder, engine)

                async def close() -> None:
                    with warnings.catch_warnings():  # of the address that was bound when its start was cut short
                        warnings.simplefilter("ignore", ResourceWarning)
                        gc.collect()

                return one.run(lambda *_: None, lambda _: None), close

            assert (
                await cancel_everywhere(case, least=3, limit=4) == 3
            )  # settling, listening, and then serving for good

    with _usual_collector():
        uvloop.run(main())


def test_tasks_of_the_platform(tmp_path: Path):
    """What runs beside it while it serves."""

    async def main() -> None:
        async with an_engine(slots=1) as engine:
            ready = asyncio.Event()
            one = a_platform(tmp_path, engine)
            running = asyncio.create_task(one.run(lambda *_: ready.set(), lambda _: None))
            await ready.wait()
            await asyncio.sleep(0.2)  # its own warming is over
            await asyncio.to_thread(int)
            (status,) = one.fleet.statuses()
            one.writer.has_gap = True  # something to settle
            cases: dict[str, Callable[[], Any]] = {
                "keys": one._watch_keys, "marks": one._mark_journal, "gap": one._settle_gap,
                "warming": lambda: one._warm(status), "drain": lambda: one._drain(lambda _: None),
                "views": lambda: one.views._drain("nobody", drain=True),
            }  # fmt: skip
            for make in cases.values():
                await cancel_everywhere(lambda make=make: (make(), nothing), limit=6)
            one._asked_to_stop()
            await running

    with _usual_collector():
        uvloop.run(main())


def test_accounts_of_energy():
    """Looking and closing windows; what a thread is at when it is cancelled ends by itself."""

    async def main() -> None:
        await asyncio.to_thread(int)

        def accounts() -> EnergyAccounts:
            host = MeteredHost(Ladder(()), lambda _begin, _end: [], processor_prior(ANY_COSTS))
            work, site = Work(["m"], 0.0), Site(SiteSettings())
            clock = iter(n / 100 for n in range(100_000)).__next__
            hearers = Hearers(lambda _: None)
            return EnergyAccounts(host, work, site, tuple, hearers, clock, window_s=0.01, begin_s=0.0)

        def looked() -> EnergyAccounts:
            one = accounts()
            one.look()
            one.look()
            return one

        def closing() -> Case:
            return looked().close_due(), nothing

        assert await cancel_everywhere(closing, limit=3) >= 1
        await cancel_everywhere(lambda: (accounts().run(), nothing), limit=6)
        assert await cancel_everywhere(lambda: (looked().finish(), nothing), limit=3) >= 1

    uvloop.run(main())


# None is forgotten.

COVERED = {
    "fleet/probe.py": {"get", "_read"},
    "fleet/replica.py": {
        "live", "_once", "_stay_away", "_urge", "_answers_now", "_watch_until_told", "_begin", "end", "_nap", "_watch",
        "_look", "_health", "_status", "_metrics", "_ask_cache_size",
    },
    "fleet/child.py": {"_begin", "_spawn", "_answers", "_read", "_nap", "end"},
    "fleet/process.py": {"start", "_path", "stop"},
    "engines/connections.py": {"_open", "connect"},
    "gateway/listener.py": {"listen"},
    "energy/accounting.py": {
        "close_due", "run", "finish", "_close_last", "_close", "_book", "_settle_all",
    },
    "running_energy.py": {"account", "_account_by", "cap_power", "finish", "close"},
    "warming.py": {"warm", "_warm_slot", "_ask"},
    "views.py": {"_drain"},
    "platform.py": {
        "run", "_serve", "_start_fleet", "_warm", "_watch_keys", "_mark_journal", "_settle_gap", "_tell_key", "_close",
        "_drain",
    },
    "power_caps.py": {"begin", "run"},
}  # fmt: skip


def test_every_coroutine_has_its_case():
    root = Path(underlay.live.__file__).parent
    found: dict[str, set[str]] = {}
    for path in root.rglob("*.py"):
        names = {
            node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.AsyncFunctionDef)
        }
        # Calibration is no part of a running platform: a command of its own, whose ends tests/live/calibration tries.
        # A meter's coroutines run on a loop of its own thread, which tests/live/meters ends in the middle of them.
        if names and path.parent.name not in {"calibration", "meters"}:
            found[str(path.relative_to(root))] = names
    assert found == COVERED
