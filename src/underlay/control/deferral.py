"""Where and when does work begin that can wait?

Decided here for a request whose answer is wanted by a time, not soon: from what electricity emits and costs in
each region hour by hour, from how much room each region was last seen to have, and from when it must begin at the
latest. It goes where and when the next kilowatt-hour is best, into room that nobody else wants; what finds none is
asked about again, and what can wait no longer goes at once. Work that cannot wait is never touched: this only says
when other work joins it.

Where many wait for the same hour, they begin before it as far as there is room: what all of them take is reckoned
from how quickly full regions took more lately. It refuses to know clocks, callers and where forecasts come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from underlay.domain.policy import DeferralGoal

HOUR_S = 3600.0
GRAMS_TONNE = 1e6
#: Beginning later must be better by this part to be worth it: forecasts of hours are off by more.
WORTH = 0.02
#: Where the best place is full, it is asked again after this.
AGAIN_S = 60.0
#: The answer may take so many times what it is expected to: a mean, and half of all take longer.
CAUTION = 2.0
#: Those who wait are counted by when they must begin, in slots of so long.
SLOT_S = 300.0


class Outlook(NamedTuple):
    """What electricity emits and costs in a region in each hour of a day that repeats; empty: nobody knows.

    ``carbon_g_kwh`` in grams of CO2e and ``usd_kwh`` in US dollars, per kWh. The first hour begins at time 0 of
    the clock that the desk is told: live, midnight UTC.
    """

    carbon_g_kwh: tuple[float, ...] = ()
    usd_kwh: tuple[float, ...] = ()

    def hours(self, goal: DeferralGoal, carbon_usd_per_tonne: float) -> tuple[float, ...]:
        """What is to be as low as can be, hour by hour; empty if it is not known, or nothing is wanted.

        ``both`` adds to the price of a kilowatt-hour what its carbon is worth.
        """
        if goal == "carbon":
            return self.carbon_g_kwh
        if goal == "price":
            return self.usd_kwh
        if goal != "both" or len(self.carbon_g_kwh) != len(self.usd_kwh):
            return ()
        usd_per_g = carbon_usd_per_tonne / GRAMS_TONNE
        pairs = zip(self.carbon_g_kwh, self.usd_kwh, strict=True)
        return tuple([usd + usd_per_g * grams for grams, usd in pairs])


class Place(NamedTuple):
    """A region with its ``Outlook.hours``; ``room`` is how many more may begin there now, in nobody's way.

    ``per_s`` is how many begin there each second while it is full (0: not known).
    """

    region: str
    hours: tuple[float, ...]
    room: int
    per_s: float = 0.0


class Plan(NamedTuple):
    """Where a request begins and when, and why in words."""

    region: str
    start_at: float
    why: str


def latest_start(wanted_at: float, expected_s: float, margin_s: float) -> float:
    """When a request must begin to be answered in time: times in seconds, ``expected_s`` what it usually takes."""
    return wanted_at - margin_s - CAUTION * expected_s


class Backlog:
    """How many wait, by when they must begin; and whether that is too many to go on waiting."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, latest_at: float) -> None:
        """One more waits."""
        slot = int(latest_at // SLOT_S)
        self._counts[slot] = self._counts.get(slot, 0) + 1

    def remove(self, latest_at: float) -> None:
        """One of those that were added waits no more. Errors: KeyError."""
        slot = int(latest_at // SLOT_S)
        self._counts[slot] -= 1
        if not self._counts[slot]:
            del self._counts[slot]

    def presses(self, at: float, per_s: float) -> bool:
        """Whether some would begin too late if none began now, and ``per_s`` (above 0) began later."""
        ahead = 0
        for slot in sorted(self._counts):
            ahead += self._counts[slot]
            if at + ahead / per_s > slot * SLOT_S:
                return True
        return False


def pressed(places: Sequence[Place], backlog: Backlog, at: float) -> tuple[str, ...]:
    """The regions whose room is taken now, whatever the hour, so that all who wait begin in time.

    The best one, if it alone would be too slow for them from now on; the next, if both would be; and so on.
    """
    found: list[str] = []
    per_s = 0.0
    for place in sorted([each for each in places if each.hours], key=lambda each: _at(each.hours, at)):
        per_s += place.per_s
        if per_s <= 0.0 or not backlog.presses(at, per_s):
            break
        found.append(place.region)
    return tuple(found)


def plan(
    places: Sequence[Place], goal: DeferralGoal, at: float, latest_at: float, hurried: Sequence[str] = ()
) -> Plan | None:
    """Where and when to begin; ``places`` are those that are up, the nearest first.

    ``hurried`` are the regions whose room is taken now whatever the hour, as too many wait (``pressed``).

    A plan for ``at`` is to be carried out; for a later one, ask again when that time comes, as what is seen
    changes. ``None``: nobody is up, or nobody knows what the goal is about, so there is nothing to wait for.
    """
    known = [place for place in places if place.hours]
    if not known:
        return None
    now = _best_now(known, at)
    if at >= latest_at:
        return _forced(known, now, goal, at)
    soon = _best_now([place for place in known if place.region in hurried], at) if hurried else None
    if soon is not None:
        return Plan(soon[1], at, f"deferrable: {_told(soon[0], goal)} now, as many wait for a better hour")
    value, start_at, region = min([_best_of(place, at, latest_at) for place in known], key=_earliest_of_the_least)
    if now is not None and now[0] <= value + WORTH * abs(value):
        return Plan(now[1], at, f"deferrable: {_told(now[0], goal)} now, and not much less until it must begin")
    if start_at <= at:
        return Plan(
            region, min(at + AGAIN_S, latest_at), f"deferrable: {_told(value, goal)}, but no room for it yet"
        )
    found = f"{_told(value, goal)} in {(start_at - at) / HOUR_S:.1f} h"
    beside = "" if now is None else f", {_told(now[0], goal)} now"
    return Plan(region, start_at, f"deferrable: {found}{beside}")


def _forced(places: Sequence[Place], now: tuple[float, str] | None, goal: DeferralGoal, at: float) -> Plan:
    """Its time is over: it goes where there is room, the best of those; else where there is least want of it."""
    if now is not None:
        return Plan(now[1], at, f"deferrable: it must begin now; {_told(now[0], goal)} where there is room")
    roomiest = max(places, key=lambda place: place.room)
    return Plan(roomiest.region, at, "deferrable: it must begin now, and there is room nowhere")


def _best_now(places: Sequence[Place], at: float) -> tuple[float, str] | None:
    """The best place that has room; of equal ones the nearest."""
    found: tuple[float, str] | None = None
    for place in places:
        if place.room > 0:
            value = _at(place.hours, at)
            if found is None or value < found[0]:
                found = (value, place.region)
    return found


def _best_of(place: Place, at: float, latest_at: float) -> tuple[float, float, str]:
    """The best hour of a place that begins in time, the earliest of equal ones: its value, and when it begins."""
    value, begins_at = _at(place.hours, at), at
    start_at = (at // HOUR_S + 1.0) * HOUR_S
    last_at = min(latest_at, at + len(place.hours) * HOUR_S)
    while start_at <= last_at:
        another = _at(place.hours, start_at)
        if another < value:
            value, begins_at = another, start_at
        start_at += HOUR_S
    return value, begins_at, place.region


def _earliest_of_the_least(found: tuple[float, float, str]) -> tuple[float, float]:
    return found[0], found[1]


def _at(hours: tuple[float, ...], at: float) -> float:
    return hours[int(at // HOUR_S) % len(hours)]


def _told(value: float, goal: DeferralGoal) -> str:
    if goal == "carbon":
        return f"{value:.0f} g/kWh"
    return f"{value:.3f} USD/kWh" + (" with its carbon" if goal == "both" else "")
