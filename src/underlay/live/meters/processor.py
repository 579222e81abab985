"""What the engines' processes draw, by the processor time they use: for where nothing meters the processors.

Processor time (user and system, of the processes and of all they started) times the watts that a busy thread adds
(``physics.thread_power``). That is a model with a wide band, and of busy time only: what the machine draws while
nothing runs is not in it, nor are accelerators.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from underlay.live.meters.meter import Boundary, Found, Meter, Quantum, Reading, Tally
from underlay.physics.thread_power import thread_power

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
#: Of user and of system time, each is told in whole ticks.
_TICKS_UNSEEN = 2
#: Between two looks for children of the processes.
CHILDREN_S = 2.0
_REMEMBERED = 512

Pids = Callable[[], Iterable[int]]


class ProcessorMeter(Meter):
    """The processes that ``pids`` tells of, each time anew."""

    family = "processor"

    def __init__(
        self, pids: Pids, processor: str, *, proc: Path = PROC, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.power = thread_power(processor)
        words = f"the engines' processes, above the machine's idle power, at the wall; {self.power.note}"
        super().__init__("processor:engines", Boundary("host/board", words), self.power.method, Quantum(0.0, 0.0))
        self._pids = pids
        self._proc = proc
        self._clock = clock
        self._tally = Tally()
        self._used: dict[tuple[int, int], int] = {}
        self._begun = False
        self._below: dict[int, list[int]] = {}
        self._below_at_s = -math.inf

    def read(self) -> Reading | None:
        """Add what the processes have used since the last time; of those that ended, what was seen remains."""
        if not (self._proc / "self").exists():
            self.trouble = "there is no /proc"
            return None
        pids = sorted(set(self._pids()))
        self._look_below(pids)
        ticks = processes = 0
        for pid in pids:
            ticks += self._new_ticks(pid)
            processes += 1 + len(self._below.get(pid, ()))
        self._begun = True
        self._forget()
        seconds, power = ticks / TICKS_PER_S, self.power
        self._tally.add(seconds * power.power_w, seconds * power.low_w, seconds * power.high_w)
        unseen_s = _TICKS_UNSEEN * max(1, processes) / TICKS_PER_S
        self.quantum = Quantum(0.0, unseen_s * power.power_w)
        self.trouble = ""
        return self._tally.reading(self._clock())

    def _look_below(self, pids: list[int]) -> None:
        """Look for children, now and then: engines start theirs once, and asking each thread takes long."""
        now_s = self._clock()
        if now_s - self._below_at_s >= CHILDREN_S or any(pid not in self._below for pid in pids):
            self._below = {pid: _descendants(self._proc, pid) for pid in pids}
            self._below_at_s = now_s

    def _new_ticks(self, pid: int) -> int:
        """What a process and all below it have used since the last time.

        Never counted twice: the kernel may leave a child out of a list for once, and so a sum below the highest so
        far is taken for a child that hides. One that ended without its parent's waiting for it takes the like of
        what it had used out of what comes after.
        """
        root = _stat(self._proc, pid)
        if root is None:
            return 0
        began, used = root
        for child in self._below[pid]:
            said = _stat(self._proc, child)
            used += said[1] if said is not None else 0
        key = (pid, began)
        before = self._used.pop(key, 0 if self._begun else used)
        self._used[key] = max(before, used)
        return max(0, used - before)

    def _forget(self) -> None:
        """Forget the oldest of processes that are gone; not at once, as one may be unreadable for a moment."""
        while len(self._used) > _REMEMBERED:
            del self._used[next(iter(self._used))]


def find(pids: Pids, proc: Path = PROC) -> Found:
    """The meter by processor time, if the system tells any."""
    meter = ProcessorMeter(pids, processor_name(proc), proc=proc)
    if meter.read() is None:
        return Found((), meter.trouble)
    return Found((meter,), "")


def processor_name(proc: Path = PROC) -> str:
    """What the kernel calls the processor; empty where it does not say (on ARM)."""
    try:
        lines = (proc / "cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "")


def _descendants(proc: Path, pid: int) -> list[int]:
    """All processes below one."""
    found: dict[int, None] = {}
    below = list(_children(proc, pid))
    while below:
        child = below.pop()
        if child != pid and child not in found:
            found[child] = None
            below.extend(_children(proc, child))
    return list(found)


def _stat(proc: Path, pid: int) -> tuple[int, int] | None:
    """When a process began, and the ticks of itself and of its children that have ended."""
    try:
        text = (proc / str(pid) / "stat").read_text(errors="replace")
        # The program's name, in parentheses, may hold anything; fields are counted after it.
        fields = text.rpartition(")")[2].split()
        return int(fields[19]), sum(int(field) for field in fields[11:15])
    except (OSError, IndexError, ValueError):
        return None


def _children(proc: Path, pid: int) -> Iterator[int]:
    """Its children, of all its threads. None where the kernel does not list them (CONFIG_PROC_CHILDREN)."""
    try:
        for thread in (proc / str(pid) / "task").iterdir():
            yield from (int(text) for text in (thread / "children").read_text().split())
    except (OSError, ValueError):
        return
