"""Processor time of engines: real processes and their children, and a /proc that lies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.meters import Clock

from underlay.live.meters import processor
from underlay.live.meters.processor import ProcessorMeter
from underlay.physics.thread_power import thread_power

KNOWN = "AMD EPYC 7763 64-Core Processor"
TICKS = os.sysconf("SC_CLK_TCK")
BURN = "import sys, time\nwhile time.process_time() < float(sys.argv[1]): pass\nprint('done', flush=True); sys.stdin.read()"


class Proc:
    """A /proc of our own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        (root / "self").mkdir()

    def process(self, pid: int, *, user=0, system=0, ended=(0, 0), began=77, children=(), name="engine") -> None:
        folder = self.root / str(pid)
        (folder / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        fields = ["R", "1", *["0"] * 9, user, system, *ended, *["0"] * 4, began, "0"]
        (folder / "stat").write_text(f"{pid} ({name}) " + " ".join(map(str, fields)))
        (folder / "task" / str(pid) / "children").write_text(" ".join(map(str, children)))

    def end(self, pid: int) -> None:
        (self.root / str(pid) / "stat").unlink()


@pytest.fixture
def proc(tmp_path):
    return Proc(tmp_path / "proc")


class Watched:
    """A meter over pids that tests change."""

    def __init__(self, proc: Proc, *pids: int) -> None:
        self.pids, self.clock = list(pids), Clock()
        self.meter = ProcessorMeter(lambda: self.pids, KNOWN, proc=proc.root, clock=self.clock)

    def seconds(self) -> float:
        """Processor time counted so far."""
        self.clock.on(10)  # children are looked for
        return self.meter.read().joules / self.meter.power.power_w


def test_time_becomes_joules_with_a_band(proc) -> None:
    proc.process(5, user=900)
    watched = Watched(proc, 5)
    before = watched.meter.read()
    proc.process(5, user=900 + 7 * TICKS, system=3 * TICKS)
    watched.clock.on(20)
    consumed = watched.meter.consumed(before, watched.meter.read())
    power = thread_power(KNOWN)
    assert watched.meter.method == "modelled"
    assert consumed.joules == pytest.approx(10 * power.power_w)
    assert consumed.low_joules < 10 * power.low_w < consumed.joules < 10 * power.high_w < consumed.high_joules


def test_an_unknown_processor_is_assumed(proc) -> None:
    assert ProcessorMeter(tuple, "AMD EPYC", proc=proc.root).method == "assumed"


def test_one_that_starts_later_is_counted_from_its_start_and_one_that_ends_keeps_what_it_had(proc) -> None:
    watched = Watched(proc)
    assert watched.seconds() == 0
    proc.process(5, user=2 * TICKS)
    watched.pids.append(5)
    assert watched.seconds() == pytest.approx(2)
    proc.end(5)
    assert watched.seconds() == pytest.approx(2)
    watched.pids.clear()
    assert watched.seconds() == pytest.approx(2)
    proc.process(5, user=TICKS, began=99)  # another with its number
    watched.pids.append(5)
    assert watched.seconds() == pytest.approx(3)


def test_one_that_cannot_be_read_for_a_moment_is_not_counted_twice(proc) -> None:
    proc.process(5, user=0)
    watched = Watched(proc, 5)
    watched.seconds()
    proc.process(5, user=4 * TICKS)
    assert watched.seconds() == pytest.approx(4)
    proc.end(5)
    assert watched.seconds() == pytest.approx(4)
    proc.process(5, user=5 * TICKS)
    assert watched.seconds() == pytest.approx(5)


def test_children_count_alive_ended_and_hidden_once(proc) -> None:
    proc.process(5, children=[6])
    proc.process(6, children=[7], user=TICKS)
    proc.process(7, user=0)
    watched = Watched(proc, 5)
    watched.seconds()
    proc.process(7, user=3 * TICKS)
    assert watched.seconds() == pytest.approx(3)
    proc.process(6, children=[], user=TICKS, ended=(3 * TICKS, 0))  # 7 has ended
    assert watched.seconds() == pytest.approx(3)
    proc.process(5, children=[])  # the kernel leaves 6 out for once
    assert watched.seconds() == pytest.approx(3)
    proc.process(5, children=[6])
    proc.process(6, user=2 * TICKS, ended=(3 * TICKS, 0))
    assert watched.seconds() == pytest.approx(4)


def test_children_that_go_in_a_ring_do_not_hang_it(proc) -> None:
    proc.process(5, children=[6])
    proc.process(6, children=[5, 6])
    assert Watched(proc, 5, 5).seconds() == 0


@pytest.mark.parametrize("text", ["", "5", "5 (a) R 1", "5 (x) R " + "z " * 40, "\x00" * 99])
def test_a_stat_that_is_garbage_is_no_process(proc, text) -> None:
    proc.process(5)
    (proc.root / "5" / "stat").write_text(text)
    assert Watched(proc, 5).seconds() == 0


def test_a_name_with_parentheses_and_spaces_is_only_a_name(proc) -> None:
    proc.process(5, name="a) R 9 9 9 (b")
    watched = Watched(proc, 5)
    watched.seconds()
    proc.process(5, user=TICKS, name="a) R 9 9 9 (b")
    assert watched.seconds() == pytest.approx(1)


def test_without_proc_there_is_no_reading(tmp_path) -> None:
    found = processor.find(tuple, tmp_path)
    assert found.meters == ()
    assert "/proc" in found.why


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 7763 64-Core Processor\nmodel name : other\n", KNOWN),
        ("processor\t: 0\nBogoMIPS\t: 50\n", ""),
        ("", ""),
    ],
)
def test_the_kernels_name_of_the_processor(proc, text, name) -> None:
    (proc.root / "cpuinfo").write_text(text)
    assert processor.processor_name(proc.root) == name


def test_real_processes_and_their_children() -> None:
    """A shell that starts a child which computes: both counted, and nobody else."""
    meter = ProcessorMeter(lambda: pids, KNOWN)
    pids: list[int] = []
    before = meter.read()
    script = f'{sys.executable} -c "$0" 0.2'
    shell = subprocess.Popen(
        ["/bin/sh", "-c", f"{script}; true", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with shell:
        pids.append(shell.pid)
        assert shell.stdout.readline() == "done\n"
        used_s = (meter.read().joules - before.joules) / meter.power.power_w
        shell.stdin.close()
    assert 0.15 <= used_s <= 1.5
