"""How busy a replica says it is, asked over the gateway's own connections."""

import asyncio

from tests.support.scripted import Script, ScriptedEngine

from underlay.live.engines.connections import Pool
from underlay.live.load_probe import LoadProbes


class Heard:
    def __init__(self):
        self.pool = Pool(asyncio.get_running_loop())
        self.told = []
        self.probes = LoadProbes(self.pool, lambda *answer: self.told.append(answer))

    async def until(self, count):
        async with asyncio.timeout(5):
            while len(self.told) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def test_a_replica_says_what_it_works_on_and_what_waits():
    engine = ScriptedEngine(Script(slots=1, ttft_ms=500))
    await engine.start()
    heard = Heard()
    writers = []
    for _ in range(3):
        _, writer = await asyncio.open_connection("127.0.0.1", engine.port)
        writer.write(b'POST /completion HTTP/1.1\r\nContent-Length: 28\r\n\r\n{"prompt":"x","stream":true}')
        writers.append(writer)
    await asyncio.sleep(0.05)
    address = ("127.0.0.1", engine.port)
    for _ in range(10):
        heard.probes.ask("r", address)  # one at a time, however often it is asked
    await heard.until(1)
    assert heard.told == [("r", 1, 2)]
    heard.probes.ask("r", address)
    await heard.until(2)
    assert len(heard.told) == 2
    for writer in writers:
        writer.close()
    heard.pool.close()
    await engine.stop()


async def test_no_answer_is_no_report_and_the_next_question_is_asked():
    async def say_nothing(reader, writer):
        while await reader.read(1000):
            pass
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    heard = Heard()
    heard.probes.ask("r", silent.sockets[0].getsockname())
    heard.probes.ask("gone", ("127.0.0.1", 1))
    await asyncio.sleep(1.2)
    assert heard.told == []
    engine = ScriptedEngine()
    await engine.start()
    for name in ("r", "gone"):
        heard.probes.ask(name, ("127.0.0.1", engine.port))
    await heard.until(2)
    assert sorted(heard.told) == [("gone", 0, 0), ("r", 0, 0)]
    heard.probes.close()
    heard.pool.close()
    await engine.stop()
    silent.close()
