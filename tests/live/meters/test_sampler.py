"""The threads that read: beside each other, through failures and stops, and gone at the end."""

from __future__ import annotations

import threading
import time

import pytest
from tests.support.meters import Clock, SimulatedMeter

from underlay.live.meters.sampler import Sampler


def simulated(place: str = "host/accelerator-0", family: str = "simulated") -> SimulatedMeter:
    meter = SimulatedMeter(lambda now: 100.0 * now, time.monotonic, peak_w=100, place=place, refresh_s=0.001)
    meter.family = family  # type: ignore[misc]
    return meter


@pytest.fixture
def sampler():
    made = Sampler(0.005)
    yield made
    made.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("underlay-meters")]


def eventually(what) -> None:
    until = time.monotonic() + 5
    while not what():
        assert time.monotonic() < until
        time.sleep(0.002)


def test_meters_are_read_and_windows_given(sampler) -> None:
    meters = [simulated(), simulated("host/accelerator-1")]
    sampler.start(meters)
    eventually(lambda: min(meter.reads for meter in meters) > 5)
    begin = sampler._tracks[0]._readings[0].at_s + 0.005
    eventually(lambda: not any(window.why for window in sampler.windows(begin, begin + 0.02)[:1]))
    (window, *_) = sampler.windows(begin, begin + 0.02)
    assert window.consumed.low_joules <= 2 <= window.consumed.high_joules
    assert [total.meter for total in sampler.totals()] == meters
    assert sampler.windows(begin, begin + 3600)[0].why == "pending"


def test_a_meter_that_hangs_holds_up_only_its_own_kind(sampler) -> None:
    stuck, quick, freed = simulated("host"), simulated(family="other"), threading.Event()
    stuck.read = lambda: freed.wait(5) and None  # type: ignore[method-assign]
    stuck.interrupt = freed.set  # type: ignore[method-assign]
    sampler.start([stuck, quick])
    eventually(lambda: quick.reads > 10)
    assert sampler.windows(0.0, 1.0)[0].why == "pending"


def test_a_meter_that_raises_or_breaks_is_a_gap_and_comes_back(sampler, capsys) -> None:
    meter, healthy = simulated(), simulated("host/accelerator-1")
    sampler.start([meter, healthy])
    eventually(lambda: meter.reads > 2)
    read, meter.read = meter.read, lambda: 1 / 0  # type: ignore[method-assign,assignment]
    eventually(lambda: not sampler.totals()[0].reads)
    before = healthy.reads
    eventually(lambda: healthy.reads > before + 3)
    assert "ZeroDivisionError" in meter.trouble
    meter.read = read  # type: ignore[method-assign]
    eventually(lambda: sampler.totals()[0].reads)
    assert sampler.totals()[0].gaps == 1
    assert sampler.totals()[1].gaps == 0
    assert meter.trouble == ""


def test_after_a_stop_nothing_is_made_up_for() -> None:
    """A process that was stopped for an hour reads once, not 14,400 times."""
    clock, waits, meter = Clock(0.0), [], simulated()
    sampler = Sampler(0.25, clock=clock)

    class Over:
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            clock.on(3600.1 if len(waits) == 2 else seconds + 0.05)  # woken late, and once very late
            return len(waits) == 5

    sampler._over = Over()  # type: ignore[assignment]
    sampler.start([meter])
    sampler._threads[0].join(5)
    assert waits == pytest.approx([0.0, 0.2, 0.25, 0.2, 0.2])
    assert (meter.reads, meter.closed) == (4, True)


def test_it_stops_at_once_and_closes_every_meter() -> None:
    sampler, meters = Sampler(60.0), [simulated(), simulated("host", "other")]
    sampler.start(meters)
    eventually(lambda: all(meter.reads for meter in meters))
    began = time.monotonic()
    sampler.stop()
    assert time.monotonic() - began < 1
    assert all(meter.closed and meter.interrupted for meter in meters)
    sampler.stop()


def test_a_driver_that_hangs_for_ever_does_not_keep_the_process(monkeypatch) -> None:
    monkeypatch.setattr("underlay.live.meters.sampler._STOP_S", 0.05)
    sampler, meter, freed = Sampler(0.005), simulated(), threading.Event()
    meter.read = lambda: freed.wait(30) and None  # type: ignore[method-assign]
    sampler.start([meter])
    sampler.stop()
    assert sampler._threads[0].daemon
    freed.set()
    sampler._threads[0].join(5)


def test_without_meters_nothing_runs() -> None:
    sampler = Sampler(0.005)
    before = threading.active_count()
    sampler.start([])
    assert (threading.active_count(), sampler.totals(), sampler.windows(0, 1)) == (before, [], [])
    sampler.stop()
