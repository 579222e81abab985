"""Loads held at a scripted engine, with a meter that knows what each token takes; and the fit to them."""

import asyncio
import random
import time

import pytest
from tests.support.meters import SimulatedMeter
from tests.support.scripted import Script, ScriptedEngine

from underlay.domain.figures import Figure
from underlay.ledger.step_energy import Coefficients, Sums
from underlay.ledger.steps import TokenCosts, costs_of
from underlay.live.calibration import CalibrationFailed, Server, started
from underlay.live.calibration.asking import Answer, Token
from underlay.live.calibration.metered import Metered, Source, metered
from underlay.live.calibration.power import IDLE, Draw, Load, Power, loads
from underlay.live.calibration.power_fit import drawn, power_of
from underlay.live.meters.ladder import Ladder, Rung, look
from underlay.live.meters.meter import Boundary, Meter, Quantum, Reading
from underlay.live.settings import EngineSettings, MeterSettings, ModelSettings

COSTS = TokenCosts(2e9, 2e5, 5e4, 5e4)
TRUTH = Coefficients(2.0, 500.0, 0.1, 0.5)
SOURCE = Source("nvml:GPU-0", "an accelerator", above_idle=False, processor="some processor")


def server(**changes):
    return Server(**{"address": ("127.0.0.1", 1), "kind": "llamacpp", "model": "m", "slots": 8, "step_tokens": 512,
                     "context_tokens": 4096, **changes})  # fmt: skip


def joules(value, off=0.0, method="measured"):
    return Figure(value, "J", method, "nvml:GPU-0", "an accelerator", off)


def held(load, noise=0.0, dice=None, method="measured"):
    """What an engine that takes what the truth says would bring in ten seconds."""
    if load == IDLE:
        return Draw(load, 10.0, Sums(), joules(800.0, 5.0, method))
    n, prompts = load.sequences, load.prompt_tokens
    decode = Sums(300.0, 0.0, 300.0 * n, 300 * n * COSTS.kv_read_bytes(prompts + 150) * 1e-9)
    read = COSTS.prefill("", prompts).prefill_flop * 1e-15
    sums = decode if n else Sums(40.0, 40 * read)
    wrong = dice.lognormvariate(0, noise) if dice else 1.0
    return Draw(load, 10.0, sums, joules(TRUTH.joules(sums) * wrong, 10.0, method))


def test_what_a_step_takes_is_found_again_and_proven_on_loads_that_were_held_out():
    power = power_of([held(load) for load in loads(server())], SOURCE)
    assert power.joules.step_j == pytest.approx(2.0, rel=0.01)
    assert power.joules.pflop_j == pytest.approx(500.0, rel=0.01)
    assert power.joules.token_j == pytest.approx(0.1, rel=0.05)
    assert (power.method, power.idle_w, power.above_idle) == ("calibrated", 80.0, False)
    assert power.idle_off_w == pytest.approx(0.5)
    assert "not fitted" in power.against
    assert power.error_mean < 0.01
    assert list(power.decode_sequences) == [1, 2, 4, 6, 8]
    assert power.meter_error > 0.0


def test_noise_shows_in_the_standard_errors():
    dice = random.Random(3)
    power = power_of([held(load, 0.05, dice) for _ in range(4) for load in loads(server())], SOURCE)
    assert power.joules.step_j == pytest.approx(2.0, abs=4 * power.standard_error.step_j)
    assert 0.0 < power.standard_error.step_j < 0.5
    assert 0.0 < power.error_mean < 0.1


def test_two_loads_are_enough_and_say_that_they_tell_no_error():
    draws = [held(Load(1, 16)), held(Load(8, 16))]
    power = power_of(draws, SOURCE)
    assert power.standard_error is None
    assert power_of(draws * 3, SOURCE).standard_error is None  # held again, they tell no more apart
    assert "fitted" in power.against
    assert power.idle_w is None
    between = held(Load(4, 16))
    modelled = Coefficients(*(getattr(power.joules, name) for name in Coefficients._fields)).joules(between.sums)
    assert modelled == pytest.approx(between.metered.value, rel=0.1)
    with pytest.raises(CalibrationFailed, match="two loads"):
        power_of(draws[:1], SOURCE)
    with pytest.raises(CalibrationFailed, match="two loads"):
        power_of([held(Load(0, 64)), held(Load(0, 512))], SOURCE)


def test_a_model_of_processor_time_stays_a_model_and_knows_no_idle_power():
    source = SOURCE._replace(meter="processor:engines", above_idle=True)
    draws = [held(load, method="modelled") for load in loads(server(), quick=True)]
    power = power_of(draws, source)
    assert (power.method, power.idle_w, power.above_idle) == ("modelled", None, True)
    rows = {each.load: each for each in drawn(draws, power)}
    assert rows[IDLE].modelled_w is None
    assert rows[Load(8, 16)].modelled_w == pytest.approx(rows[Load(8, 16)].power_w, rel=0.02)


@pytest.mark.parametrize("slots", [1, 2, 4, 64])
def test_loads_fit_the_server_and_hold_some_out(slots):
    for quick in (False, True):
        planned = loads(server(slots=slots, context_tokens=256), quick=quick)
        assert planned[0] == IDLE
        assert {load.sequences for load in planned if load.sequences and not load.held_out} == {1, slots}
        assert max(load.prompt_tokens for load in planned) < 256
        assert any(load.held_out for load in planned)
        assert len(set(planned)) == len(planned)


def test_what_was_computed_in_a_time_is_what_came_in_it():
    power = Power.__new__(Power)  # no loop is needed to count
    power._server, power._costs = server(), COSTS
    answer = Answer()
    answer.sent_at_s, answer.prompt_tokens, answer.cached_tokens, answer.prompt_s = 0.0, 100, 20, 1.0
    answer.tokens = [Token(1.0 + 0.1 * n, n + 1) for n in range(50)]
    sums = power.computed([answer], 2.05, 4.05)
    assert sums.tokens == sums.steps == 20
    assert sums.pflop == 0.0
    read = COSTS.kv_read_bytes(100 + 11 + 9.5) * 20
    assert sums.kv_gb == pytest.approx(read * 1e-9)
    whole = power.computed([answer], 0.0, 10.0)
    assert whole.pflop == pytest.approx(COSTS.prefill("", 80, 20).prefill_flop * 1e-15)
    assert (whole.tokens, whole.steps) == (49, 50)


async def test_loads_are_held_and_metered_to_and_fro():
    engine = ScriptedEngine(Script(tokens=5000, itl_ms=2.0, ttft_ms=4.0))
    await engine.start()
    try:
        host, port = engine.url.removeprefix("http://").split(":")
        counted = []

        async def count(begin_s, end_s):
            counted.append(end_s - begin_s)
            return joules(100.0 * (end_s - begin_s)) if len(counted) != 2 else None  # lost once

        power = Power(server(address=(host, int(port)), slots=2), COSTS, count, random.Random(1))
        planned = (IDLE, Load(1, 16), Load(2, 16), Load(0, 32))
        heard = []
        await power.run(planned, 0.5, 0.15, heard.append)
        assert len(power.draws) >= len(planned) - 1
        assert heard[-1] == 1.0
        by_load = {draw.load: draw for draw in power.draws}
        assert by_load[IDLE].sums == Sums()
        assert by_load[Load(2, 16)].sums.tokens > 1.5 * by_load[Load(2, 16)].sums.steps
        assert by_load[Load(0, 32)].sums.pflop > 0.0
        assert by_load[Load(2, 16)].power_w == pytest.approx(100.0)
    finally:
        await engine.stop()


async def test_a_server_that_refuses_is_said():
    engine = ScriptedEngine(Script())
    await engine.start()
    host, port = engine.url.removeprefix("http://").split(":")
    gone = server(address=(host, int(port)))
    await engine.stop()

    async def count(_begin_s, _end_s):
        return None

    with pytest.raises(CalibrationFailed, match="cannot be reached"):
        await Power(gone, COSTS, count, random.Random(1)).run((Load(1, 16),), 0.1, 0.1)


class Running(Meter):
    """A counter of 50 W that can be read at any time."""

    def __init__(self, name, family, place):
        super().__init__(name, Boundary(place, f"where {name} is"), "measured", Quantum(0.0, 0.0))
        self.family = family
        self._count = 0

    def read(self):
        now = time.monotonic()
        return Reading(now, 50.0 * now, 50.0 * now, 50.0 * now)


def ladder(*meters):
    return Ladder((Rung("all", tuple(meters), "" if meters else "nothing is here"),))


def test_accelerators_are_metered_alone_where_they_have_meters():
    gpu, board = Running("nvml:0", "nvml", "host/accelerator-0"), Running("rapl:0", "rapl", "host/board")
    time_of = Running("processor:engines", "processor", "host/board")
    assert metered(ladder(gpu, board), 0.1, started=True).source.meter == "nvml:0"
    assert metered(ladder(board), 0.1, started=False).source.meter == "rapl:0"
    source = metered(ladder(time_of), 0.1, started=True).source
    assert (source.meter, source.above_idle) == ("processor:engines", True)
    # Processes that are not ours are in no count of ours; nothing is not 0 W.
    assert isinstance(metered(ladder(time_of), 0.1, started=False), str)
    assert metered(ladder(), 0.1, started=True) == "all: nothing is here"


async def test_a_window_waits_for_its_meters_and_is_none_where_they_fail():
    with Metered([Running("a", "rapl", "host/board"), Running("b", "nvml", "host/accelerator-0")], 0.02) as both:
        await asyncio.sleep(0.1)
        begin_s = time.monotonic()
        await asyncio.sleep(0.1)
        end_s = time.monotonic()
        counted = await both.count(begin_s, end_s)
    assert counted.value == pytest.approx(100.0 * (end_s - begin_s), rel=0.01)
    assert counted.meter == "a+b"
    broken = SimulatedMeter(lambda at: at, time.monotonic, peak_w=1.0)
    broken.broken = True
    with Metered([broken], 0.02) as none:
        assert await none.count(begin_s, end_s) is None


@pytest.mark.engine
async def test_the_real_engine_is_metered_by_its_processor_time(tmp_path_factory):
    model = ModelSettings(context_tokens=512, engine=EngineSettings(slots=2, threads=1))
    off = MeterSettings(nvml="off", rapl="off")
    async with started(model, tmp_path_factory.getbasetemp().parent / "models") as ours:
        found = metered(look(off, lambda: [ours.pid]), 0.05, started=True)
        with found:
            power = Power(ours, costs_of(ours.model), found.count, random.Random(1))
            await power.run((IDLE, Load(1, 8), Load(2, 8), Load(0, 32), Load(0, 96)), 1.0, 0.8)
    told = power_of(power.draws, found.source)
    assert told.meter == "processor:engines"
    assert told.method in {"modelled", "assumed"}
    assert told.joules.token_j + told.joules.step_j > 0.0
    assert told.joules.pflop_j > 0.0
    by_load = {draw.load: draw for draw in power.draws}
    assert by_load[IDLE].power_w < 0.2 * by_load[Load(2, 8)].power_w
