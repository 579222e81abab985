"""What one meter has said lately, and what was drawn between any two moments of it.

Between two readings the joules are taken to have come evenly. As that is one line through all readings, windows
that follow each other add up to what the meter counted; what the line may be off at either end widens the band.
Nothing is said of moments before the first reading kept and after the last, nor across a loss of the counter.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import pairwise
from typing import NamedTuple

from underlay.live.meters.meter import Consumed, Meter, Reading


class Window(NamedTuple):
    """What a meter counted from one moment to another; ``consumed`` is ``None`` where ``why`` says why.

    ``pending``: it may be known later; ``forgotten``: it was, or was before the first reading; ``lost``: the
    counter was lost in between. ``silent_s`` is the longest time without a reading.
    """

    meter: Meter
    begin_s: float
    end_s: float
    consumed: Consumed | None
    why: str = ""
    silent_s: float = 0.0


class Total(NamedTuple):
    """What a meter has counted since it was first read, losses left out; ``gaps`` is how often it fell silent."""

    meter: Meter
    joules: float
    gaps: int
    reads: bool


class Track:
    """One meter's readings, ``kept`` of them. Written by one thread, asked by any."""

    def __init__(self, meter: Meter, kept: int) -> None:
        self.meter = meter
        self._readings: deque[Reading] = deque(maxlen=kept)
        self._lock = threading.Lock()
        self._joules = 0.0
        self._gaps = 0
        self._silent = False

    def add(self, reading: Reading | None) -> None:
        """Take a reading, or note that there was none."""
        with self._lock:
            if reading is None:
                self._gaps += not self._silent
                self._silent = True
                return
            last = self._readings[-1] if self._readings else None
            if last is not None and reading.at_s <= last.at_s:
                return  # two within one tick of the clock
            if last is not None and reading.epoch == last.epoch:
                self._joules += reading.joules - last.joules
            elif last is not None:
                self._gaps += not self._silent
            self._silent = False
            self._readings.append(reading)

    def total(self) -> Total:
        """All that was counted."""
        with self._lock:
            return Total(self.meter, self._joules, self._gaps, bool(self._readings) and not self._silent)

    def window(self, begin_s: float, end_s: float) -> Window:
        """What was drawn from one moment to a later one. Raises ``ValueError`` if it is not later."""
        if end_s <= begin_s:
            raise ValueError("a window ends after it begins")
        with self._lock:
            readings = list(self._readings)
        if not readings or end_s > readings[-1].at_s:
            return Window(self.meter, begin_s, end_s, None, "pending")
        if begin_s < readings[0].at_s:
            return Window(self.meter, begin_s, end_s, None, "forgotten")
        first = max(number for number, reading in enumerate(readings) if reading.at_s <= begin_s)
        last = next(number for number, reading in enumerate(readings) if reading.at_s >= end_s)
        within = readings[first : last + 1]
        silent_s = max(after.at_s - before.at_s for before, after in pairwise(within))
        consumed = _consumed(self.meter, within, begin_s, end_s)
        return Window(self.meter, begin_s, end_s, consumed, "" if consumed else "lost", silent_s)


def _consumed(meter: Meter, within: list[Reading], begin_s: float, end_s: float) -> Consumed | None:
    if within[0].epoch != within[-1].epoch:
        return None
    begin, begin_off = _between(within[0], within[1], begin_s)
    end, end_off = _between(within[-2], within[-1], end_s)
    consumed = meter.consumed(begin, end)
    return None if consumed is None else consumed.widened(begin_off + end_off)


def _between(before: Reading, after: Reading, at_s: float) -> tuple[Reading, float]:
    """The line between two readings at a moment, and the joules that it may be off there."""
    part = (at_s - before.at_s) / (after.at_s - before.at_s)
    low_joules, joules, high_joules = (
        earlier + (later - earlier) * part
        for earlier, later in (
            (before.low_joules, after.low_joules),
            (before.joules, after.joules),
            (before.high_joules, after.high_joules),
        )
    )
    off = max(part, 1.0 - part) * (after.joules - before.joules) if 0.0 < part < 1.0 else 0.0
    return Reading(at_s, joules, low_joules, high_joules, before.epoch), off
