"""NVIDIA's counters: counted, sampled where there is no counter, sliced, lost, absent."""

from __future__ import annotations

import sys

import pytest
from tests.support.meters import Clock, Device, FakeNvml

from underlay.live.meters import nvml
from underlay.live.meters.nvml import NvmlMeter


def made(device: Device):
    clock = Clock()
    return NvmlMeter(FakeNvml(device), 0, clock=clock), clock


def test_a_counter_of_millijoules() -> None:
    device = Device(mj=5_000_000)
    meter, clock = made(device)
    before = meter.read()
    device.mj += 70_000
    clock.on(0.25)
    consumed = meter.consumed(before, meter.read())
    assert (meter.id, meter.method) == ("nvml:GPU-0", "measured")
    assert consumed.joules == pytest.approx(70)
    assert consumed.low_joules == 0  # one refresh at 700 W, and the sensor
    assert consumed.high_joules == pytest.approx(70 * 1.05 + 70)


def test_a_driver_that_was_loaded_anew_is_a_loss() -> None:
    device = Device(mj=5_000_000)
    meter, clock = made(device)
    before = meter.read()
    device.mj = 12
    clock.on(0.25)
    assert meter.consumed(before, meter.read()) is None


def test_without_a_counter_its_power_is_added_up_with_more_doubt() -> None:
    device = Device(mj=None, mw=200_000)
    meter, clock = made(device)
    before = meter.read()
    device.mw = 400_000
    clock.on(1.0)
    consumed = meter.consumed(before, meter.read())
    assert "samples of its power" in meter.boundary.words
    assert consumed.joules == pytest.approx(300)
    counted, clock = made(Device(mj=0))
    before = counted.read()
    counted._handle.mj = 300_000
    clock.on(1.0)
    assert consumed.uncertainty_joules > counted.consumed(before, counted.read()).uncertainty_joules


def test_samples_across_a_stop_are_not_joined() -> None:
    meter, clock = made(Device(mj=None, mw=200_000))
    before = meter.read()
    clock.on(3600)
    assert meter.consumed(before, meter.read()) is None


def test_slices_have_no_meter_of_their_own() -> None:
    assert "MIG" in made(Device(mig=1))[0].boundary.words
    assert "MIG" not in made(Device(mig=0))[0].boundary.words


def test_a_device_that_falls_off_the_bus_is_no_reading_and_may_come_back() -> None:
    device = Device(mj=1000)
    meter, clock = made(device)
    before = meter.read()
    device.lost = True
    assert meter.read() is None
    assert meter.trouble == "GPU is lost"
    device.lost = False
    device.mj = 3000
    clock.on(1)
    assert meter.consumed(before, meter.read()).joules == 2
    assert meter.trouble == ""


def test_a_device_without_a_limit_may_draw_a_kilowatt() -> None:
    device = Device()
    device.limit_mw = None
    assert made(device)[0].peak_w == 1000


def test_all_devices_are_found_and_those_that_cannot_be_read_are_told() -> None:
    dumb = Device(mj=None, mw=None)
    fake = FakeNvml(Device(), dumb, Device(mj=None))
    found = nvml.find(fake)
    assert [meter.id for meter in found.meters] == ["nvml:GPU-0", "nvml:GPU-2"]
    assert found.why == "accelerator 1: Not Supported"
    assert fake.begun == 1


def test_no_devices_and_no_driver_are_said_in_words() -> None:
    none = FakeNvml()
    assert nvml.find(none) == ((), "the driver sees no accelerator", "", False)
    assert none.begun == 0
    found = nvml.find(FakeNvml(error="NVML Shared Library Not Found"))
    assert found.why == "no NVIDIA driver here: NVML Shared Library Not Found"


def test_without_the_library_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    found = nvml.find()
    assert found.meters == ()
    assert "nvidia-ml-py is not installed" in found.why
    assert "underlay[nvidia]" in found.fix
