"""When to look again, and at what.

One heap of appointments for the whole desk, so that its driver needs one alarm. An appointment may have been
overtaken by events (who was to be refused at noon was served at eleven); whoever keeps it looks whether it
still holds. It refuses to know clocks: the driver rings when it was asked to.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Holds = Callable[[Any, float], bool]


class Agenda:
    """Appointments by time. ``holds`` says of each kind whether one still stands; ``heap`` is empty if none do."""

    __slots__ = ("_count", "_holds", "alarm_at", "heap")

    def __init__(self, holds: dict[str, Holds]) -> None:
        self._holds = holds
        self.heap: list[tuple[float, int, str, Any]] = []
        self._count = 0
        self.alarm_at: float | None = None  # what the driver was last asked for

    def __len__(self) -> int:
        return len(self.heap)

    def add(self, at: float, kind: str, what: Any) -> None:
        """Make an appointment."""
        self._count += 1
        heappush(self.heap, (at, self._count, kind, what))

    def due(self, at: float) -> list[tuple[str, Any]]:
        """Take out the appointments whose time has come, in order, without those that were overtaken."""
        found: list[tuple[str, Any]] = []
        while self.heap and self.heap[0][0] <= at:
            when, _, kind, what = heappop(self.heap)
            if self._holds[kind](what, when):
                found.append((kind, what))
        return found

    def next_alarm(self) -> float | None:
        """The time to ask the driver for, if it must ring earlier than it was asked to; drops stale ones."""
        heap = self.heap
        while heap and not self._holds[heap[0][2]](heap[0][3], heap[0][0]):
            heappop(heap)
        if not heap or (self.alarm_at is not None and self.alarm_at <= heap[0][0]):
            return None
        self.alarm_at = heap[0][0]
        return self.alarm_at
