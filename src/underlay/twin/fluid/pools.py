"""What becomes of calls in a region's pool of one model, as a flow?

A pool is all ready replicas of a model in a region. Its desk spreads load evenly, so each has as many requests
inside, and all of them come on by as many tokens a second. So one clock counts tokens, and of those who came in
while it went from one count to another there is left whose answers are longer:

    inside = sum over ticks of came · mean of S(clock - count when they came)

with S(n) the part of answers that are longer than n tokens. How quickly the clock goes follows from the pool's
``Surface``: so that under a steady load as many are inside as were measured. When more come than end, their prompts
take more of the time than was measured, and the clock goes slower by that. Taking ends to follow at once from how
many are inside was tried in place of the clock: it fills a pool near what it can serve in minutes instead of half a
minute, as newcomers do not end at once.

Beyond what a saturated pool has inside, calls stand in line; what the line does not hold is refused. Replicas that
are slower (another clock, a sick machine) slow the clock in the mean.

Refused here: who calls, where replicas are, why they come and go.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

import numpy as np

from underlay.domain.policy import DeskSettings

from .surface import Floats, Surface

#: How slower clocks stretch a request is reckoned at so many points of a curve.
_STRETCHED = 24
_COHORTS = 256
#: Prompts never take more of the time than leaves this part of it for tokens.
_LEFT_MIN = 0.1


class Pace(NamedTuple):
    """How slow some replicas are: by their clocks (``slowdown``), and in everything (``slowness``)."""

    slowdown: float
    slowness: float


class _Curve(NamedTuple):
    """What a replica does, by how many are inside."""

    inside: list[float]
    tokens_per_s: list[float]
    slowness: list[float]  # the same with a minus, so that it rises
    prompt_s: list[float]
    busy_share: list[float]
    power_w: list[float]
    version: int


class Pool:
    """One model in one region. ``paces`` says how many ready replicas are how slow.

    ``running`` and ``line`` are of the whole pool; ``busy_s`` and ``joules`` are what one replica with full clocks
    has used. Of the last tick: ``ended_per_s`` from each replica, and ``felt``, how many inside would under a
    steady load have let the clock go as it went.
    """

    def __init__(self, region: int, model: int, surface: Surface, settings: DeskSettings) -> None:
        self.region = region
        self.model = model
        self.surface = surface
        self.settings = settings
        self.paces: dict[Pace, int] = {}
        self.ready = 0
        self.running = 0.0
        self.line = 0.0
        self.ended_per_s = 0.0
        self.felt = 0.0
        self.busy_s = 0.0
        self.joules = 0.0
        self.busy_share = 0.0
        self._clock = 0.0
        self._cohorts = _Cohorts(surface)
        self._curve: _Curve | None = None

    @property
    def inside(self) -> float:
        """Everybody who is served or stands in line."""
        return self.running + self.line

    def count(self, pace: Pace, change: int) -> None:
        """So many replicas of a pace more are ready (or fewer)."""
        self.ready += change
        left = self.paces.get(pace, 0) + change
        if left:
            self.paces[pace] = left
        else:
            del self.paces[pace]
        self._curve = None

    def lose_all(self) -> float:
        """Everybody inside is lost; how many that were."""
        lost = self.inside
        self.running = self.line = 0.0
        self._cohorts.clear()
        return lost

    def step(self, arrived: float, tick_s: float) -> float:
        """Let so many arrive in a tick; how many of them are refused."""
        ready, before = self.ready, self.inside
        if not ready:
            self.ended_per_s = self.busy_share = 0.0
            return arrived
        self._send_back(ready)
        begun = self.running / ready
        tokens = tick_s * self._tokens_per_s(begun, arrived / tick_s / ready)
        began, self._clock = self._clock, self._clock + tokens
        left, stay_share = self._cohorts.left(self._clock), self._cohorts.stay_share(tokens)
        enters = self.line + arrived
        if self.surface.saturated:
            enters = min(enters, max(0.0, self.surface.inside_max * ready - left) / stay_share)
        self._cohorts.add(enters, began, self._clock)
        self.running = left + enters * stay_share
        self.line += arrived - enters
        refused = max(0.0, self.line - self.line_max() * ready)
        self.line -= refused
        while self.running > self.surface.inside_max * ready and not self.surface.saturated:
            self.surface.rise()
        self._use(0.5 * (begun + self.running / ready), tick_s)
        self.ended_per_s = max(0.0, before + arrived - refused - self.inside) / tick_s / ready
        return refused

    def _send_back(self, ready: int) -> None:
        """With fewer replicas than before, who finds no room in them stands in line again, first of all."""
        if not self.surface.saturated:
            return
        most = self.surface.inside_max * ready
        if self.running > most:
            self._cohorts.shrink(most / self.running)
            self.line += self.running - most
            self.running = most

    def _use(self, inside: float, tick_s: float) -> None:
        curve = self._known()
        place, share = _place(curve.inside, inside)
        self.busy_share = _between(curve.busy_share, place, share)
        self.busy_s += tick_s * self.busy_share
        self.joules += tick_s * _between(curve.power_w, place, share)

    def _tokens_per_s(self, inside: float, come_per_s: float) -> float:
        """How quickly the clock goes with so many inside, while so many come."""
        curve = self._known()
        place, share = _place(curve.inside, inside)
        steady = _between(curve.tokens_per_s, place, share)
        steady_per_s = steady * inside / self.surface.guess.output_tokens
        prompt_s = _between(curve.prompt_s, place, share)
        come_per_s = min(come_per_s, max(self.surface.rate_max_per_s, steady_per_s))
        left = max(_LEFT_MIN, 1.0 - come_per_s * prompt_s) / max(_LEFT_MIN, 1.0 - steady_per_s * prompt_s)
        tokens = steady * min(left, 1.0 / _LEFT_MIN)
        self.felt = self._slowed_by(tokens, curve)
        return tokens

    def _slowed_by(self, tokens_per_s: float, curve: _Curve) -> float:
        """How many inside make the clock go so slowly under a steady load."""
        place = bisect_left(curve.slowness, -tokens_per_s)
        if place in {0, len(curve.slowness)}:
            return curve.inside[min(place, len(curve.inside) - 1)]
        low, high = curve.slowness[place - 1], curve.slowness[place]
        share = (-tokens_per_s - low) / (high - low)
        return curve.inside[place - 1] + share * (curve.inside[place] - curve.inside[place - 1])

    def line_max(self) -> float:
        """How many may stand in line for each ready replica: by the line's length, and by what waits in vain."""
        settings, surface = self.settings, self.surface
        patience_s = settings.wait_max_s if settings.slo_ttft_s is None else settings.slo_ttft_s
        stood = surface.pooled.settings.waiting_max / surface.pooled.replicas
        return max(0.0, min(settings.waiting_max / self.ready - stood, surface.rate_max_per_s * patience_s))

    def stretch(self, inside: Floats, pace: Pace) -> Floats:
        """How many times longer a request of a slower replica is there."""
        if pace.slowdown == 1.0:
            return np.full(len(inside), pace.slowness)
        known = np.linspace(0.0, max(float(inside.max()), 1e-9), _STRETCHED)
        guess = self.surface.guess
        return pace.slowness * np.interp(inside, known, [guess.stretch(max(x, 1e-9), pace.slowdown) for x in known])

    def _known(self) -> _Curve:
        if self._curve is None or self._curve.version != self.surface.version:
            surface = self.surface
            rate = np.zeros(len(surface.inside))
            for pace, count in self.paces.items():
                rate += count / self.ready * surface.rate_per_s / self.stretch(surface.inside, pace)
            tokens = rate[1:] * surface.guess.output_tokens / surface.inside[1:]
            tokens = np.minimum.accumulate(np.concatenate((tokens[:1], tokens)))
            columns = (surface.inside, tokens, -tokens, surface.prompt_s, surface.busy_share, surface.power_w)
            self._curve = _Curve._make([*(column.tolist() for column in columns), surface.version])
        return self._curve


class _Cohorts:
    """Who came in during which counts of the clock, and who of them is left."""

    __slots__ = ("_begins", "_came", "_ends", "_first", "_last", "_longer", "_most", "_tokens")

    def __init__(self, surface: Surface) -> None:
        parts = [part for _, part, _ in surface.pooled.kinds] or [1.0]
        self._tokens, self._longer = _longer(surface.outputs or [np.ones(1, dtype=np.int64)], parts)
        self._most = float(self._tokens[-1])
        self._came, self._begins, self._ends = (np.zeros(_COHORTS) for _ in range(3))
        self._first = self._last = 0

    def clear(self) -> None:
        """Nobody is left."""
        self._first = self._last

    def shrink(self, share: float) -> None:
        """Only that share of everybody is left."""
        self._came[self._first : self._last] *= share

    def add(self, came: float, begin: float, end: float) -> None:
        """So many came while the clock went from one count to the other."""
        if self._last == len(self._came):
            self._make_room()
        self._came[self._last], self._begins[self._last], self._ends[self._last] = came, begin, end
        self._last += 1

    def left(self, clock: float) -> float:
        """How many are left at this count."""
        first, last = self._first, self._last
        while first < last and clock - self._ends[first] >= self._most:
            first += 1
        self._first = first
        if first == last:
            return 0.0
        begins, ends = self._begins[first:last], self._ends[first:last]
        summed = np.interp(clock - begins, self._tokens, self._longer)
        summed -= np.interp(clock - ends, self._tokens, self._longer)
        return float((self._came[first:last] * summed / np.maximum(ends - begins, 1e-12)).sum())

    def stay_share(self, tokens: float) -> float:
        """Of those who come evenly while the clock goes on by so many tokens: which part is left then."""
        return max(1e-9, float(np.interp(tokens, self._tokens, self._longer)) / tokens) if tokens > 0.0 else 1.0

    def _make_room(self) -> None:
        """Forget who is gone; if there are still too many, keep more."""
        here = slice(self._first, self._last)
        count = self._last - self._first
        size = max(_COHORTS, 2 * count)
        kept = []
        for column in (self._came, self._begins, self._ends):
            larger = np.zeros(size)
            larger[:count] = column[here]
            kept.append(larger)
        self._came, self._begins, self._ends = kept
        self._first, self._last = 0, count


def _longer(outputs: list[np.ndarray], parts: list[float]) -> tuple[Floats, Floats]:
    """The sum of S from 0 up to each length: what every kind adds by its part of the calls."""
    known = np.unique(np.concatenate([[0.0], *(np.quantile(each, _SHARES) for each in outputs if len(each))]))
    longer = np.zeros(len(known))
    for each, part in zip(outputs, parts, strict=True):
        if len(each):
            sums = np.concatenate(([0.0], np.cumsum(each)))
            shorter = np.searchsorted(each, known, side="right")
            longer += part * (sums[shorter] + known * (len(each) - shorter)) / len(each)
    return known, longer / sum(part for each, part in zip(outputs, parts, strict=True) if len(each))


_SHARES = np.concatenate((np.linspace(0.0, 0.98, 99), np.linspace(0.982, 1.0, 19)))


def _place(inside: list[float], value: float) -> tuple[int, float]:
    """Between which two points a value lies, and how far on the way; at an end if it is beyond."""
    place = min(bisect_right(inside, value), len(inside) - 1) - 1
    share = (value - inside[place]) / (inside[place + 1] - inside[place])
    return place, min(1.0, share)


def _between(values: list[float], place: int, share: float) -> float:
    return values[place] + share * (values[place + 1] - values[place])
