"""One replica's life: given up for a reason, started again, and tried less and less."""

import asyncio
import json
import signal
import sys
import time

import pytest
from tests.live.fleets import alive, model, running
from tests.support.scripted import ScriptedEngine

from underlay.live.fleet.process import llamacpp_command


async def test_a_killed_replica_is_lost_and_started_again(tmp_path):
    async with running(model(tmp_path), tmp_path) as (fleet, heard):
        await heard.until("seen", 1)
        fleet.kill("m/0")
        await heard.until("seen", 2)
        (_, _, first, old), (_, name, cause), (_, _, second, new) = heard.told
        assert (name, cause) == ("m/0", "killed by SIGKILL")
        assert (first, second) == (1, 2)
        assert old != new
        (row,) = fleet.rows()
        assert (row.restarts, row.why, row.state) == (1, "killed by SIGKILL", "ready")


async def test_a_replica_that_stops_in_its_tracks_is_killed_and_started_again(tmp_path):
    # Two strikes of 2 s: the time that a probe gets.
    async with running(model(tmp_path, probe_strikes=2), tmp_path) as (fleet, heard):
        await heard.until("seen", 1)
        pid = fleet.rows()[0].pid
        fleet.kill("m/0", signal.SIGSTOP)
        await heard.until("seen", 2)
        assert heard.told[1] == ("lost", "m/0", "silent: no answer in 2 s")
        assert not alive(pid)


async def test_a_replica_that_hangs_in_mid_answer_is_lost_for_want_of_progress(tmp_path):
    async with running(model(tmp_path), tmp_path) as (_, heard):
        await heard.until("seen", 1)
        _, writer = await asyncio.open_connection(*heard.told[0][3])
        body = json.dumps({"prompt": "[[hang=2]]", "stream": True}).encode()
        writer.write(b"POST /completion HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await heard.until("lost", 1)
        assert heard.told[1][2] == "no progress"
        writer.close()


async def test_a_replica_that_cannot_start_says_why_and_is_tried_less_and_less(tmp_path):
    def command(model, path, threads):
        return [sys.executable, "-c", "import sys; sys.exit('no such model: ' + 'x.gguf')"]

    began = time.monotonic()
    async with running(model(tmp_path), tmp_path, command) as (fleet, heard):
        while fleet.rows()[0].restarts < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert time.monotonic() - began > 0.2 + 0.4 + 0.8
        assert heard.told == []
        assert heard.progress == ["m/0 does not start: ended with exit code 1: no such model: x.gguf"]


async def test_a_start_that_takes_too_long_is_given_up(tmp_path):
    def command(model, path, threads):
        return [sys.executable, "-c", "import time; time.sleep(60)"]

    async with running(model(tmp_path, startup_timeout_s=0.3), tmp_path, command) as (_, heard):
        while not heard.progress:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert "not ready after 0.3 s" in heard.progress[0]


async def test_servers_of_others_are_watched_but_not_owned(tmp_path):
    engine = ScriptedEngine()
    url = await engine.start()
    settings = model(tmp_path, kind="openai", addresses=(url,), path=None)
    async with running(settings, tmp_path) as (fleet, heard):
        await heard.until("seen", 1)
        assert (fleet.rows()[0].pid, fleet.rows()[0].address) == (None, url.removeprefix("http://"))
        port = engine.port
        await engine.stop()
        await heard.until("lost", 1)
        assert heard.told[1][2].startswith("silent: ")
        engine = ScriptedEngine()
        await engine.start(port=port)
        await heard.until("seen", 2)
        assert heard.told[2][2] == 2
    await engine.stop()


@pytest.mark.engine
async def test_a_file_that_is_no_model_is_told_in_the_engines_words(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF but not really")
    async with running(model(tmp_path, path=path), tmp_path, llamacpp_command) as (_, heard):
        async with asyncio.timeout(20):
            while not heard.progress:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert "m/0 does not start: " in heard.progress[0]
    assert "x.gguf" in heard.progress[0]
