"""A gateway, a desk and scripted engines in this very process, and clients whose connection breaks when told to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.support.scripted import Script, ScriptedEngine

from underlay.control.effects import Admitted, Charge, Close, Refuse, Replay
from underlay.control.events import KeyChanged, ReplicaLost, ReplicaSeen
from underlay.domain.answer import ModelCard
from underlay.domain.keys import Key
from underlay.domain.policy import DeskSettings, ModelPolicy
from underlay.domain.views import Journey
from underlay.live import journal_file, keyring
from underlay.live.driver import Driver
from underlay.live.engines import adapter_for
from underlay.live.gateway.blocks import Digests
from underlay.live.gateway.http import Connection
from underlay.live.gateway.listener import Gateway
from underlay.live.gateway.shelf import Shelf
from underlay.live.settings import EngineSettings, ModelSettings, PublicSettings
from underlay.live.store import Store
from underlay.live.store_writer import StoreWriter


class Inside:
    """A gateway with its engines. ``effects`` is everything the desk decided, in order.

    ``journeys`` are those of requests that are over, where the gateway looks them up.
    """

    def __init__(
        self,
        driver: Driver,
        gateway: Gateway,
        engines: list[ScriptedEngine],
        key: Key,
        secret: str,
        journeys: dict[str, Journey],
    ) -> None:
        self.driver, self.gateway, self.engines = driver, gateway, engines
        self.key, self.secret = key, secret
        self.journeys = journeys
        self.effects: list[Any] = []
        handle = driver.desk.handle

        def watched(event: Any) -> Any:
            decided = handle(event)
            self.effects += decided
            return decided

        driver.desk.handle = watched  # type: ignore[method-assign]

    def busy(self) -> int:
        """Strands the engines work on, by their own count."""
        return sum(engine.busy + engine.waiting for engine in self.engines)

    def lines(self) -> int:
        """Connections to engines on which an exchange is going on."""
        return sum(connection.call is not None for connection in self.driver.pool._all)

    def load(self) -> int:
        """Strands the desk has leased."""
        return sum(replica.load for replica in self.driver.desk.replicas.values())

    def check_books(self) -> None:
        """Whoever was let in and is gone was charged once and closed once; the desk's own books add up."""
        self.driver.desk.check()
        let_in = {effect.ticket for effect in self.effects if isinstance(effect, Admitted)}
        free = {effect.ticket for effect in self.effects if isinstance(effect, Refuse | Replay)}
        ended = sorted(let_in - free - set(self.driver.desk.tickets))
        for kind in (Charge, Close):
            told = sorted(effect.ticket for effect in self.effects if isinstance(effect, kind))
            assert told == ended, f"{kind.__name__}: {set(told) ^ set(ended)}, or one of them twice"

    async def settles(self, strands: int, limit_s: float = 3.0) -> None:
        """Wait until so many strands are left, by everybody's count."""
        until = time.monotonic() + limit_s
        while True:
            counts = (self.load(), self.busy(), self.lines(), len(self.driver.exchanges))
            if counts == (strands,) * 4:
                return
            told = f"leased, worked on, connected, open: {counts}; expected {strands} of each"
            assert time.monotonic() < until, told
            await asyncio.sleep(0.001)

    def lose(self, replica: str) -> None:
        self.driver.submit(ReplicaLost(at=self.driver.now(), replica=replica, cause="a test says so"))


@contextlib.asynccontextmanager
async def inside(
    folder: Path, *, engines: int = 2, slots: int = 8, kind: str = "llamacpp", **desk: Any
) -> AsyncIterator[Inside]:
    """Start it all on this loop, and end it."""
    started = [ScriptedEngine(Script(slots=slots, model="m")) for _ in range(engines)]
    for engine in started:
        await engine.start()
    more: dict[str, Any] = {"template": "transcript"} if kind == "llamacpp" else {}
    addresses = tuple(engine.url for engine in started)
    served = ModelSettings(name="m", engine=EngineSettings(kind=kind, addresses=addresses, slots=slots, **more))  # type: ignore[arg-type]
    settings = DeskSettings(models=(ModelPolicy("m", 1_000_000),), **desk)
    with Store(folder), contextlib.closing(StoreWriter(folder)) as writer:
        diary = journal_file.begin(folder, settings, "test", 1000.0)
        journeys: dict[str, Journey] = {}
        driver = Driver(
            settings,
            diary,
            writer,
            {"m": (adapter_for(served), served.engine)},
            lambda journey, _: journeys.update({journey.id: journey}),
        )
        secret = keyring.mint()
        key = Key("key_1", keyring.digest(secret), "acme")
        public = PublicSettings(port=0)
        cards = [ModelCard("m", 1, 1_000_000)]
        shelf, digests = Shelf(driver.clock), Digests(b"k" * 32)
        gateway = Gateway(public, driver, cards, shelf, lambda: (True, []), frozenset, digests, journeys.get)
        driver.submit(KeyChanged(at=driver.now(), key=key))
        for number, engine in enumerate(started):
            driver.place(f"r{number}", (engine.host, engine.port))
            driver.submit(ReplicaSeen(at=driver.now(), replica=f"r{number}", model="m", slots=slots))
        try:
            yield Inside(driver, gateway, started, key, secret, journeys)
        finally:
            gateway.close()
            driver.close()
            diary.close()
            for engine in started:
                await engine.stop()
            await asyncio.sleep(0.01)  # sockets are closed in the loop's next round


class Line(asyncio.Transport):
    """A client's end of a connection: what the gateway writes is in ``got``.

    With ``writes_max`` it breaks after so many writes; ``over`` is set when the gateway has ended or lost it.
    """

    def __init__(
        self, place: Inside, *, writes_max: int | None = None, on_write: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self.got = b""
        self.writes = 0
        self.over = asyncio.Event()
        self._closing = False
        self._writes_max = writes_max
        self._on_write = on_write
        self._loop = asyncio.get_running_loop()
        self.protocol = Connection(place.gateway)
        self.protocol.connection_made(self)

    def send(self, data: bytes) -> Line:
        """Let the gateway have these bytes, as far as the line still stands."""
        if not self._closing:
            self.protocol.data_received(data)
        return self

    def snap(self) -> None:
        """Break."""
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._lost, ConnectionResetError("snapped"))

    def _lost(self, error: Exception | None) -> None:
        self.protocol.connection_lost(error)
        self.over.set()

    # What the gateway's side calls.

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if self._closing:
            return
        self.writes += 1
        self.got += data
        if self._on_write is not None:
            self._on_write()
        if self.writes == self._writes_max:
            self.snap()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._lost, None)

    abort = close

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def write_eof(self) -> None:
        pass
