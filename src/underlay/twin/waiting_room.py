"""Where calls wait that can: before all regions, until ``control.deferral`` says where and when they go.

Every region's room is looked at as often as the front door looks; who must begin soonest is asked about first, and
if that one waits, everybody behind does. Nobody is put off beyond the end of the run: a run that left work to the
next day would seem to save what it only owes.

It decides nothing, and knows no length of an answer: how long one takes is what the desks have learnt of others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from itertools import count
from typing import Any, NamedTuple, Protocol

from underlay.control import deferral
from underlay.control.deferral import Backlog, Outlook, Place
from underlay.control.regions import BUSY_SHARE, RegionSeen, Way
from underlay.domain.policy import DeferralGoal

from .crowd.call import Call
from .exchange import Stream
from .front_door import LOOK_S
from .kernel import Kernel
from .platform import Platform

#: How much of what was learnt of a full region stands beside what one more look tells.
_FADE = 0.95
#: Carries a call to a region, one way of so many seconds, or where it would have gone by itself.
Send = Callable[[float, Call, Stream, tuple[str, float] | None], None]
_Held = tuple[float, int, Call, Stream]


class Terms(NamedTuple):
    """For what calls are put off and what may be changed of them: their region, their time or both."""

    goal: DeferralGoal
    moves: str
    margin_s: float
    carbon_usd_per_tonne: float
    duration_s: float


class Doorway(Protocol):
    """What the front door knows."""

    def seen(self, model: str) -> Mapping[str, RegionSeen]:
        """Every region as it was seen last."""
        ...

    def ways(self, place: str) -> list[Way]:
        """The regions that can be reached from near one, the nearest first."""
        ...

    def way_s(self, place: str, region: str) -> float:
        """One way from near a region to a region, in seconds."""
        ...


class WaitingRoom:
    """All calls of a run that wait for a better hour or for room. ``open_to`` says who carries them on."""

    def __init__(
        self,
        kernel: Kernel,
        platforms: Mapping[str, Platform],
        door: Doorway,
        outlooks: Mapping[str, Outlook],
        terms: Terms,
    ) -> None:
        self._kernel = kernel
        self._platforms = platforms
        self._door = door
        self._terms = terms
        self._hours = {
            name: outlook.hours(terms.goal, terms.carbon_usd_per_tonne) for name, outlook in outlooks.items()
        }
        self._held: dict[tuple[str, str], list[_Held]] = {}  # by model, and by region where that is not to change
        self._room: dict[str, dict[str, int]] = {}  # by model and region, less what was sent since it was seen
        self._backlogs: dict[tuple[str, str], Backlog] = {}  # as ``_held``
        self._per_s: dict[tuple[str, str], float] = {}  # by model and region, where it was full
        self._count = count()
        self._send: Send = _nowhere

    def __len__(self) -> int:
        return sum(len(held) for held in self._held.values())

    def open_to(self, send: Send) -> None:
        """Look at who waits from now on."""
        self._send = send
        self._kernel.call(self._kernel.at + LOOK_S, self._look)

    def hold(self, at: float, call: Call, stream: Stream) -> None:
        """Take in a call that can wait; it may go at once."""
        assert call.within_s is not None
        wanted_at = min(call.at + call.within_s, self._terms.duration_s)
        latest_at = at
        if self._terms.moves != "region":
            latest_at = deferral.latest_start(wanted_at, self._expected_s(call.model), self._terms.margin_s)
        group = (call.model, call.region if self._terms.moves == "time" else "")
        heappush(self._held.setdefault(group, []), (latest_at, next(self._count), call, stream))
        self._backlogs.setdefault(group, Backlog()).add(latest_at)
        self._let_go(at, group)

    def waiting(self) -> list[tuple[Call, Stream]]:
        """Who waits, and where each came from."""
        return [(call, stream) for held in self._held.values() for _, _, call, stream in held]

    def _look(self, at: float, _: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for group in self._held:
            groups.setdefault(group[0], []).append(group)
        for model, waiting in groups.items():
            before = self._room.get(model, {})
            freed = dict(self._look_at(model))
            for group in waiting:
                self._let_go(at, group)
            self._learn(model, before, freed)
        self._kernel.call(at + LOOK_S, self._look)

    def _let_go(self, at: float, group: tuple[str, str]) -> None:
        """Send on who should begin now: those who must begin soonest first, as the others can wait the longer."""
        held, backlog = self._held[group], self._backlogs[group]
        hurried = deferral.pressed(self._places(held[0][2]), backlog, at) if held else ()
        while held:
            latest_at, _, call, stream = held[0]
            plan = deferral.plan(self._places(call), self._terms.goal, at, latest_at, hurried)
            if plan is not None and plan.start_at > at:
                return
            heappop(held)
            backlog.remove(latest_at)
            call.held_s = at - call.at
            found = None
            if plan is not None:
                self._room[call.model][plan.region] -= 1
                found = plan.region, self._door.way_s(call.region, plan.region)
            self._send(at, call, stream, found)

    def _look_at(self, model: str) -> dict[str, int]:
        """See how much room every region has."""
        room = self._room[model] = {name: _room(each) for name, each in self._door.seen(model).items()}
        return room

    def _learn(self, model: str, before: Mapping[str, int], freed: Mapping[str, int]) -> None:
        """A region that was full, and is again once what came free was taken, tells how quickly it goes there."""
        for region, places in freed.items():
            if before.get(region) == 0 and self._room[model][region] <= 0:
                now_per_s = places / LOOK_S
                known = self._per_s.get((model, region), now_per_s)
                self._per_s[model, region] = _FADE * known + (1.0 - _FADE) * now_per_s

    def _pace(self, model: str, region: str) -> float:
        """How many a second begin in a region that is full; before it ever was, as its slots should turn over."""
        known = self._per_s.get((model, region))
        if known is not None:
            return known
        slots = self._door.seen(model)[region].slots
        return BUSY_SHARE * slots / (deferral.CAUTION * max(1.0, self._expected_s(model)))

    def _places(self, call: Call) -> list[Place]:
        """Where a call may go, the nearest first."""
        model = call.model
        room, seen = self._room.get(model) or self._look_at(model), self._door.seen(model)
        return [
            Place(way.region, self._hours[way.region], room[way.region], self._pace(model, way.region))
            for way in self._door.ways(call.region)
            if seen[way.region].ready and (self._terms.moves != "time" or way.region == call.region)
        ]

    def _expected_s(self, model: str) -> float:
        """What a request of the model takes where it takes longest."""
        return max(platform.desk.of_model(model).service.mean_s for platform in self._platforms.values())


def _room(seen: RegionSeen) -> int:
    """How many more a region takes before it is busy: what waits there already comes first."""
    return 0 if seen.busy else int(BUSY_SHARE * seen.slots) - seen.load


def _nowhere(_at: float, call: Call, _stream: Stream, _found: tuple[str, float] | None) -> None:
    raise AssertionError(f"{call} was let go before anybody carried it on")
