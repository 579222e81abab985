"""What a meter says, and how much of it can be believed.

A meter counts joules since some beginning of its own, with its time. Two readings give what was drawn between
them, with the error that the meter's refresh leaves: a counter renewed every 100 ms may be a refresh behind at
either end, 70 J at 700 W. A meter that cannot be read says nothing, which is not 0 J; one whose counter was lost
in between begins a new epoch, and what was drawn across two epochs nobody knows.

Refused here: who caused it, and when to read.
"""

from __future__ import annotations

from typing import NamedTuple

from underlay.domain.figures import Figure, Method


class Quantum(NamedTuple):
    """The finest step of a meter: how often it is renewed, and what it cannot tell apart."""

    seconds: float
    joules: float


class Boundary(NamedTuple):
    """What a meter covers. ``place`` goes from the whole to its part (``host/board/package-0``)."""

    place: str
    words: str

    def overlaps(self, other: Boundary) -> bool:
        """Whether one holds the other, so that the sum of both counts something twice."""
        mine, theirs = f"{self.place}/", f"{other.place}/"
        return mine.startswith(theirs) or theirs.startswith(mine)


class Reading(NamedTuple):
    """Joules since the meter's beginning, the least and the most that they may be, at a monotonic time.

    Readings of different epochs have nothing to do with each other.
    """

    at_s: float
    joules: float
    low_joules: float
    high_joules: float
    epoch: int = 0


class Consumed(NamedTuple):
    """What was drawn in a time, and the least and the most that it may have been.

    ``grain_joules`` is the part of the error that comes anew with each time: from the meter's refresh, and from
    what came between readings. The rest lies in the meter's level, and is alike in all times.
    """

    seconds: float
    joules: float
    low_joules: float
    high_joules: float
    grain_joules: float = 0.0

    @property
    def uncertainty_joules(self) -> float:
        """How far off it may be, to the worse side."""
        return max(self.joules - self.low_joules, self.high_joules - self.joules)

    def widened(self, joules: float) -> Consumed:
        """The same with so much more error to both sides, of the moment; never less than nothing."""
        return self._replace(
            low_joules=max(0.0, self.low_joules - joules),
            high_joules=self.high_joules + joules,
            grain_joules=self.grain_joules + joules,
        )


class Meter:
    """One meter. Those of a ``family`` share a way to the hardware, and are read one after the other.

    ``every_s`` is the least time between two readings that makes sense; ``peak_w`` the most that is ever drawn, as
    far as known; ``trouble`` why the last reading failed. Only one thread at a time reads a meter. ``method`` is
    ``modelled`` where published figures of this very part are used, ``assumed`` where those of parts like it are.
    """

    family = ""
    every_s = 0.0
    peak_w = 0.0

    def __init__(self, id: str, boundary: Boundary, method: Method, quantum: Quantum) -> None:  # noqa: A002
        self.id = id
        self.boundary = boundary
        self.method = method
        self.quantum = quantum
        self.trouble = ""

    def read(self) -> Reading | None:
        """Read it; ``None`` if it cannot be read now, and ``trouble`` then says why. Raises nothing it expects."""
        raise NotImplementedError

    def consumed(self, before: Reading, after: Reading) -> Consumed | None:
        """What was drawn between two readings, plus and minus one quantum; ``None`` across an epoch.

        Raises ``ValueError`` if they are not in order.
        """
        seconds = after.at_s - before.at_s
        if seconds <= 0.0:
            raise ValueError("the second reading is not after the first")
        if after.epoch != before.epoch:
            return None
        between = Consumed(
            seconds,
            after.joules - before.joules,
            after.low_joules - before.low_joules,
            after.high_joules - before.high_joules,
        )
        return between.widened(max(self.quantum.joules, self.peak_w * self.quantum.seconds))

    def figure(self, consumed: Consumed) -> Figure:
        """What was drawn, as the ledger takes it."""
        return Figure(
            value=consumed.joules,
            unit="J",
            method=self.method,
            meter=self.id,
            boundary=self.boundary.words,
            uncertainty=consumed.uncertainty_joules,
        )

    def interrupt(self) -> None:
        """End a reading that another thread is at, as soon as may be; nothing is read afterwards."""

    def close(self) -> None:
        """Give back what it holds, in the thread that has read it."""


class Tally:
    """Joules added up from what a meter tells in pieces."""

    __slots__ = ("epoch", "high_joules", "joules", "low_joules")

    def __init__(self) -> None:
        self.joules = self.low_joules = self.high_joules = 0.0
        self.epoch = 0

    def add(self, joules: float, low_joules: float, high_joules: float) -> None:
        """Add a piece, and the least and the most that it may be."""
        self.joules += joules
        self.low_joules += low_joules
        self.high_joules += high_joules

    def lose(self) -> None:
        """Note that a piece is missing."""
        self.epoch += 1

    def reading(self, at_s: float) -> Reading:
        """What has been added up so far."""
        return Reading(at_s, self.joules, self.low_joules, self.high_joules, self.epoch)


class Found(NamedTuple):
    """The meters of one family on this machine, or why there are none; ``fix`` says what would help.

    ``wrong`` is a meter that was asked for and does not work now.
    """

    meters: tuple[Meter, ...]
    why: str
    fix: str = ""
    wrong: bool = False
