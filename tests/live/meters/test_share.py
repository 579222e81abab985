"""The engines' part of a machine's processor time, from a /proc of our own."""

from __future__ import annotations

import os

import pytest
from tests.live.meters.test_processor import Proc

from underlay.live.meters.share import EnginesShare

TICKS = os.sysconf("SC_CLK_TCK")


class Machine(Proc):
    """With its own line of all processors' time: busy, idle and waiting for disks."""

    def used(self, busy: int, idle: int = 0, waiting: int = 0) -> None:
        (self.root / "stat").write_text(f"cpu  {busy} 0 0 {idle} {waiting} 0 0 0 7 7\ncpu0 1 2 3 4\n")


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path / "proc")
    machine.process(5, user=100)
    machine.used(1000)
    return machine


def test_it_is_of_the_time_since_it_was_last_asked(machine) -> None:
    share = EnginesShare(lambda: [5], machine.root)
    machine.process(5, user=130)
    machine.used(1040, idle=500, waiting=20)
    assert share() == pytest.approx(0.75)
    machine.used(1050, idle=900)
    assert share() == 0.0
    assert share() == 0.0  # nothing was busy at all


def test_counters_that_disagree_make_no_share_above_all_of_it(machine) -> None:
    share = EnginesShare(lambda: [5], machine.root)
    machine.process(5, user=200)
    machine.used(1050)
    assert share() == 1.0
    (machine.root / "stat").write_text("nonsense")
    assert share() == 0.0
