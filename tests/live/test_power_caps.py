"""The planner of caps on a running platform: journeys and meters in, limits of devices out."""

from __future__ import annotations

import asyncio
import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.support.meters import Clock, Device, FakeNvml, NvmlError

from underlay.control.power_caps import WINDOW_S
from underlay.domain.answer import Usage
from underlay.domain.errors import Conflict
from underlay.domain.views import Journey
from underlay.live import power_caps
from underlay.live.meters import power_limits
from underlay.live.meters.nvml import NvmlMeter
from underlay.live.meters.track import Track
from underlay.live.power_caps import PowerCaps, Seen
from underlay.live.settings import PowerCapSettings

SETTINGS = PowerCapSettings(mode="slo", slo_ttft_s=2.0, slo_tpot_ms=100, floor_share=0.5)


def journey(ttft_ms: float | None = 300.0, tokens: int = 11) -> Journey:
    said = {"at_s": 0.0, "status": 200, "usage": Usage(10, 0, tokens), "duration_ms": (ttft_ms or 0) + 200.0}
    words = dict.fromkeys(("id", "dialect", "operation", "model", "tenant", "key_id", "outcome", "money_usd"), "")
    return Journey(**words, **said, ttft_ms=ttft_ms, attempts=1, hops=())


class Machine:
    """A platform as far as caps know it: a device that draws 600 W, a meter on it, who waits."""

    def __init__(self, folder, settings=SETTINGS) -> None:
        self.fake, self.clock, self.waiting, self.reads = FakeNvml(Device()), Clock(), 0, True
        self.track = Track(NvmlMeter(self.fake, 0, clock=self.clock), 1000)
        self.track.add(self.track.meter.read())
        seen = Seen("here", lambda begin, end: [self.track.window(begin, end)], lambda: self.waiting, self.clock)
        self.caps = PowerCaps(power_limits.offer(folder, self.fake).limits, settings, seen)

    @property
    def limit_w(self) -> float:
        return self.fake.devices[0].limit_mw / 1e3

    def look(self, *journeys: Journey, after_s: float = 60.0) -> str:
        """Let time pass, answer, plan and carry out; why."""
        device = self.fake.devices[0]
        for _ in range(int(after_s * 2)):
            self.clock.on(0.5)
            device.mj += 300_000
            self.track.add(self.track.meter.read() if self.reads else None)
        for each in journeys:
            self.caps.over(each)
        plan = self.caps.planned()
        self.caps.execute(plan)
        return plan.reasons[0]


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def test_limits_follow_the_answers_down_and_up_again(machine) -> None:
    why = machine.look(*[journey()] * 30)
    assert why == (
        "all models in here: 95% of the rated power (665 W): tightened from 100%,"
        " TTFT 0.30 s of 2 s; time per token 20 ms of 100 ms"
    )
    assert machine.limit_w == 665
    machine.look(*[journey()] * 30)
    assert machine.limit_w == 630
    assert "given up at once" in machine.look(journey(ttft_ms=1900.0), after_s=10)
    assert machine.limit_w == 700


def test_a_queue_gives_the_cap_up_before_anything_is_answered(machine) -> None:
    machine.look(*[journey()] * 30)
    machine.waiting = 50
    assert "50 wait" in machine.look(after_s=10)
    assert machine.limit_w == 700


def test_old_answers_and_refusals_say_nothing(machine) -> None:
    machine.look(*[journey(ttft_ms=None)] * 30)
    assert machine.limit_w == 700
    machine.look(*[journey()] * 30, after_s=WINDOW_S)
    assert "0 answers say too little" in machine.look(after_s=WINDOW_S + 1)


def test_without_a_reading_there_is_no_cap(machine) -> None:
    machine.look(*[journey()] * 30)
    assert machine.limit_w == 665
    machine.reads = False
    assert "kept" in machine.look(*[journey()] * 30, after_s=5)  # it may only be late
    assert "not metered" in machine.look(*[journey()] * 30)
    assert machine.limit_w == 700


def test_the_driver_s_own_floor_is_kept(tmp_path) -> None:
    machine = Machine(tmp_path, SETTINGS.model_copy(update={"floor_share": 0.1}))
    for _ in range(20):
        machine.look(*[journey()] * 30)
    assert machine.limit_w == 200


def test_an_older_plan_is_refused(machine) -> None:
    old = machine.caps.planned()
    machine.look(*[journey()] * 30)
    with pytest.raises(Conflict):
        machine.caps.execute(old)


def test_metrics_tell_cap_and_power(machine) -> None:
    registry = CollectorRegistry()
    registry.register(machine.caps)
    assert "underlay_power_cap_watts 700.0" in generate_latest(registry).decode()
    machine.look(*[journey()] * 30)
    text = generate_latest(registry).decode()
    assert "underlay_power_cap_watts 665.0" in text
    assert "underlay_accelerator_power_watts 600" in text


@pytest.mark.parametrize("how", ["cancelled", "the driver refuses"])
def test_when_it_ends_everything_is_given_back(tmp_path, monkeypatch, how) -> None:
    def refuse(_watts: float) -> None:
        raise NvmlError("GPU is lost")

    async def run() -> None:
        machine = Machine(tmp_path, SETTINGS.model_copy(update={"every_s": 0.01}))
        machine.look(*[journey()] * 30)
        assert machine.limit_w == 665
        task = asyncio.create_task(machine.caps.run())
        if how == "the driver refuses":
            machine.waiting = 50  # so that it is asked for another limit
            monkeypatch.setattr(machine.caps._limits, "hold_to", refuse)
        else:
            await asyncio.sleep(0.05)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert machine.limit_w == 700
        assert machine.fake.begun == 0

    asyncio.run(run())


def test_nothing_is_looked_for_where_it_is_off_unless_a_run_was_killed(tmp_path, monkeypatch) -> None:
    fake = FakeNvml(Device())
    seen = Seen("here", lambda _begin, _end: [], lambda: 0, Clock())
    off = PowerCapSettings()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert asyncio.run(power_caps.begin(tmp_path, off, seen)) is None
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    power_limits.offer(tmp_path, fake).limits.hold_to(350.0)
    assert asyncio.run(power_caps.begin(tmp_path, off, seen)) is None
    assert fake.devices[0].limit_mw == 700_000
    assert isinstance(asyncio.run(power_caps.begin(tmp_path, SETTINGS, seen)), PowerCaps)
