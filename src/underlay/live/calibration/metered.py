"""Which meters see the engine that is measured, and what did they count between two moments?

Accelerators are metered alone where they have meters: that is what a model of their watts is for. Else it is the
sum of the host (``live.meters``). An engine on another machine is seen by no meter of ours, and one that was not
started by us by no model of processes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, Self

from underlay.domain.figures import Figure, total
from underlay.live.meters.ladder import Ladder, disjoint
from underlay.live.meters.meter import Meter
from underlay.live.meters.processor import processor_name
from underlay.live.meters.sampler import Sampler

#: Meters have that many of their pauses to tell of a window that is over.
_PAUSES = 8


class Count(Protocol):
    """Joules that were counted between two moments of the monotonic clock; None where the meters lost count."""

    def __call__(self, begin_s: float, end_s: float) -> Awaitable[Figure | None]: ...  # noqa: D102


class Source(NamedTuple):
    """What joules are from: the meters' ids, their boundary, whether idle power is beyond it, of what machine."""

    meter: str
    boundary: str
    above_idle: bool
    processor: str


class Metered(AbstractContextManager["Metered"]):
    """Meters that are read while a ``with`` block lasts, the slowest of them every ``pause_s``."""

    def __init__(
        self,
        meters: Sequence[Meter],
        every_s: float,
        *,
        processor: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meters = tuple(meters)
        self._sampler = Sampler(every_s, clock=clock)
        self.pause_s = max(every_s, *(meter.every_s for meter in meters))
        self.source = Source(
            "+".join(meter.id for meter in meters),
            "; ".join(meter.boundary.words for meter in meters),
            any(meter.family == "processor" for meter in meters),
            processor,
        )

    def __enter__(self) -> Self:
        self._sampler.start(self._meters)
        return self

    def __exit__(self, *_: object) -> None:
        self._sampler.stop()

    async def count(self, begin_s: float, end_s: float) -> Figure | None:
        """What all of them counted in a time that is over; waits until they have been read once more."""
        for _ in range(_PAUSES):
            told = self._sampler.windows(begin_s, end_s)
            if not any(window.why == "pending" for window in told):
                break
            await asyncio.sleep(self.pause_s / 2)
        read = [window.meter.figure(window.consumed) for window in told if window.consumed is not None]
        return total(read) if len(read) == len(self._meters) else None


def metered(ladder: Ladder, every_s: float, *, started: bool) -> Metered | str:
    """The meters of this machine that see the engine, or why there are none; ``started``: it is a child of ours."""
    accelerators = [meter for meter in ladder.meters if meter.family == "nvml"]
    chosen = accelerators or list(disjoint(ladder.meters))
    if not started:
        chosen = [meter for meter in chosen if meter.family != "processor"]
    if not chosen:
        return "; ".join(f"{rung.name}: {rung.why}" for rung in ladder.rungs if rung.why) or "there are no meters"
    return Metered(chosen, every_s, processor=processor_name())
