from __future__ import annotations

import pytest

from underlay.physics.host_power import cpus
from underlay.physics.thread_power import DESKTOP_W, thread_power


def test_a_thread_of_the_great_epyc_is_between_its_idle_and_its_full_share() -> None:
    found = thread_power("AMD EPYC 9965 192-Core Processor")
    assert found.power_w == pytest.approx(0.90, abs=0.01)  # of 0.20 idle and 1.10 full
    assert found.method == "modelled"
    assert found.low_w < found.power_w < found.high_w


@pytest.mark.parametrize(
    ("told", "cpu"),
    [
        ("Intel(R) Xeon(R) Platinum 8480+", "Xeon Platinum 8480+"),
        ("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", "Xeon Platinum 8380"),
        ("AMD EPYC 7763 64-Core Processor", "EPYC 7763"),
        ("Intel(R) Xeon(R) 6980P", "Xeon 6980P"),
    ],
)
def test_kernels_names_are_understood(told: str, cpu: str) -> None:
    assert f"SPECpower of {cpu}," in thread_power(told).note


@pytest.mark.parametrize("told", ["AMD EPYC", "AMD EPYC 77630", "Intel(R) Xeon(R) Platinum 8480C"])
def test_a_near_miss_is_assumed_and_spans_its_makers(told: str) -> None:
    found = thread_power(told)
    assert found.method == "assumed"
    mine = [cpu for name, cpu in cpus().items() if name.split()[0] in told]
    for cpu in mine:
        assert found.low_w < (cpu.full_w - cpu.idle_w) / cpu.threads < found.high_w


@pytest.mark.parametrize("told", ["", "13th Gen Intel(R) Core(TM) i9-13900K", "Apple M4", "CPU @ GHz (R)"])
def test_what_is_no_servers_gets_the_widest_band(told: str) -> None:
    found = thread_power(told)
    assert (found.method, found.high_w) == ("assumed", DESKTOP_W)
    assert found.low_w <= thread_power("AMD EPYC").low_w


def test_cores_without_a_second_thread_have_no_wider_band() -> None:
    single = thread_power("Intel(R) Xeon(R) 6780E")
    assert single.high_w == single.power_w
