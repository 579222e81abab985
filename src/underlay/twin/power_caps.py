"""The planner of power caps at work in the twin: looks at every pool, and has its replicas held to what is planned.

What it sees is what a live platform could: times of the answers that ended (at their callers), how many wait, what
meters count. What it does is what a driver's power limit does: each accelerator of a pool draws no more than its
cap. It decides nothing; that is ``control.power_caps``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from underlay.control import power_caps
from underlay.control.power_caps import Goals, Plan, PoolSeen
from underlay.physics.power import PowerCurve

from .exchange import Exchange
from .kernel import Kernel
from .modelled import Modelled
from .platform import Platform

#: How happenings begin that tell of a cap.
CAPPED = "power cap of "
#: After everything else at the same time, but before it is written down.
_LAST = 9


class Unit(NamedTuple):
    """One replica, and what it draws; None: nobody knows."""

    replica: Modelled
    curve: PowerCurve | None


class Pool:
    """A region's replicas of one model, and what was seen of them of late."""

    def __init__(self, platform: Platform, model: str, units: list[Unit]) -> None:
        self.platform = platform
        self.model = model
        self.units = units
        self.cap_w = inf  # of one accelerator
        self.power_w: float | None = None
        self._ended: deque[tuple[float, float, float | None]] = deque()
        self._drawn_at = 0.0
        self._drawn_j = self._busy_s = 0.0
        curves = [unit.curve for unit in units if unit.curve is not None]
        self._metered = len(curves) == len(units)
        self.rated_w = min((curve.limit_w / curve.accelerators for curve in curves), default=0.0)

    def answered(self, at: float, ttft_s: float, tpot_s: float | None) -> None:
        """An answer reached its caller; an answer of one token has no time per token."""
        self._ended.append((at, ttft_s, tpot_s))

    def seen(self, at: float) -> PoolSeen:
        """What there is to see now, of the last ``WINDOW_S`` seconds; what it draws, since the last look."""
        ended = self._ended
        while ended and ended[0][0] < at - power_caps.WINDOW_S:
            ended.popleft()
        self._meter(at)
        engines = sum(unit.replica.engine.waiting_count for unit in self.units if unit.replica.state == "ready")
        return PoolSeen(
            self.platform.name,
            self.model,
            self.rated_w,
            self.power_w,
            power_caps.slow_end(ttft_s for _, ttft_s, _ in ended),
            power_caps.slow_end(tpot_s for _, _, tpot_s in ended if tpot_s is not None),
            len(ended),
            engines + self.platform.desk.desks[self.model].waiting(),
        )

    def _meter(self, at: float) -> None:
        """What one accelerator of those that are up drew on average since the last look."""
        if not self._metered:
            return
        drawn = [unit.replica.drawn(at) for unit in self.units]
        busy_s, drawn_j = sum(part[0] for part in drawn), sum(part[1] for part in drawn)
        took_s = at - self._drawn_at
        curves = [unit.curve for unit in self.units if unit.curve is not None]
        accelerators = sum(curve.accelerators for curve in curves)
        idle_w = sum(curve.idle_w for curve in curves) / len(curves)
        if took_s > 0.0:
            idle_j = idle_w * max(0.0, took_s * len(curves) - (busy_s - self._busy_s))
            self.power_w = max(0.0, drawn_j - self._drawn_j + idle_j) / (took_s * accelerators)
        self._drawn_at, self._busy_s, self._drawn_j = at, busy_s, drawn_j

    def hold_to(self, at: float, cap_w: float) -> None:
        """Each accelerator draws no more than that from now on."""
        self.cap_w = cap_w
        for replica, curve in self.units:
            if curve is not None:
                self.platform.cap(at, replica.name, cap_w * curve.accelerators)


class PowerCaps:
    """All pools of a run. ``happenings`` are the plans that changed something, with their reasons (time, text)."""

    def __init__(self, kernel: Kernel, pools: list[Pool], goals: Goals, every_s: float) -> None:
        self.kernel = kernel
        self.happenings: list[tuple[float, str]] = []
        self.plan: Plan = power_caps.FIRST
        self._pools: Mapping[tuple[str, str], Pool] = {(pool.platform.name, pool.model): pool for pool in pools}
        self._goals = goals
        self._every_s = every_s
        self._executed = power_caps.Executed()

    def begin(self) -> None:
        """Plan from now on."""
        self.kernel.call(self.kernel.at + self._every_s, self._tick, None, _LAST)

    def _tick(self, at: float, _: None) -> float:
        seen = [pool.seen(at) for pool in self._pools.values()]
        self.plan = power_caps.plan(self.plan, seen, self._goals, at)
        self.execute(at, self.plan)
        return at + self._every_s

    def execute(self, at: float, plan: Plan) -> None:
        """Carry out a plan. Raises ``Conflict`` if a newer one was."""
        self._executed.take(plan)
        for cap, reason, changed in zip(plan.steps, plan.reasons, plan.changed, strict=True):
            if changed:
                pool = self._pools[cap.region, cap.model]
                pool.hold_to(at, cap.watts(pool.rated_w))
                self.happenings.append((at, f"{CAPPED}{reason} (plan {plan.generation})"))

    def ended(self, at: float, platform: Platform, exchange: Exchange) -> None:
        """An exchange came to its end; work that can wait has no times that matter."""
        call, first_at = exchange.call, exchange.first_at
        if first_at is None or call.within_s is not None:
            return
        tokens = exchange.delivered
        tpot_s = (at - first_at) / (tokens - 1) if tokens > 1 else None
        self._pools[platform.name, call.model].answered(at, first_at + exchange.way_s - call.at, tpot_s)

    def sample(self) -> dict[str, float]:
        """What each pool's accelerators may draw and drew, in watts for one; without a cap, what they are rated."""
        found: dict[str, float] = {}
        for (region, model), pool in self._pools.items():
            if pool.power_w is not None:
                found[f"{region}.{model}.cap_w"] = min(pool.cap_w, pool.rated_w)
                found[f"{region}.{model}.accelerator_w"] = pool.power_w
        return found
