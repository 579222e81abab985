"""Connections to engines: nobody ever hears an answer that was meant for somebody else."""

import asyncio
import contextlib
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from underlay.live.engines import connections
from underlay.live.engines.adapter import EngineRequest
from underlay.live.engines.connections import Pool

CANARY = b"somebody-elses-words"


class Hearing:
    """A receiver that remembers, and can be waited for."""

    def __init__(self, then=None) -> None:
        self.code = 0
        self.said = b""
        self.end: str | None = None
        self.heard, self.over = asyncio.Event(), asyncio.Event()
        self.then = then

    def status(self, code):
        self.code = code

    def body(self, data):
        assert self.end is None
        self.said += data
        self.heard.set()

    def done(self):
        assert self.end is None
        self.end = "done"
        self.over.set()
        if self.then is not None:
            self.then()

    def failed(self, failure, detail):
        assert self.end is None
        self.end = failure
        self.over.set()


class Engine:
    """Answers each connection's requests with the scripted bytes, piece by piece."""

    def __init__(self, script) -> None:
        self.script = script
        self.connections = 0
        self.requests = 0
        self.tasks: set[asyncio.Task] = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    self.requests += 1
                    for piece in self.script(self.requests):
                        if piece is None:
                            return
                        if isinstance(piece, float):
                            await asyncio.sleep(piece)
                        else:
                            writer.write(piece)
                            await writer.drain()
        finally:
            writer.close()
            self.tasks.discard(task)


def reply(body: bytes, head: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextlib.asynccontextmanager
async def talking(script):
    async with Engine(script) as engine:
        pool = Pool(asyncio.get_running_loop())

        async def ask(then=None):
            hearing = Hearing(then)
            pool.call(engine.address, EngineRequest("GET", "/"), hearing)
            await asyncio.wait_for(hearing.over.wait(), 5)
            return hearing

        try:
            yield engine, pool, ask
        finally:
            pool.close()
            await asyncio.sleep(0.01)


async def test_a_clean_connection_is_used_again():
    async with talking(lambda n: [reply(b"%d" % n)]) as (engine, _, ask):
        assert [(await ask()).said for _ in range(5)] == [b"1", b"2", b"3", b"4", b"5"]
        assert engine.connections == 1


@pytest.mark.parametrize(
    "late",
    [
        reply(CANARY),
        reply(CANARY)[:30],
        reply(CANARY)[:-3],
        CANARY,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\0",
    ],
)
@pytest.mark.parametrize("pause_s", [0.0, 0.02])
async def test_what_comes_behind_a_reply_reaches_nobody(late, pause_s):
    def script(number):
        if number > 1:
            return [reply(b"yours")]
        return [reply(b"mine") + late] if not pause_s else [reply(b"mine"), pause_s, late]

    async with talking(script) as (engine, pool, ask):
        follower = Hearing()

        def at_once():  # the next call begins while the data of the last one is still in hand
            pool.call(engine.address, EngineRequest("GET", "/"), follower)

        first = await ask(None if pause_s else at_once)
        assert first.said == b"mine"
        if pause_s:
            await asyncio.sleep(2 * pause_s)
            at_once()
        await asyncio.wait_for(follower.over.wait(), 5)
        assert (follower.end, follower.said) == ("done", b"yours")
        assert engine.connections == 2


async def test_late_bytes_that_nobody_has_read_yet_are_noticed_before_the_connection_is_used():
    async with talking(lambda n: [reply(b"mine"), 0.01, reply(CANARY)] if n == 1 else [reply(b"yours")]) as (
        engine,
        pool,
        ask,
    ):
        await ask()
        (idle,) = pool._idle[engine.address]
        idle.pause()  # as if the loop had been busy with other things
        idle._paused = False
        await asyncio.sleep(0.05)
        assert (await ask()).said == b"yours"
        assert engine.connections == 2


@given(st.lists(st.integers(1, 400), max_size=12), st.sampled_from([b"", reply(CANARY), CANARY[:3]]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cutting_up_of_the_bytes(cuts, late):
    async def go():
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (b"ab", b"c" * 50, b"\xc3\xa9"))
        first = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n" + late
        edges = sorted({0, len(first), *(cut % len(first) for cut in cuts)})
        pieces = [first[a:b] for a, b in itertools.pairwise(edges)]
        async with talking(lambda n: pieces if n == 1 else [reply(b"yours")]) as (_, _, ask):
            assert (await ask()).said == b"ab" + b"c" * 50 + b"\xc3\xa9"
            assert (await ask()).said == b"yours"

    asyncio.run(go())


@pytest.mark.parametrize(
    ("pieces", "end"),
    [
        ([reply(b"whole")[:-2], None], "reset"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", None], "reset"),
        ([b"nonsense\r\n\r\n"], "reset"),
        ([None], "reset"),
        ([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", None], "reset"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", 0.01, reply(b"fine")], "done"),
        ([reply(b"fine", "Connection: close\r\n"), None], "done"),
    ],
)
async def test_how_a_reply_ends(pieces, end):
    async with talking(lambda n: pieces if n == 1 else [reply(b"next")]) as (_engine, _, ask):
        assert (await ask()).end == end
        assert (await ask()).said == b"next"


async def test_a_connection_that_went_stale_is_replaced_without_a_word():
    closed = []

    def script(number):
        if number == 1:
            return [reply(b"1")]
        if number == 2:  # reads the request and closes without a byte, as a server does with idle connections
            closed.append(number)
            return [None]
        return [reply(b"again")]

    async with talking(script) as (engine, _, ask):
        await ask()
        assert (await ask()).said == b"again"
        assert closed == [2]
        assert engine.connections == 2


async def test_nobody_there():
    pool = Pool(asyncio.get_running_loop())
    hearing = Hearing()
    pool.call(("127.0.0.1", 1), EngineRequest("GET", "/"), hearing)
    await asyncio.wait_for(hearing.over.wait(), 5)
    assert hearing.end == "refused"


async def test_an_aborted_call_is_heard_of_no_more_and_its_connection_is_destroyed():
    async with talking(lambda n: [reply(CANARY * 100)[:200], 0.05, reply(CANARY)] if n == 1 else [reply(b"2")]) as (
        engine,
        pool,
        ask,
    ):
        hearing = Hearing()
        call = pool.call(engine.address, EngineRequest("GET", "/"), hearing)
        await hearing.heard.wait()
        call.abort()
        said = hearing.said
        assert (await ask()).said == b"2"
        await asyncio.sleep(0.08)
        assert hearing.said == said
        assert hearing.end is None
        assert engine.connections == 2
        for when in range(3):  # before it is connected, while, after
            never = Hearing()
            call = pool.call(("127.0.0.1", engine.address[1]), EngineRequest("GET", "/"), never)
            for _ in range(when):
                await asyncio.sleep(0)
            call.abort()
        assert never.end is None


async def test_a_pause_stops_the_reading_and_a_paused_connection_is_not_used_again():
    async with talking(lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", 0.03, b"cd"]) as (
        engine,
        pool,
        ask,
    ):
        hearing = Hearing()
        call = pool.call(engine.address, EngineRequest("GET", "/"), hearing)
        await hearing.heard.wait()
        call.pause()
        await asyncio.sleep(0.08)
        assert hearing.said == b"ab"
        call.resume()
        await asyncio.wait_for(hearing.over.wait(), 5)
        assert hearing.said == b"abcd"
        waiting = Hearing()
        paused = pool.call(engine.address, EngineRequest("GET", "/"), waiting)
        paused.pause()
        await asyncio.sleep(0.05)
        assert waiting.said == b""
        paused.resume()
        await asyncio.wait_for(waiting.over.wait(), 5)
        assert waiting.said == b"abcd"
        assert (await ask()).said == b"abcd"


async def test_idle_connections_are_few_and_short_lived(monkeypatch):
    monkeypatch.setattr(connections, "_IDLE_MAX", 3)
    async with talking(lambda _: [0.02, reply(b"x")]) as (engine, pool, ask):
        await asyncio.gather(*(ask() for _ in range(10)))
        assert len(pool._idle[engine.address]) == 3
        monkeypatch.setattr(connections, "_IDLE_S", 0.01)
        await asyncio.sleep(0.02)
        pool.sweep()
        await asyncio.sleep(0.02)
        assert not pool._idle[engine.address]
        assert not pool._all
