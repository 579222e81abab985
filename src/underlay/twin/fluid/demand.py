"""Who calls how often, as flows: the crowds of a scenario taken apart into streams with a rate.

A crowd is taken apart into its parts (one for each region of callers), and what a part calls is learnt from
typical calls of it: which model, from where. Parts that differ in nothing but region and time of day are one
``Kind``, whose calls are measured together. Refused here: where calls go, what becomes of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from underlay.twin.crowd.arrivals import Arrivals
from underlay.twin.crowd.call import Call, Crowd, Outcome
from underlay.twin.crowd.impatience import Impatience, Impatient
from underlay.twin.crowd.merge import Merged
from underlay.twin.crowd.open_loop import OpenLoop
from underlay.twin.crowd.section import KnownCrowd
from underlay.twin.crowd.sessions import Sessions
from underlay.twin.kernel import Kernel

Floats = npt.NDArray[np.float64]

#: Typical calls from which is learnt which model and which region a crowd's part names.
_SURVEYED = 2048


class Kind(NamedTuple):
    """Callers who differ in nothing that matters to a platform: the part of a crowd and its patience."""

    part: KnownCrowd
    patience: Impatience | None

    @property
    def tries(self) -> int:
        """How often they try in all after they were refused."""
        return self.patience.tries if self.patience and "refused" in self.patience.retries_on else 1

    def sample(self, count: int, dice: Random) -> list[Call]:
        """So many typical calls."""
        return self._patient(self.part).sample(count, dice)

    def steady(self, rate_per_s: float, start_s: float) -> Crowd:
        """The same callers at one rate from a time on, every one trying once.

        Recorded calls are drawn from typical ones and come at random (Poisson): what their order had in common
        (prefixes, bursts) is lost, see ``ordered``.
        """
        if isinstance(self.part, OpenLoop):
            arrivals = Arrivals(rate_per_s, self.part.arrivals.process, start_s=start_s)
            return self._patient(replace(self.part, arrivals=arrivals))
        if isinstance(self.part, Sessions):
            turns = replace(self.part, arrivals=Arrivals(1.0)).rate_per_s(0.0)
            arrivals = Arrivals(rate_per_s / turns, self.part.arrivals.process, start_s=start_s)
            return self._patient(replace(self.part, arrivals=arrivals))
        return Shuffled(self, rate_per_s, start_s)

    @property
    def ordered(self) -> bool:
        """Whether the order of its calls means something that ``steady`` loses."""
        return not isinstance(self.part, OpenLoop | Sessions)

    def _patient(self, part: KnownCrowd) -> KnownCrowd:
        return Impatient(part, replace(self.patience, tries=1)) if self.patience else part


class Shuffled:
    """Typical calls of a kind, again and again, at one rate by chance. Nothing comes of their ends."""

    follows = False

    def __init__(self, kind: Kind, rate_per_s: float, start_s: float) -> None:
        self._kind = kind
        self._rate_per_s = rate_per_s
        self._start_s = start_s

    def calls(self, dice: Random) -> Iterator[Call]:
        """Its calls, in order."""
        typical = self._kind.sample(2 * _SURVEYED, dice)
        at = self._start_s
        while typical:
            at += dice.expovariate(self._rate_per_s)
            call = dice.choice(typical).again(at)
            call.session = 0  # nobody's turns come one after the other here
            yield call

    def follow_up(self, _call: Call, _outcome: Outcome, _at: float, _dice: Random) -> Call | None:
        """Nothing."""
        return None

    def rate_per_s(self, at: float) -> float:
        """Calls a second at that time."""
        return self._rate_per_s if at >= self._start_s else 0.0

    def sample(self, count: int, dice: Random) -> list[Call]:
        """So many typical calls."""
        return self._kind.sample(count, dice)


class Stream(NamedTuple):
    """Calls of one kind for one model from one region: ``share`` of what ``part`` calls. Numbers are places."""

    kind: int
    part: KnownCrowd
    model: int
    origin: int
    share: float


class Demand:
    """All streams of a scenario, by the places of its ``models`` and ``regions``; the first are the defaults."""

    def __init__(
        self, kernel: Kernel, crowds: Sequence[Crowd], models: Sequence[str], regions: Sequence[str]
    ) -> None:
        self.kinds: list[Kind] = []
        self.streams: list[Stream] = []
        places: dict[Kind, int] = {}
        for number, crowd in enumerate(crowds):
            dice = kernel.stream(f"survey {number}")
            for part, patience in _parts(crowd, None):
                kind = Kind(_plain(part), patience)
                place = places.setdefault(kind, len(places))
                if place == len(self.kinds):
                    self.kinds.append(kind)
                self._add(part, place, dice, models, regions)

    def _add(
        self, part: KnownCrowd, kind: int, dice: Random, models: Sequence[str], regions: Sequence[str]
    ) -> None:
        calls = part.sample(_SURVEYED, dice)
        counts = Counter((call.model or models[0], call.region or regions[0]) for call in calls)
        for (model, region), count in sorted(counts.items()):
            self.streams.append(Stream(kind, part, models.index(model), regions.index(region), count / len(calls)))

    def rates(self, times_s: Floats) -> Floats:
        """Calls per second of every stream (columns) at every time (rows)."""
        parts = {id(stream.part): stream.part for stream in self.streams}
        known = {name: [part.rate_per_s(at) for at in times_s.tolist()] for name, part in parts.items()}
        shares = [stream.share for stream in self.streams]
        return np.asarray(np.array([known[id(stream.part)] for stream in self.streams]).T * np.array(shares))


def _parts(crowd: object, patience: Impatience | None) -> Iterator[tuple[KnownCrowd, Impatience | None]]:
    if isinstance(crowd, Impatient):
        yield from _parts(crowd.crowd, crowd.impatience)
    elif isinstance(crowd, Merged):
        for part in crowd.crowds:
            yield from _parts(part, patience)
    else:
        yield crowd, patience  # type: ignore[misc]  # what is no wrapper is described by itself


def _plain(part: KnownCrowd) -> KnownCrowd:
    """The part without region and time, where that can be told."""
    if isinstance(part, OpenLoop | Sessions):
        return replace(part, region="", arrivals=Arrivals(1.0, part.arrivals.process))
    return part
