"""A modelled replica: an engine, how fast it is right now, and what it has used.

What its accelerators draw is told by a power curve; without one, nothing is known of energy, which is not zero.
"""

from __future__ import annotations

from functools import cache
from math import inf, log
from typing import Any

from underlay.physics.power import PREFILL_FULL_TOKENS, PowerCurve
from underlay.physics.step_time import StepCoefficients

from .engine import ModelledEngine, PagedRules, Request, ShareWeights, SlotRules
from .records import ITL_CLASSES, ITL_FIRST_S, ITL_WIDTH

#: How many classes to the natural logarithm of a time, and at what number of them the first one begins.
_CLASSES_PER_LOG = 1.0 / ITL_WIDTH
_FIRST_CLASS = log(ITL_FIRST_S) / ITL_WIDTH


@cache
def _watts_of(_curve: PowerCurve) -> dict[int, float]:
    """What is known of a curve by decoding sequences: filled as it is asked for, shared by all who draw like it."""
    return {}


@cache
def _adjusted(
    times: StepCoefficients, slowdown: float, slowness: float, capped: PowerCurve | None
) -> StepCoefficients:
    """Step times with slower clocks, a cap and a slowness; thousands of replicas share the few that occur."""
    if capped is not None:
        curve = capped  # what draws less than the cap is not slowed, so it depends on the step
        times = times.stretched(curve.slowdown_at, lambda tokens: curve.slowdown_at(1.0, tokens))
    elif slowdown != 1.0:
        times = times.throttled(slowdown)
    return times if slowness == 1.0 else times.slowed(slowness)


class Modelled:
    """One replica. ``state`` is down, ready or silent (it looks ready from outside, but nobody answers).

    ``busy_s`` and ``energy_joules`` are of all steps up to now, ``itl_counts`` how many tokens came how long after
    the one before (``records.itl_s``). ``wake_at`` is when its driver looks at it next, ``request_s``
    what its server does with each request before its first step.
    """

    __slots__ = (
        "_base",
        "_cap_w",
        "_curve",
        "_full_tokens",
        "_full_w",
        "_power",
        "_rules",
        "_slowdown",
        "_slowness",
        "_watts",
        "_weights",
        "attempts",
        "busy_s",
        "cache_tokens",
        "decode_tokens",
        "energy_joules",
        "engine",
        "fail_share",
        "generation",
        "itl_counts",
        "model",
        "name",
        "place",
        "preemptions",
        "request_s",
        "slots",
        "state",
        "wake_at",
    )

    def __init__(
        self,
        name: str,
        model: str,
        rules: PagedRules | SlotRules,
        times: StepCoefficients,
        power: PowerCurve | None = None,
        place: int = 0,
        request_s: float = 0.0,
        weights: ShareWeights | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.place = place
        self.request_s = request_s
        self._rules = rules
        self._weights = weights
        self._base = times
        self._curve = power
        self._cap_w = inf
        self._power_changed(power)
        self._slowdown = 1.0
        self._slowness = 1.0
        self.slots = rules.slots
        if isinstance(rules, PagedRules):
            self.cache_tokens = rules.blocks * rules.block_tokens if rules.prefix_caching else 0
        else:
            self.cache_tokens = rules.slots * rules.slot_tokens
        self.attempts: dict[Any, None] = {}  # of exchanges, whose business they are
        self.state = "down"
        self.generation = 0
        self.fail_share = 0.0
        self.busy_s = 0.0
        self.energy_joules = 0.0
        self.decode_tokens = 0
        self.preemptions = 0
        self.itl_counts = [0] * ITL_CLASSES
        self.wake_at = inf
        self.engine = ModelledEngine(rules, times, self._computed, weights)

    def begin(self) -> None:
        """Be ready from now on, with nothing in the caches."""
        self.generation += 1
        self.state = "ready"
        self.engine = ModelledEngine(self._rules, self._times(), self._computed, self._weights)
        self.wake_at = inf

    def end(self) -> None:
        """Be down; whoever starts it again says how fast its clocks run then."""
        self._slowdown = 1.0
        self._clocks_changed()
        self.preemptions += self.engine.preemptions
        self.engine.preemptions = 0
        self.state = "down"

    def fall_silent(self) -> None:
        """Answer nothing any more."""
        self.end()
        self.state = "silent"

    def produced(self, attempt: Request, at: float) -> int:
        """How many tokens an attempt here has produced by now."""
        return self.engine.produced(attempt, at) if self.state == "ready" else attempt.produced

    def drawn(self, at: float) -> tuple[float, float]:
        """How long it has computed by ``at`` and the joules of that, steps that run included."""
        if self.state != "ready":
            return self.busy_s, self.energy_joules
        took_s, joules = self._under_way(at)
        return self.busy_s + took_s, self.energy_joules + joules

    def break_off(self, at: float) -> list[Request]:
        """Nothing more is computed here: what was drawn for the steps that run stays drawn. Returns who ran."""
        took_s, joules = self._under_way(at)
        self.busy_s += took_s
        self.energy_joules += joules
        return self.engine.break_off(at, joules)

    def _under_way(self, at: float) -> tuple[float, float]:
        """Seconds and joules of the steps that run, by ``at``."""
        took_s, sequences, prefill_tokens = self.engine.under_way(at)
        return took_s, self._power.stretch_joules(1, took_s, sequences, prefill_tokens) if self._power else 0.0

    def set_clock(self, at: float, slowdown: float) -> bool:
        """Clocks run so many times slower than they could from the next step on; whether an engine was told."""
        if slowdown == self._slowdown:
            return False
        self._slowdown = slowdown
        self._change_clocks(at)
        return self._retime(at)

    def set_cap(self, at: float, cap_w: float) -> bool:
        """Its accelerators together draw no more than that from the next step on; infinity: no cap.

        Whether an engine was told. A cap is of the hardware, and stays when an engine is started again. Without a
        power curve nobody knows what a cap would slow, and there is none.
        """
        if cap_w == self._cap_w or self._curve is None:
            return False
        self._cap_w = cap_w
        self._change_clocks(at)
        return self._retime(at)

    def _change_clocks(self, at: float) -> None:
        """Draw otherwise from now on: the end of the steps that run will tell the new watts for all of them."""
        before_j = self._under_way(at)[1] if self.state == "ready" else 0.0
        self._clocks_changed()
        if before_j:
            owed_j = before_j - self._under_way(at)[1]
            self.energy_joules += owed_j
            if self.engine.shares is not None:
                self.engine.shares.owed_j += owed_j

    def _clocks_changed(self) -> None:
        if self._curve is not None:
            curve = self._curve if self._slowdown == 1.0 else self._curve.throttled(self._slowdown)
            self._power_changed(curve if self._cap_w == inf else curve.capped(self._cap_w))

    def set_slowness(self, at: float, factor: float) -> bool:
        """Take this many times as long for everything from the next step on; whether an engine was told."""
        self._slowness = factor
        return self._retime(at)

    def _power_changed(self, power: PowerCurve | None) -> None:
        """Draw by this curve from now on; few are drawn by without a throttle, and many with one."""
        self._power = power
        self._watts = _watts_of(power) if power is not None and power.slowdown == 1.0 else {}
        #: With so many prompt tokens in a step it draws that, whatever else is in it: as nearly every prompt has.
        self._full_tokens = PREFILL_FULL_TOKENS * power.accelerators if power is not None else 1
        self._full_w = power.power_w(1.0, self._full_tokens) if power is not None else 0.0

    def _retime(self, at: float) -> bool:
        if self.state != "ready":
            return False
        self.engine.retime(at, self._times())
        return True

    def _times(self) -> StepCoefficients:
        capped = self._power if self._cap_w != inf else None
        return _adjusted(self._base, self._slowdown, self._slowness, capped)

    def _computed(
        self, _begun_at: float, steps: int, first_s: float, growth_s: float, sequences: int, prefill_tokens: int
    ) -> float:
        """Take note of steps that are over, and say what they drew: see ``engine.Watcher``."""
        step_s = first_s + 0.5 * growth_s * (steps - 1)  # in the middle; the growth within a stretch is small
        took_s = steps * step_s
        self.busy_s += took_s
        if sequences:
            tokens = steps * sequences
            self.decode_tokens += tokens
            place = int(log(step_s) * _CLASSES_PER_LOG - _FIRST_CLASS)
            self.itl_counts[place if 0 <= place < ITL_CLASSES else (0 if place < 0 else -1)] += tokens
        joules = 0.0
        if prefill_tokens:
            if prefill_tokens >= self._full_tokens:
                joules = took_s * self._full_w
            elif self._power is not None:
                joules = self._power.stretch_joules(steps, took_s, sequences, prefill_tokens)
        elif sequences in self._watts:
            joules = took_s * self._watts[sequences]
        elif self._power is not None:
            watts = self._watts[sequences] = self._power.power_w(sequences)
            joules = took_s * watts
        self.energy_joules += joules
        return joules
