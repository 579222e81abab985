"""Powercap's counters: what is taken, running over, set back, garbage, forbidden."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.support.meters import Clock, Powercap

from underlay.live.meters import rapl
from underlay.live.meters.rapl import RaplMeter

RANGE_UJ = 262_143_328_850


@pytest.fixture
def powercap(tmp_path):
    return Powercap(tmp_path / "powercap")


def started(powercap, energy_uj=1_000_000, range_uj=RANGE_UJ):
    clock = Clock()
    zone = powercap.zone("intel-rapl:0", "package-0", energy_uj, range_uj)
    meter = RaplMeter(zone, "package-0", "a package", clock=clock)
    return meter, zone, clock, meter.read()


def test_packages_and_memory_of_every_socket_are_taken_and_nothing_twice(powercap) -> None:
    for number in (0, 1):
        powercap.zone(f"intel-rapl:{number}", f"package-{number}")
        powercap.zone(f"intel-rapl:{number}:0", "core")
        powercap.zone(f"intel-rapl:{number}:1", "uncore")
        powercap.zone(f"intel-rapl:{number}:2", "dram")
    powercap.zone("intel-rapl:2", "psys")
    powercap.zone("intel-rapl-mmio:0", "package-0")
    found = rapl.find(powercap.root)
    ids = [meter.id for meter in found.meters]
    assert sorted(ids) == ["rapl:dram-0", "rapl:dram-1", "rapl:package-0", "rapl:package-1"]
    for one in found.meters:
        assert sum(one.boundary.overlaps(other.boundary) for other in found.meters) == 1  # itself


def test_joules_since_the_first_reading(powercap) -> None:
    meter, zone, clock, before = started(powercap)
    clock.on(0.25)
    Powercap.count(zone, 26_000_000)
    after = meter.read()
    assert (before.joules, after.joules, after.at_s - before.at_s) == (0, 25, 0.25)


def test_it_runs_over(powercap) -> None:
    meter, zone, clock, before = started(powercap, RANGE_UJ - 4_000_000)
    clock.on(0.25)
    Powercap.count(zone, 6_000_000 - 1)  # the value 0 is one step too
    assert meter.consumed(before, meter.read()).joules == pytest.approx(10)


def test_set_back_it_has_lost_what_it_counted(powercap) -> None:
    """Backwards, by less than a whole round would need: nobody knows what was drawn, and that is not nothing."""
    meter, zone, clock, before = started(powercap, 100_000_000_000)
    clock.on(0.25)
    Powercap.count(zone, 99_000_000_000)
    lost = meter.read()
    assert meter.consumed(before, lost) is None
    clock.on(0.25)
    Powercap.count(zone, 99_010_000_000)
    assert meter.consumed(lost, meter.read()).joules == 10


def test_without_a_range_backwards_is_a_loss(powercap) -> None:
    meter, zone, clock, before = started(powercap, 5_000_000, range_uj="unknown")
    clock.on(0.25)
    Powercap.count(zone, 4_000_000)
    assert meter.consumed(before, meter.read()) is None


def test_a_leap_that_no_processor_makes_is_a_loss(powercap) -> None:
    meter, zone, clock, before = started(powercap)
    clock.on(0.25)
    Powercap.count(zone, 200_000_000_000)
    assert meter.consumed(before, meter.read()) is None


def test_stopped_for_so_long_that_it_may_have_run_over_unseen(powercap) -> None:
    meter, zone, clock, before = started(powercap)
    clock.on(3600)
    Powercap.count(zone, 26_000_000)
    assert meter.consumed(before, meter.read()) is None


@pytest.mark.parametrize(
    "garbage", ["", "twelve", "-5", "1e9", "0x10", "12 13", "9" * 5000, "\x00" * 32, RANGE_UJ + 1, "\uff11\uff12"]
)
def test_garbage_is_no_reading_and_nothing_is_lost_by_it(powercap, garbage) -> None:
    meter, zone, clock, before = started(powercap)
    clock.on(0.25)
    Powercap.count(zone, garbage)
    assert meter.read() is None
    assert meter.trouble
    clock.on(0.25)
    Powercap.count(zone, 11_000_000)
    after = meter.read()
    assert meter.consumed(before, after).joules == 10
    assert meter.trouble == ""


def test_a_counter_that_vanishes_is_no_reading(powercap) -> None:
    meter, zone, _, _ = started(powercap)
    (zone / "energy_uj").unlink()
    assert meter.read() is None
    assert "No such file" in meter.trouble


def test_what_may_not_be_read_is_said_and_not_taken() -> None:
    """Root may read everything, so root becomes nobody for a moment."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    powercap = Powercap(root / "powercap")
    zone = powercap.zone("intel-rapl:0", "package-0")
    (zone / "energy_uj").chmod(0o400 if os.geteuid() == 0 else 0o000)
    was = os.geteuid()
    try:
        if was == 0:
            os.seteuid(65534)
        found = rapl.find(powercap.root)
    finally:
        os.seteuid(was)
        shutil.rmtree(root)
    assert found.meters == ()
    assert "root only" in found.why
    assert "chmod" in found.fix


def test_none_where_there_is_no_powercap_and_none_where_it_is_empty(tmp_path, powercap) -> None:
    assert rapl.find(tmp_path / "nowhere").meters == ()
    assert "virtual machine" in rapl.find(tmp_path / "nowhere").why
    assert "has no packages" in rapl.find(powercap.root).why


def test_a_zone_without_a_name_is_left_alone(powercap) -> None:
    zone = powercap.zone("intel-rapl:0", "package-0")
    (zone / "name").unlink()
    assert rapl.find(powercap.root).meters == ()


def test_the_kernels_own_limit_is_the_most_that_it_draws(powercap) -> None:
    zone = powercap.zone("intel-rapl:0", "package-0")
    (zone / "constraint_0_power_limit_uw").write_text("350000000\n")
    (zone / "constraint_1_power_limit_uw").write_text("420000000\n")
    assert RaplMeter(zone, "package-0", "").peak_w == 420
    (zone / "constraint_1_power_limit_uw").write_text(f"{2**63 - 1}\n")
    assert RaplMeter(zone, "package-0", "").peak_w == rapl.POWER_MAX_W
    assert RaplMeter(powercap.zone("intel-rapl:1", "package-1"), "package-1", "").peak_w == rapl.SOCKET_W


@quick
@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 1500)), min_size=1, max_size=40), st.integers(0, 10**8))
def test_whatever_is_drawn_is_counted_through_any_number_of_rounds(steps, first) -> None:
    """Rounds of 65 kJ, at least 32 s at the highest power, and every reading within one."""
    range_uj = 65_532_610_987
    with tempfile.TemporaryDirectory() as folder:
        powercap = Powercap(Path(folder, "powercap"))
        meter, zone, clock, before = started(powercap, first, range_uj)
        drawn_uj = 0
        for seconds, power_w in steps:
            clock.on(seconds)
            drawn_uj += int(seconds * power_w * 1e6)
            Powercap.count(zone, (first + drawn_uj) % (range_uj + 1))
            after = meter.read()
        assert after.epoch == before.epoch
        assert after.joules == pytest.approx(drawn_uj / 1e6, abs=1e-3)
