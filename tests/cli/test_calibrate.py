"""``underlay calibrate``: against a scripted server, and once against the real engine."""

import asyncio
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import msgspec
import pytest
from tests.support.platform import lay_weights
from tests.support.scripted import Script, ScriptedEngine, steps_taken

from underlay.ledger.steps import costs_of
from underlay.live import calibration
from underlay.live.energy.prior import first_prior, profile_path
from underlay.physics.profiles import EngineRules, Line, read


@pytest.fixture(scope="module")
def server_url():
    """A scripted server on a loop of its own, 4 ms a token."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    engine = ScriptedEngine(Script(tokens=500, itl_ms=4.0, ttft_ms=8.0))
    asyncio.run_coroutine_threadsafe(engine.start(), loop).result(10)
    yield engine.url
    asyncio.run_coroutine_threadsafe(engine.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def calibrate(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "underlay", "calibrate", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=100, **more,
    )  # fmt: skip


def test_a_server_is_measured_and_its_profile_written(server_url, tmp_path, monkeypatch):
    steps_s = steps_taken(monkeypatch)
    file = tmp_path / "mine.profile.json"
    done = calibrate(
        "--url", server_url, "--model", "scripted", "--slots", 2, "--quick", "--seconds", 5, "--accelerator", "mine",
        "--precision", "none", "--output", file, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    line = msgspec.json.decode(file.read_bytes(), type=Line)
    assert msgspec.convert(said["profile"], Line) == line
    assert (line.accelerator, line.model, line.precision, line.method) == ("mine", "scripted", "none", "calibrated")
    assert line.valid.decode_sequences == 2
    assert line.coefficients().decode_step_s(1, 20) == pytest.approx(statistics.median(steps_s), rel=0.6)
    assert said["engine"]["kind"] == "openai"
    profile = read(file)
    assert profile.coefficients == line.coefficients()
    assert profile.rules == EngineRules(max_sequences=2, step_tokens=2048)
    assert {point["held_out"] for point in said["points"]} == {False, True}
    # A server that is not our child is seen by no model of processes: where there is no other meter, it is said.
    assert (line.power is None) == bool(said["unmetered"]) == (said["loads"] == [])
    assert profile.power == line.power
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_people_get_tables_and_are_told_that_nothing_was_written(server_url):
    done = calibrate(
        "--url", server_url, "--model", "scripted", "--slots", 2, "--quick", "--seconds", 5, "--no-power"
    )
    assert done.returncode == 0, done.stderr
    for part in (
        "a step takes", "half within", "held out", "nothing was written", "measuring",
        "what it draws is not known: it was not asked for",
    ):  # fmt: skip
        assert part in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--url", "http://127.0.0.1:1"], 7, "nobody answers"),
        (["--url", "gopher://x"], 2, "no address"),
        (["--model", "nothing-of-that-name"], 3, "no model and no file"),
        (["--output", "/nowhere/at/all.json"], 2, "no folder that can be written"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(arguments, code, said, tmp_path):
    done = calibrate(*arguments, "--data-dir", tmp_path)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def _asked(server_url):
    with urllib.request.urlopen(f"{server_url}/metrics", timeout=10) as reply:
        return int(re.search(rb"^llamacpp:requests_total (\d+)$", reply.read(), re.MULTILINE)[1])


def test_ctrl_c_leaves_no_file(server_url, tmp_path):
    file = tmp_path / "mine.profile.json"
    command = [sys.executable, "-m", "underlay", "calibrate", "--url", server_url, "--output", str(file)]
    before = _asked(server_url)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        until = time.monotonic() + 30
        while _asked(server_url) == before:
            assert time.monotonic() < until, "it measures nothing"
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=20)
    assert child.returncode == 130
    assert "interrupted" in told
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def test_an_engine_of_ours_is_metered_and_its_profile_kept_for_up(underlay, home, server_url, monkeypatch):
    """The scripted server, taken for a child: its process is this one, whose processor time is metered."""
    host, port = server_url.removeprefix("http://").split(":")

    @contextlib.asynccontextmanager
    async def started(model, _data_dir, _progress):
        size = (model.engine.slots, 512, model.context_tokens)
        yield calibration.Server((host, int(port)), "llamacpp", model.name, *size, pid=os.getpid())

    monkeypatch.setattr(calibration, "started", started)
    data = home / "data"
    done = underlay("calibrate", "--data-dir", str(data), "--slots", "2", "--quick", "--seconds", "10", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    (kept,) = (data / "profiles").iterdir()
    assert said["written"] == [str(kept)]
    profile = read(kept)
    power = profile.power
    assert power is not None, said["unmetered"]
    assert power.method in {"calibrated", "modelled", "assumed"}
    assert (power.idle_w is None) == power.above_idle
    assert {load["kind"] for load in said["loads"]} == {"idle", "decode", "prefill"}
    assert all(load["metered_w"] > 0.0 for load in said["loads"] if load["kind"] != "idle")
    held = first_prior(costs_of(profile.model), profile_path(data, profile.model), power.meter.split("+"))
    assert tuple(held.model.coefficients) == msgspec.structs.astuple(power.joules)


@pytest.mark.engine
def test_ctrl_c_leaves_no_engine(tmp_path, weights):
    lay_weights(weights, tmp_path)
    command = [sys.executable, "-m", "underlay", "calibrate", "--data-dir", str(tmp_path), "--slots", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        until = time.monotonic() + 60
        while not (engines := _children(child.pid)) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1.0)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
    assert child.returncode == 130
    assert engines
    assert not any(folder.exists() for folder in engines)


def _children(pid):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(folder)
    return found
