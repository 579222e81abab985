"""Which part of the processor time of this machine was the engines', since it was last asked?

For a meter of the processors that sees whoever uses them: what is not the engines' is nobody's request's. Both are
told by the kernel in ticks; a time in which nothing was busy at all has no part for anybody.

Refused here: watts.
"""

from __future__ import annotations

from pathlib import Path

from underlay.live.meters.processor import PROC, TICKS_PER_S, Pids, ProcessorMeter

#: Columns of the first line of ``stat``: time in which a processor had nothing to do.
_IDLE, _WAITING = 3, 4


class EnginesShare:
    """Asked by one thread at a time; its first answer is of the time since it was made."""

    def __init__(self, pids: Pids, proc: Path = PROC) -> None:
        self._proc = proc
        self._engines = ProcessorMeter(pids, "", proc=proc)
        self._engines_s, self._busy_s = self._read()

    def __call__(self) -> float:
        """From 0 to 1."""
        engines_s, busy_s = self._read()
        used_s, of_s = engines_s - self._engines_s, busy_s - self._busy_s
        self._engines_s, self._busy_s = engines_s, busy_s
        return min(max(used_s / of_s, 0.0), 1.0) if of_s > 0.0 else 0.0

    def _read(self) -> tuple[float, float]:
        reading = self._engines.read()
        engines_s = 0.0 if reading is None else reading.joules / self._engines.power.power_w
        return engines_s, _busy_s(self._proc)


def _busy_s(proc: Path) -> float:
    """Processor time of everything on this machine; 0 where the kernel does not tell."""
    try:
        line = (proc / "stat").read_text().splitlines()[0]
        ticks = [int(field) for field in line.split()[1:9]]
        return (sum(ticks) - ticks[_IDLE] - ticks[_WAITING]) / TICKS_PER_S
    except (OSError, IndexError, ValueError):
        return 0.0
