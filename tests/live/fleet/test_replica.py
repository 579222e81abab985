"""One replica's life: given up for a reason, started again, and tried less and less."""

import asyncio
import json
import signal
import sys
import time

import pytest
from tests.live.fleets import alive, model, running, scripted_command
from tests.live.wire import engines
from tests.support.scripted import ScriptedEngine

from underlay.live.fleet.process import llamacpp_command


async def until(what):
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


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


async def test_a_stopped_process_with_streams_is_given_up_at_once(tmp_path):
    async with running(model(tmp_path), tmp_path) as (fleet, heard):
        await heard.until("seen", 1)
        pid = fleet.rows()[0].pid
        fleet.kill("m/0", signal.SIGSTOP)
        began = time.monotonic()
        fleet.suspect("m/0", lambda: True)
        await heard.until("lost", 1)
        assert heard.told[1] == ("lost", "m/0", "silent: its process is stopped")
        assert 0.3 < time.monotonic() - began < 1.5
        await heard.until("seen", 2)
        assert not alive(pid)


async def test_a_silent_engine_that_answers_is_left_in_peace(tmp_path):
    async with running(model(tmp_path), tmp_path) as (fleet, heard):
        await heard.until("seen", 1)
        for _ in range(5):
            fleet.suspect("m/0", lambda: True)
            await asyncio.sleep(0.1)
        assert heard.count("lost") == 0


async def test_a_silent_engine_that_works_is_slow_and_not_dead(tmp_path):
    """It uses the processor and answers no probe: the urgent ones leave it to the slower ones."""
    busy = "\nimport threading, hashlib\nwhile 1: hashlib.sha256(bytes(1000))"

    def command(model, path, threads):
        serve = (
            "import http.server, json, threading, signal\n"
            "class H(http.server.BaseHTTPRequestHandler):\n"
            "    def do_GET(self):\n"
            "        if busy: threading.Event().wait()\n"
            "        self.send_response(200); self.end_headers()\n"
            "    def log_message(self, *_): pass\n"
            "busy = False\n"
            "s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
            "threading.Thread(target=s.serve_forever, daemon=True).start()\n"
            "print(json.dumps({'listening': 'http://127.0.0.1:%d' % s.server_port}), flush=True)\n"
            "def begin(*_):\n"
            "    global busy\n"
            "    busy = True\n"
            "signal.signal(signal.SIGUSR1, begin)\n"
            "while not busy: signal.pause()\n"
        )
        return [sys.executable, "-c", serve + busy]

    async with running(model(tmp_path, probe_s=60.0), tmp_path, command) as (fleet, heard):
        await heard.until("seen", 1)
        fleet.kill("m/0", signal.SIGUSR1)
        await asyncio.sleep(0.1)
        fleet.suspect("m/0", lambda: True)
        await asyncio.sleep(0.8)
        assert heard.count("lost") == 0


async def test_a_server_of_others_gets_more_urgent_probes_and_one_word_saves_it(tmp_path):
    with engines(1) as (engine,):
        settings = model(tmp_path, kind="openai", addresses=(engine.url,), path=None, probe_s=5.0)
        async with running(settings, tmp_path) as (fleet, heard):
            await heard.until("seen", 1)
            engine.process.send_signal(signal.SIGSTOP)
            fleet.suspect("m/0", lambda: False)
            await asyncio.sleep(0.8)
            assert heard.count("lost") == 0
            began = time.monotonic()
            fleet.suspect("m/0", lambda: True)
            await heard.until("lost", 1)
            assert heard.told[1][2] == "silent: no word, and no answer to 4 urgent probes"
            assert 2.3 < time.monotonic() - began < 3.5
            engine.process.send_signal(signal.SIGCONT)


async def test_a_drained_child_stays_away_until_it_is_wanted(tmp_path):
    async with running(model(tmp_path), tmp_path) as (fleet, heard):
        await heard.until("seen", 1)
        pid = fleet.rows()[0].pid
        assert fleet.drain("m/0").state == "draining"
        await asyncio.sleep(0.2)
        assert alive(pid)
        fleet.retire("m/0")
        await until(lambda: fleet.rows()[0].state == "drained")
        assert not alive(pid)
        assert (fleet.rows()[0].pid, fleet.rows()[0].restarts) == (None, 0)
        await asyncio.sleep(0.3)
        assert heard.count("seen") == 1
        fleet.restore("m/0")
        await heard.until("seen", 2)
        assert [told[0] for told in heard.told] == ["seen", "seen"]
        assert heard.told[1][2] == 2
        assert (fleet.rows()[0].state, fleet.rows()[0].restarts) == ("ready", 0)


async def test_a_drain_that_is_undone_in_time_changes_nothing(tmp_path):
    async with running(model(tmp_path), tmp_path) as (fleet, heard):
        await heard.until("seen", 1)
        pid = fleet.rows()[0].pid
        fleet.drain("m/0")
        assert fleet.restore("m/0").state == "ready"
        fleet.retire("m/0")  # word from before
        await asyncio.sleep(0.2)
        assert (fleet.rows()[0].state, fleet.rows()[0].pid) == ("ready", pid)


async def test_a_drain_that_is_undone_while_it_stops_starts_it_again(tmp_path):
    async with running(model(tmp_path), tmp_path) as (fleet, heard):
        await heard.until("seen", 1)
        fleet.drain("m/0")
        fleet.retire("m/0")
        assert fleet.restore("m/0").state == "draining"
        await heard.until("seen", 2)
        assert fleet.rows()[0].state == "ready"


async def test_a_draining_replica_that_dies_does_not_come_back(tmp_path):
    async with running(model(tmp_path), tmp_path) as (fleet, heard):
        await heard.until("seen", 1)
        fleet.drain("m/0")
        fleet.kill("m/0")
        await heard.until("lost", 1)
        await until(lambda: fleet.rows()[0].state == "drained")
        await asyncio.sleep(0.3)
        assert heard.count("seen") == 1


async def test_a_replica_drained_while_it_starts_is_never_seen(tmp_path):
    def command(model, path, threads):
        return [*scripted_command(model, path, threads), "--start-ms", "300"]

    async with running(model(tmp_path), tmp_path, command) as (fleet, heard):
        assert fleet.drain("m/0").state == "starting"
        await until(lambda: fleet.rows()[0].state == "drained")
        assert heard.told == []
        with pytest.raises(KeyError):
            fleet.drain("m/9")


async def test_what_a_cache_holds_is_known_where_the_engine_says_it(tmp_path):
    settings = model(tmp_path, slots=3)
    async with running(settings, tmp_path) as (fleet, _):
        assert fleet.statuses()[0].cache_tokens == 3 * settings.context_tokens


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
