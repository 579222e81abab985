"""The clock of the modelled world: what happens next, by whose chance, and what it leaves behind.

One book of appointments, one time. Appointments at the same time are kept in the order of ``rank``, then in that in
which they were made, so a run is the same on every machine. A heap holds those of the current slice of time only;
later ones wait unsorted, by slice: with many thousands, every step down through one heap is a cache miss. Chance
comes from streams by name, so that what is added to one subsystem changes the throws of no other. The trace folds
whatever is noted into one hash: equal seeds give equal hashes, and a hash that differs says that something depended
on more than the seed.

An appointment is a bound method (or function) and what to hand it. So the kernel with all its actors is data:
a snapshot is a copy of it, and running both gives the same end.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from math import inf
from random import Random
from struct import Struct
from types import BuiltinMethodType, ModuleType
from typing import Any, TypeVar

#: What is to be done at a time with what; the time it returns, if any, is when to do it again.
Action = Callable[[float, Any], float | None]

Copied = TypeVar("Copied")

#: When, its rank, its number, what to do and with what.
Appointment = tuple[float, int, int, Action, Any]

_NOTE = Struct("<dqq")
#: Slices of a second: some ten to a thousand appointments in each, from sixteen replicas to ten thousand.
_SLICES = 64.0
_FOLD_BYTES = 1 << 16  # notes are hashed by the page: one digest for each would cost more than what it notes


class Trace:
    """A hash over everything noted, in order."""

    __slots__ = ("_digest", "_pending", "count")

    def __init__(self) -> None:
        self.count = 0
        self._digest = b""
        self._pending = bytearray()

    def note(self, at: float, what: int, number: int) -> None:
        """Note that something happened: two whole numbers below 2**63 say what and to whom."""
        self.count += 1
        self._pending += _NOTE.pack(at, what, number)
        if len(self._pending) >= _FOLD_BYTES:
            self._fold()

    def hash(self) -> str:
        """The hash up to now; noting goes on after it as if nobody had asked."""
        return blake2b(self._digest + self._pending, digest_size=16).hexdigest()

    def _fold(self) -> None:
        self._digest = blake2b(self._digest + self._pending, digest_size=16).digest()
        self._pending.clear()


class Kernel:
    """The clock. ``at`` is now, in seconds from 0; ``check``, if given, runs after everything that happens."""

    __slots__ = (
        "_count",
        "_ends_at",
        "_heap",
        "_later",
        "_seed",
        "_slices",
        "_streams",
        "at",
        "check",
        "events",
        "trace",
    )

    def __init__(self, seed: int, check: Callable[[], None] | None = None) -> None:
        self.at = 0.0
        self.events = 0
        self.check = check
        self.trace = Trace()
        self._seed = seed
        self._streams: dict[str, Random] = {}
        self._heap: list[Appointment] = []  # those before ``_ends_at``
        self._ends_at = 0.0
        self._later: dict[int, list[Appointment]] = {}
        self._slices: list[int] = []  # which there are of these, as a heap
        self._count = 0

    def stream(self, name: str) -> Random:
        """The dice of a subsystem: the same for the same seed and name, whatever other subsystems throw."""
        stream = self._streams.get(name)
        if stream is None:
            seed = blake2b(f"{self._seed} {name}".encode(), digest_size=8).digest()
            stream = self._streams[name] = Random(int.from_bytes(seed, "big"))  # noqa: S311 -- it must repeat
        return stream

    def call(self, at: float, action: Action, what: Any = None, rank: int = 0) -> None:
        """Make an appointment, not before now. At the same time the lowest ``rank`` comes first.

        An action that returns a time makes the same appointment for then: quicker than calling here.
        """
        if not self.at <= at < inf:
            raise ValueError(f"It is {self.at:g} s: nothing can be arranged for {at:g} s.")
        self._count = count = self._count + 1
        if at < self._ends_at:
            heappush(self._heap, (at, rank, count, action, what))
        else:
            self._put_off((at, rank, count, action, what))

    def _put_off(self, appointment: Appointment) -> None:
        """Keep one that is not for the current slice."""
        number = int(appointment[0] * _SLICES)
        later = self._later.get(number)
        if later is None:
            self._later[number] = [appointment]
            heappush(self._slices, number)
        else:
            later.append(appointment)

    def _go_on(self, until: float) -> bool:
        """Turn to the next slice in which there is something; false if there is none by then."""
        if not self._slices or self._slices[0] / _SLICES > until:
            return False
        number = heappop(self._slices)
        self._heap = self._later.pop(number)
        self._ends_at = (number + 1) / _SLICES  # exact, as slices of a second are a power of two
        heapify(self._heap)
        return True

    def next_at(self) -> float:
        """When something happens next; infinity if nothing does."""
        if self._heap:
            return self._heap[0][0]
        return min(self._later[self._slices[0]])[0] if self._slices else inf

    def run(self, until: float = inf) -> None:
        """Let happen what is due by ``until``, and what comes of it; then it is ``until``, if that is a time."""
        heap = self._heap
        check = self.check
        events = 0
        try:
            while heap or self._go_on(until):
                heap = self._heap
                appointment = heappop(heap)
                at, rank, _, action, what = appointment
                if at > until:
                    heappush(heap, appointment)
                    break
                self.at = at
                events += 1
                again_at = action(at, what)
                if again_at is not None:
                    if again_at < at:
                        raise ValueError(f"It is {at:g} s: nothing can be done again at {again_at:g} s.")
                    self._count = count = self._count + 1
                    if again_at < self._ends_at:
                        heappush(heap, (again_at, rank, count, action, what))
                    else:
                        self._put_off((again_at, rank, count, action, what))
                if check is not None:
                    check()
        finally:
            self.events += events
        if until < inf:
            self.at = max(self.at, until)

    def snapshot(self) -> Kernel:
        """The world as it is now, to be run on apart. Actors must be objects, no closures or running generators."""
        return copied(self)


def copied(world: Copied) -> Copied:
    """A copy of all that belongs to it, to be run on apart.

    ``deepcopy`` copies a method with its owner, but takes those of classes in C for functions and shares them: a
    copy's ``list.append`` would still add to the original's list, and nothing compiled could be copied at all.
    """
    copiers = copy._deepcopy_dispatch  # type: ignore[attr-defined]  # noqa: SLF001 -- there is no public way
    usual = copiers[BuiltinMethodType]
    copiers[BuiltinMethodType] = _copied_method
    try:
        return copy.deepcopy(world)
    finally:
        copiers[BuiltinMethodType] = usual


def _copied_method(method: Any, memo: dict[int, Any]) -> Any:
    owner = method.__self__
    if owner is None or isinstance(owner, ModuleType):
        return method
    return getattr(copy.deepcopy(owner, memo), method.__name__)
