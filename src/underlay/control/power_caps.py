"""How much power may the accelerators of a model draw in a region, so that nobody notices?

Decided now and then, for each pool (a region's replicas of one model), from what was seen of it of late: the slow
end of its time to first token and of its time per token against their objectives (SLO), how many wait, what it
draws. A cap is a share of the rated power. It is tightened one step at a time, each after a calm while, and never
below a floor; it is given up at once and wholly when an objective is in danger. The cap that was too tight is not
tried again for a while. What is below its cap is not slowed, so a cap costs nothing until it saves.

Decoding waits for memory and hardly becomes slower with the clock, reading prompts does: so the time to first token
is usually what ends the tightening.

A plan is whole and immutable; it names the one that it was made from. Who carries it out refuses one that is older
than what was carried out already (``Executed``). With the planner dead everything goes on under the last caps, and
requests never wait for it.

It refuses to know meters, drivers, clocks and the equations of power: a pool that nobody meters has no cap, and
what a cap did is seen in the next look, not foretold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, inf
from typing import NamedTuple

from underlay.domain.errors import Conflict

#: The slow end: this share of the requests seen of late was quicker.
QUANTILE = 0.99
#: How long is of late, in seconds.
WINDOW_S = 300.0
#: Of an objective: from here on a cap is given up at once, and from there on not tightened.
DANGER_SHARE = 0.9
STRAIN_SHARE = 0.7
#: Fewer answers say too little of their slow end to tighten a cap by.
ANSWERS_MIN = 20
#: Fewer who wait are no queue: engines begin them with their next steps.
WAITING_MIN = 8
#: How long after a change a cap is tightened by the next step.
CALM_S = 60.0
#: How long the cap that was too tight is left alone.
REMEMBERED_S = 3_600.0
#: Of the rated power.
STEP_SHARE = 0.05
FLOOR_SHARE = 0.5
NO_CAP = 1.0
_ROUNDING = 1e-9


class Goals(NamedTuple):
    """What has to be kept, in seconds (none: no matter), and the least share of the rated power that is tried."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    floor_share: float = FLOOR_SHARE


class PoolSeen(NamedTuple):
    """A region's replicas of one model, as they were of late.

    ``rated_w`` and ``power_w`` are of one accelerator; None: nobody meters it, or nobody can set a cap.
    ``ttft_s`` and ``tpot_s`` are the slow end (``QUANTILE``) of ``answers`` that ended, None if there were none;
    ``waiting`` requests have not begun.
    """

    region: str
    model: str
    rated_w: float
    power_w: float | None
    ttft_s: float | None
    tpot_s: float | None
    answers: int
    waiting: int


class Cap(NamedTuple):
    """What a pool's accelerators may draw, as a share of their rated power; ``NO_CAP``: whatever they can.

    ``since_at`` is when it was last changed; ``broke_share`` was too tight, remembered until ``broke_until``.
    """

    region: str
    model: str
    share: float = NO_CAP
    since_at: float = -inf
    broke_share: float = 0.0
    broke_until: float = -inf

    def watts(self, rated_w: float) -> float:
        """For one accelerator; infinity: no cap."""
        return inf if self.share >= NO_CAP else self.share * rated_w


class Plan(NamedTuple):
    """All caps from now on, a reason for each, and which of them are others than in the parent."""

    parent: int
    generation: int
    steps: tuple[Cap, ...]
    reasons: tuple[str, ...]
    changed: tuple[bool, ...]


FIRST = Plan(0, 0, (), (), ())


def plan(last: Plan, seen: Sequence[PoolSeen], goals: Goals, at: float) -> Plan:
    """What follows from the last plan and what was seen since; a pool that is not seen has no part in it."""
    before = {(cap.region, cap.model): cap for cap in last.steps}
    steps: list[Cap] = []
    reasons: list[str] = []
    changed: list[bool] = []
    for pool in seen:
        cap = before.get((pool.region, pool.model)) or Cap(pool.region, pool.model)
        chosen, reason = _decide(cap, pool, goals, at)
        steps.append(chosen)
        changed.append(chosen.share != cap.share)
        reasons.append(f"{pool.model} in {pool.region}: {_words(chosen, pool)}: {reason}")
    return Plan(last.generation, last.generation + 1, tuple(steps), tuple(reasons), tuple(changed))


class Executed:
    """What an executor remembers: the generation that it carried out last."""

    __slots__ = ("generation",)

    def __init__(self) -> None:
        self.generation = 0

    def take(self, chosen: Plan) -> None:
        """Let a plan be carried out. Raises ``Conflict`` if it is no newer than the last one."""
        if chosen.generation <= self.generation:
            raise Conflict(
                f"Power caps of generation {chosen.generation} come too late: {self.generation} is carried out.",
                reason="outdated_plan",
            )
        self.generation = chosen.generation


def slow_end(values: Iterable[float]) -> float | None:
    """The value that ``QUANTILE`` of all are at or below (nearest rank); None of none."""
    ordered = sorted(values)
    return ordered[max(ceil(QUANTILE * len(ordered)) - 1, 0)] if ordered else None


def _decide(cap: Cap, pool: PoolSeen, goals: Goals, at: float) -> tuple[Cap, str]:
    """The next cap of a pool, and why."""
    if pool.power_w is None:
        return cap._replace(share=NO_CAP), "its power is not metered, or cannot be limited"
    strain, word = _strain(pool, goals)
    if strain >= DANGER_SHARE:
        return _released(cap, word, at)
    if strain >= STRAIN_SHARE:
        return cap, f"kept, {word}"
    if pool.answers < ANSWERS_MIN:
        return cap, f"kept, {pool.answers} answers say too little"
    if at - cap.since_at < CALM_S:
        return cap, f"kept for a while to see what it does, {word}"
    return _tightened(cap, goals, word, at)


def _released(cap: Cap, word: str, at: float) -> tuple[Cap, str]:
    if cap.share >= NO_CAP:
        return cap, f"nothing to give up, {word}"
    freed = cap._replace(share=NO_CAP, since_at=at, broke_share=cap.share, broke_until=at + REMEMBERED_S)
    return freed, f"given up at once from {cap.share:.0%}, {word}"


def _tightened(cap: Cap, goals: Goals, word: str, at: float) -> tuple[Cap, str]:
    least = goals.floor_share
    why = "as low as it may go"
    if at < cap.broke_until and cap.broke_share + STEP_SHARE > least:
        least, why = min(cap.broke_share + STEP_SHARE, NO_CAP), f"{cap.broke_share:.0%} was too tight before"
    share = max(round(cap.share - STEP_SHARE, 6), least)
    if share >= cap.share - _ROUNDING:
        return cap, f"kept, {why}; {word}"
    return cap._replace(share=share, since_at=at), f"tightened from {cap.share:.0%}, {word}"


def _strain(pool: PoolSeen, goals: Goals) -> tuple[float, str]:
    """The part of an objective that is used up, the most of all, and in words."""
    found: list[tuple[float, str]] = []
    if goals.ttft_s is not None:
        if pool.waiting >= WAITING_MIN:
            wait_s = pool.waiting * WINDOW_S / pool.answers if pool.answers else inf
            found.append((wait_s / goals.ttft_s, f"{pool.waiting} wait, some {wait_s:.1f} s"))
        if pool.ttft_s is not None:
            said = f"TTFT {pool.ttft_s:.2f} s of {goals.ttft_s:g} s"
            found.append((pool.ttft_s / goals.ttft_s, said))
    if goals.tpot_s is not None and pool.tpot_s is not None:
        said = f"time per token {pool.tpot_s * 1e3:.0f} ms of {goals.tpot_s * 1e3:.0f} ms"
        found.append((pool.tpot_s / goals.tpot_s, said))
    if not found:
        return 0.0, "nothing was answered"
    return max(found)[0], "; ".join(word for _, word in found)


def _words(cap: Cap, pool: PoolSeen) -> str:
    if cap.share >= NO_CAP:
        return "no cap"
    return f"{cap.share:.0%} of the rated power ({cap.share * pool.rated_w:,.0f} W)"
