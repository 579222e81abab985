"""What does a replica of a pool do at any load? Levels measured at request level, and what lies between them.

Everything goes by how many requests are *inside* the pool for each replica, waiting ones included, as that is what
changes continuously: rates, latencies, power. Levels are measured from the lowest up, when a load asks for them.
Between two of them the rate follows the guess from step times, put right at both; a quantile of a latency lies
straight between theirs. The last level is that of a pool with more calls than it can serve; whoever is inside
beyond it waits in line, and the line is served at that level's rate.

Refused here: time, and what changes over it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from underlay.domain.keys import Limits
from underlay.domain.policy import DeskSettings
from underlay.twin.engine import PagedRules
from underlay.twin.world.mistake import ScenarioMistake

from .guess import Guess
from .station import Level, Pooled, Station

Floats = npt.NDArray[np.float64]

#: Measured pools are no larger: from 16 to 64 replicas tails fall by a third near saturation, from there on little.
POOL_MAX = 48
#: Where levels lie, as shares of the requests that a replica can have at a time.
_LADDER = (0.002, 0.01, 0.03, 0.06, 0.1, 0.16, 0.24, 0.34, 0.46, 0.6, 0.75)
#: How much more than it can serve (by the guess) a saturated pool is offered, and how much more at each other try.
_OVER, _OVER_MORE, _OVER_TRIES = 1.2, 1.15, 6
#: A pool that refuses or owes so much is saturated.
_SATURATED_SHARE = 0.03
#: How long a level settles and is measured, in mean times that a request is inside.
_SETTLE, _MEASURE = 2.5, 2.5
#: Tails of small pools come of rare meetings, and need longer: so long for all replicas together, and so many
#: requests at least; no more than so many.
_TOGETHER, _REQUESTS_MIN, _REQUESTS_MAX = 240.0, 2500, 20_000
#: Requests that may wait in a saturated station, as a share of those that run: enough that none ever lacks work.
#: How many really may is for the flow: its line is served at the rate of a saturated pool.
_LINE_SHARE = 0.005
#: Typical calls from which mean lengths are taken.
_TYPICAL, _TYPICAL_MIN = 16_384, 256
_POINTS = 512
#: So many levels are measured whatever the load.
_LEVELS_MIN = 2
#: Of answers shorter than this in the mean, ends say more than tokens.
_DECODED_MIN = 2.0
#: A replica that was busy all the time is taken to have been so by this part of it, which has a logarithm.
_BUSY_MOST = 1.0 - 1e-4


def measured_settings(settings: DeskSettings, measured: int, slots: int) -> DeskSettings:
    """A region's desk for a station: no limits of accounts, no slow starts, a line that just keeps it busy."""
    line = max(1, min(settings.waiting_max, round(_LINE_SHARE * measured * slots)))
    accounts = tuple(replace(account, limits=Limits(), budgets=()) for account in settings.accounts)
    return replace(settings, waiting_max=line, slow_start_s=0.0, accounts=accounts, default_limits=Limits())


class Surface:
    """A pool measured. ``requests`` is how many were simulated for it, ``tenants`` the names of those seen."""

    def __init__(self, pooled: Pooled, seed: int) -> None:
        self.pooled = pooled
        self._station = Station(pooled, seed)
        #: Of the calls, those that no engine here could hold.
        self.refused_share = 0.0
        calls = self._typical()
        #: Who is never called is never measured.
        self.idle = not calls
        self.outputs = [np.sort(np.array([tokens for _, tokens in lengths], dtype=np.int64)) for lengths in calls]
        lengths = [length for lengths in calls for length in lengths] or [(1, 2)]
        self.guess = Guess(lengths, pooled.rules, pooled.coefficients)
        self.put_right = 1.0
        self.version = 0
        self.levels: list[Level] = []
        self.saturated = False
        self._ladder = list(_LADDER)
        self._over = _OVER
        self.inside: Floats = np.array([0.0, 1.0])
        self.rate_per_s: Floats = np.array([0.0, 1.0])
        self.prompt_s: Floats = np.zeros(2)
        self.busy_share: Floats = np.zeros(2)
        self.power_w: Floats = np.zeros(2)
        while len(self.levels) < _LEVELS_MIN and not self.saturated and not self.idle:
            self.rise()

    @property
    def requests(self) -> int:
        """How many requests were simulated for it."""
        return self._station.ended

    @property
    def events(self) -> int:
        """How many events that took."""
        return self._station.kernel.events

    @property
    def tenants(self) -> list[str]:
        """Who was seen, by number."""
        return list(self._station.tenants)

    @property
    def slots(self) -> int:
        """How many requests the desk gives to a replica at a time."""
        return self.pooled.rules.slots

    @property
    def inside_max(self) -> float:
        """How many were inside for each replica at the last level."""
        return self.levels[-1].inside if self.levels else 0.0

    @property
    def rate_max_per_s(self) -> float:
        """What a replica serves at the last level."""
        return float(self.rate_per_s[-1])

    def rise(self) -> None:
        """Measure the next level."""
        most = self.guess.most
        last = not self._ladder
        if last:
            inside, offered_per_s = most, self._over * self.put_right * self.guess.rate_per_s(most)
            self._over *= _OVER_MORE
        else:
            inside = self._ladder.pop(0) * most
            offered_per_s = self.put_right * self.guess.rate_per_s(inside)
        level = self._measure(offered_per_s, inside)
        refused = level.refused_share - self.refused_share > _SATURATED_SHARE
        self.saturated = refused or (last and self._over > _OVER * _OVER_MORE**_OVER_TRIES)
        if not self.levels or level.inside > 1.01 * self.inside_max:
            self.levels.append(level)
        else:
            self.levels[-1] = level
        self._draw()

    def _measure(self, offered_per_s: float, inside: float) -> Level:
        stays_s = max(inside, 0.1) / offered_per_s
        replicas = self.pooled.replicas
        total_per_s = offered_per_s * replicas
        long_s = max(_TOGETHER / replicas * stays_s, _REQUESTS_MIN / total_per_s)
        measure_s = max(_MEASURE * stays_s, min(long_s, _REQUESTS_MAX / total_per_s))
        return self._station.step(offered_per_s, inside, _SETTLE * stays_s, measure_s)

    def _balanced_per_s(self, level: Level) -> float:
        """The calls that would have kept as many inside as there were.

        By tokens, as these follow at once, while ends come later if the pool still fills: so many were decoded in
        the time that prompts left, and of those another number would have come.
        """
        if self.guess.output_tokens < _DECODED_MIN:
            return level.ended_per_s  # next to nothing is decoded
        prompt_s = self.guess.prompt_s(level.inside)
        let_in_per_s = level.offered_per_s * (1.0 - level.refused_share)
        left = max(0.05, 1.0 - let_in_per_s * prompt_s)
        without_prompts = level.decoded_per_s / (self.guess.output_tokens - 1.0) / left
        return without_prompts / (1.0 + without_prompts * prompt_s)

    def _typical(self) -> list[list[tuple[int, int]]]:
        """Prompts and answers as they are let in, of each kind: enough to know their means within a per cent."""
        pooled, rules = self.pooled, self.pooled.rules
        context = rules.context_tokens if isinstance(rules, PagedRules) else rules.slot_tokens
        found = []
        for place, (kind, part, own) in enumerate(pooled.kinds):
            dice = self._station.kernel.stream(f"typical {place}")
            calls = kind.sample(max(_TYPICAL_MIN, round(_TYPICAL * part / own)), dice)
            asked = [call for call in calls if call.model in {"", pooled.model}]
            fits = [call for call in asked if call.prompt_tokens < context]
            self.refused_share += part * (1.0 - len(fits) / max(1, len(asked)))
            found.append(
                [(call.prompt_tokens, min(call.output_tokens, context - call.prompt_tokens)) for call in fits]
            )
        if pooled.kinds and not any(found):
            raise ScenarioMistake(("crowds",), f"no prompt for {pooled.model} fits its {context} tokens of context")
        return found

    def _draw(self) -> None:
        """The curves through all levels: the guess's shape, put right where it was measured."""
        known = np.array([level.inside for level in self.levels])
        rates = np.array([self._balanced_per_s(level) for level in self.levels])
        inside = np.concatenate(([0.0], np.geomspace(min(0.01, 0.1 * known[0]), known[-1], _POINTS - 1)))
        inside = np.unique(np.concatenate((inside, known)))
        guessed = np.array([self.guess.rate_per_s(max(each, 1e-9)) for each in inside])
        put_right = rates / np.array([self.guess.rate_per_s(each) for each in known])
        self.put_right = float(put_right[-1])
        self.version += 1
        # Few inside never wait for each other: the rate goes straight to nothing.
        rate = guessed * np.interp(inside, known, put_right)
        rate[0] = 0.0
        self.inside = inside
        self.rate_per_s = np.maximum.accumulate(rate)
        self.prompt_s = np.interp(inside, known, [self.guess.prompt_s(each) for each in known])
        self._draw_use(inside, known)

    def _draw_use(self, inside: Floats, known: Floats) -> None:
        """How busy replicas are, and what they draw.

        With few inside, calls that come by chance find a replica idle as often as e to the power of minus those
        inside, so that is what lies straight between levels; and what is drawn is by the time that is busy.
        """
        busy = np.array([min(level.busy_share, _BUSY_MOST) for level in self.levels])
        power_w = np.array([level.power_w for level in self.levels]) / np.maximum(busy, 1e-9)
        idle = np.interp(inside, np.concatenate(([0.0], known)), np.concatenate(([0.0], -np.log1p(-busy))))
        self.busy_share = -np.expm1(-idle)
        self.power_w = self.busy_share * np.interp(inside, known, power_w)
