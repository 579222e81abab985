"""The sweep against a server that speaks llama.cpp's and OpenAI's HTTP without a model, and against the real one."""

import asyncio
import json
import random
import statistics
import urllib.request

import pytest
from tests.support.scripted import Script, ScriptedEngine, steps_taken

from underlay.live.calibration import (
    CalibrationFailed,
    Machine,
    Server,
    Sweep,
    calibrate,
    found,
    kind,
    plan,
    started,
)
from underlay.live.calibration.engine import threads_each
from underlay.live.calibration.sweep import Experiment, Plan
from underlay.live.settings import EngineSettings, ModelSettings

MACHINE = Machine("this one", "m", "q4_k_m", "llama.cpp", "a test")
SMALL = Plan(
    (
        Experiment(0, 0, (16, 32, 64), held_out=False),
        Experiment(1, 16, (), held_out=False),
        Experiment(2, 16, (), held_out=False),
    ),
    steps=4,
)


def at(engine, kind, **changes):
    host, port = engine.url.removeprefix("http://").split(":")
    return Server(**{"address": (host, int(port)), "kind": kind, "model": "scripted", "slots": 4, "step_tokens": 512,
                     "context_tokens": 4096, **changes})  # fmt: skip


@pytest.fixture
async def scripted():
    engine = ScriptedEngine(Script(tokens=500, itl_ms=5.0, ttft_ms=10.0))
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
def steps_s(monkeypatch):
    return steps_taken(monkeypatch)


@pytest.mark.parametrize("dialect", ["llamacpp", "openai"])
async def test_the_time_between_tokens_is_the_time_of_a_step(scripted, steps_s, dialect):
    sweep = Sweep(at(scripted, dialect), SMALL, random.Random(1))
    heard = []
    await sweep.run(0.6, heard.append)
    decode = [s for s in sweep.samples if kind(s) == "decode"]
    assert sweep.passes >= 1
    assert {s.sequences for s in decode} == {1, 2}
    assert statistics.median(s.step_s for s in decode) == pytest.approx(statistics.median(steps_s), rel=0.6)
    assert {s.point[2] for s in sweep.samples if kind(s) == "prefill"} == {16, 32, 64}
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


async def test_a_server_that_refuses_is_said(scripted):
    sweep = Sweep(at(scripted, "openai", prefix="/nowhere"), SMALL, random.Random(1))
    with pytest.raises(CalibrationFailed, match="the engine answered 404"):
        await sweep.run(1.0)


@pytest.mark.parametrize(
    ("fault", "said"), [("malformed", "cannot be read"), ("error", "error"), ("reset", "reset")]
)
async def test_a_stream_that_breaks_is_said(scripted, fault, said):
    await asyncio.to_thread(_order_fault, scripted.url, fault)
    with pytest.raises(CalibrationFailed, match=said):
        await Sweep(at(scripted, "llamacpp"), SMALL, random.Random(1)).run(1.0)


def _order_fault(url, fault):
    body = json.dumps({"kind": fault, "after": 2, "times": 1}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/fault", body)) as reply:
        assert reply.status == 200


async def test_nobody_there_is_said():
    with pytest.raises(CalibrationFailed, match="nobody answers at"):
        await found("http://127.0.0.1:1", "m")
    with pytest.raises(ValueError, match="no address"):
        await found("ftp://somewhere", "m")


async def test_a_server_without_props_is_asked_as_openai_is(scripted):
    server = await found(f"{scripted.url}/v1", "scripted", slots=3)
    assert (server.kind, server.slots, server.prefix) == ("openai", 3, "")


async def test_an_engine_too_slow_for_its_time_is_given_up():
    engine = ScriptedEngine(Script(tokens=500, itl_ms=20.0))
    await engine.start()
    try:
        sweep = Sweep(at(engine, "llamacpp"), SMALL._replace(experiments=SMALL.experiments * 9), random.Random(1))
        with pytest.raises(CalibrationFailed, match="give it more seconds"):
            await sweep.run(0.1)
    finally:
        await engine.stop()


def test_a_replica_gets_what_it_gets_among_its_siblings():
    assert threads_each(ModelSettings(engine=EngineSettings(threads=3))) == 3
    assert threads_each(ModelSettings(engine=EngineSettings(replicas=10_000))) == 1


@pytest.mark.engine
async def test_the_real_engine_is_measured_and_ended(tmp_path_factory):
    model = ModelSettings(context_tokens=512, engine=EngineSettings(slots=2, threads=1))
    folder = tmp_path_factory.getbasetemp().parent / "models"
    async with started(model, folder) as server:
        tiny = Plan(
            (
                Experiment(0, 0, (8, 24, 48), held_out=False),
                Experiment(1, 8, (16,), held_out=False),
                Experiment(2, 8, (), held_out=False),
                Experiment(1, 64, (), held_out=True),
            ),
            steps=3,
        )
        sweep = Sweep(server, tiny, random.Random(1))
        await sweep.run(4.0)
    found = calibrate(sweep.samples, MACHINE, sweep.overheads_s)
    assert {kind(point) for point in found.points} == {"decode", "prefill", "mixed"}
    assert found.line.coefficients().prefill_s(48) > found.line.coefficients().prefill_s(8)
    # The engine's own time for a prompt is less than what the client sees, but not by much.
    assert 0.0 < found.overhead_s < 0.5
    with pytest.raises(CalibrationFailed, match="cannot be reached"):
        await Sweep(server, tiny, random.Random(1)).run(1.0)


def test_the_plan_says_what_is_held_out():
    server = Server(("127.0.0.1", 1), "llamacpp", "m", 4, 512, 4096)
    for quick in (False, True):
        experiments = plan(server, quick=quick).experiments
        assert any(e.held_out and not e.sequences for e in experiments)
        assert any(e.held_out and e.sequences for e in experiments)
