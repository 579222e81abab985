"""Which meters a machine has, in words, and a sum of the host that counts nothing twice."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.support.meters import Controller, Device, FakeNvml, Powercap

from underlay.domain.figures import Figure
from underlay.live.meters import ladder, nvml, rapl
from underlay.live.meters.meter import Found
from underlay.live.meters.redfish import RedfishMeter
from underlay.live.settings import MeterSettings, RedfishSettings

OUTER = RedfishMeter(RedfishSettings())


def none() -> Found:
    return Found((), "absent")


@pytest.fixture
def powercap(tmp_path):
    made = Powercap(tmp_path / "powercap")
    made.zone("intel-rapl:0", "package-0")
    made.zone("intel-rapl:0:0", "dram")
    return made


def whole(powercap, outer=True):
    return ladder.look(
        MeterSettings(),
        tuple,
        {
            "redfish": (lambda: Found((OUTER,), "")) if outer else none,
            "nvml": lambda: nvml.find(FakeNvml(Device(), Device())),
            "rapl": lambda: rapl.find(powercap.root),
        },
    )


def figures(found: ladder.Ladder, **joules: float) -> dict[str, Figure]:
    return {
        meter.id: Figure(joules.get(meter.family, 1.0), "J", meter.method, meter.id, meter.boundary.words, 0.5)
        for meter in found.meters
        if joules.get(meter.family) is not None
    }


def test_best_first_and_the_processors_time_only_where_nothing_meters_them(powercap) -> None:
    found = whole(powercap)
    ids = [meter.id for meter in found.meters]
    assert ids == ["redfish:host", "nvml:GPU-0", "nvml:GPU-1", "rapl:dram-0", "rapl:package-0"]
    assert found.rungs[-1].message == "not taken: the processors have meters"


def test_the_outer_meter_is_the_sum_and_its_parts_where_it_is_silent(powercap) -> None:
    found = whole(powercap)
    assert found.host(figures(found, redfish=900.0, nvml=300.0, rapl=50.0)).value == 900
    parts = found.host(figures(found, nvml=300.0, rapl=50.0))
    assert parts.value == 700
    assert parts.meter == "nvml:GPU-0+nvml:GPU-1+rapl:dram-0+rapl:package-0"
    assert found.host({}) is None
    assert found.host(figures(found, nvml=300.0)) is None  # the processors are missing
    assert found.host_message == "redfish:host"
    inner = whole(powercap, outer=False)
    assert inner.host_message.endswith("without power supplies, fans, drives")


def test_a_sum_is_known_as_its_least_part_is() -> None:
    found = ladder.look(
        MeterSettings(rapl="off", nvml="auto"), tuple, {"nvml": lambda: nvml.find(FakeNvml(Device()))}
    )
    assert [meter.family for meter in found.meters] == ["nvml", "processor"]
    summed = found.host(figures(found, nvml=10.0, processor=5.0))
    assert (summed.value, summed.method in ("modelled", "assumed")) == (15, True)
    assert "idle power" in found.host_message


def test_what_is_turned_off_is_not_even_looked_for(powercap) -> None:
    def never() -> Found:
        raise AssertionError

    found = ladder.look(MeterSettings(rapl="off", nvml="off"), tuple, {"rapl": never, "nvml": never})
    assert [rung.why for rung in found.rungs[1:3]] == [ladder.OFF, ladder.OFF]


def test_a_machine_with_nothing_says_so() -> None:
    found = ladder.look(MeterSettings(), tuple, dict.fromkeys(("redfish", "nvml", "rapl", "processor"), none))
    assert found.meters == ()
    lines = found.describe()
    assert lines[:2] == ["host: not taken: absent", "accelerators: not taken: absent"]
    assert lines[-1] == "sum of the host: none; nothing here is metered, and no joules are told"


def test_a_controller_that_refuses_is_a_mistake_of_the_settings() -> None:
    with Controller() as controller:
        controller.status = 401
        settings = MeterSettings(redfish=RedfishSettings(url=f"{controller.url}/power", insecure=True))
        found = ladder.look(settings, tuple)
    assert found.rungs[0].wrong
    assert "fails now: http" in found.describe()[0]
    assert "answers 401" in found.describe()[0]
    assert found.meters[0].id == "redfish:host"
    assert found.host(figures(found, processor=5.0)).value == 5  # its part, while it fails


def test_some_of_the_packages_are_not_taken_for_all(powercap) -> None:
    powercap.zone("intel-rapl:1", "package-1", energy_uj="garbage")
    probes = {"rapl": lambda: rapl.find(powercap.root), "nvml": none}
    found = ladder.look(MeterSettings(), tuple, probes)
    assert [meter.id for meter in found.meters] == ["processor:engines"]
    assert "package-1: b'garbage\\n' is no count" in found.rungs[2].message


def test_memory_that_cannot_be_read_is_left_out_and_told(powercap) -> None:
    Powercap.count(powercap.root / "intel-rapl:0:0", "garbage")
    found = ladder.look(MeterSettings(), tuple, {"rapl": lambda: rapl.find(powercap.root), "nvml": none})
    assert [meter.id for meter in found.meters] == ["rapl:package-0"]
    assert "not taken: dram-0" in found.rungs[2].message


def test_a_controller_that_is_not_set_is_not_asked_and_its_client_not_even_loaded() -> None:
    code = "import sys, underlay.live.platform as p, underlay.live.running_energy as r; r.ladder.look(p.Settings().meters, tuple)"
    code += "; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_this_very_machine_is_told_as_it_is() -> None:
    found = ladder.look(MeterSettings(), lambda: [os.getpid()])
    said = "\n".join(found.describe())
    if not rapl.POWERCAP.is_dir():
        assert "no powercap here" in said
        assert "processor:engines" in said
    assert "no controller is set" in said
    assert all(meter.read() is not None for meter in found.meters)
