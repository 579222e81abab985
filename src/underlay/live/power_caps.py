"""Power caps on this machine's accelerators: looks, plans and sets limits, beside the requests.

Every few seconds what was answered of late, who waits and what the meters counted goes to ``control.power_caps``,
and its plan to the driver of the devices. Which model runs on which device is not known, so all devices are one
pool: answers of every model count, those of engines elsewhere too, which can only make it more careful. Where a
limit cannot be set any more, everything is given back and left alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from underlay.control import power_caps
from underlay.control.power_caps import Goals, Plan, PoolSeen
from underlay.domain.views import Journey
from underlay.live.meters import power_limits
from underlay.live.meters.power_limits import PowerLimits
from underlay.live.meters.track import Window
from underlay.live.settings import PowerCapSettings

log = structlog.get_logger("underlay.power")

#: What the pool is called in reasons: nobody knows which model runs where.
POOL = "all models"
#: Readings come a little late; what was drawn is asked of a while that is surely metered.
_LATE_S = 2.0
#: A meter that has said nothing for so long is not waited for.
_SILENT_S = 30.0


class Seen(NamedTuple):
    """What is looked at: the site's name, what meters counted, how many wait, a monotonic clock."""

    site: str
    windows: Callable[[float, float], Sequence[Window]]
    waiting: Callable[[], int]
    clock: Callable[[], float]


class PowerCaps(Collector):
    """The caps of a running platform; ``plan`` is the last one. Told of every journey that is over."""

    def __init__(self, limits: PowerLimits, settings: PowerCapSettings, seen: Seen) -> None:
        self._limits = limits
        self._every_s = settings.every_s
        self._site, self._windows, self._waiting, self._clock = seen
        floor = max(settings.floor_share, limits.least_w / limits.rated_w)
        self._goals = Goals(settings.slo_ttft_s, settings.slo_tpot_ms / 1e3, min(floor, power_caps.NO_CAP))
        self._answers: deque[tuple[float, float, float | None]] = deque()
        self._executed = power_caps.Executed()
        self._looked_s = self._clock()
        self._power_w: float | None = None
        self.plan: Plan = power_caps.FIRST

    def over(self, journey: Journey) -> None:
        """A request is over: its times count, if it was answered."""
        if journey.ttft_ms is None:
            return
        tokens = journey.usage.completion_tokens
        tpot_s = (journey.duration_ms - journey.ttft_ms) / 1e3 / (tokens - 1) if tokens > 1 else None
        self._answers.append((self._clock(), journey.ttft_ms / 1e3, tpot_s))

    async def run(self) -> None:
        """Plan from now on, until it is cancelled or no limit can be set; then everything is given back."""
        try:
            while True:
                await asyncio.sleep(self._every_s)
                plan = self.planned()
                await asyncio.to_thread(self.execute, plan)
        except Exception:  # watts are not worth an answer
            log.exception("power caps end", effect="what was set is given back")
        finally:
            self.plan = power_caps.FIRST
            await asyncio.to_thread(self._limits.close)

    def planned(self) -> Plan:
        """The next plan, by what was seen since the last."""
        now_s = self._clock()
        self.plan = power_caps.plan(self.plan, [self._seen(now_s)], self._goals, now_s)
        return self.plan

    def execute(self, plan: Plan) -> None:
        """Carry out a plan; called from another thread, as drivers may be slow.

        Raises ``Conflict`` if a newer one was, and what ``PowerLimits.hold_to`` does.
        """
        self._executed.take(plan)
        for cap, reason, changed in zip(plan.steps, plan.reasons, plan.changed, strict=True):
            if changed:
                self._limits.hold_to(cap.watts(self._limits.rated_w))
                log.info("power cap", generation=plan.generation, share=cap.share, why=reason)

    def collect(self) -> Iterator[Metric]:
        """Tell what each accelerator may draw, and drew."""
        cap_w = min((cap.watts(self._limits.rated_w) for cap in self.plan.steps), default=self._limits.rated_w)
        cap_w = min(cap_w, self._limits.rated_w)
        yield GaugeMetricFamily("underlay_power_cap_watts", "What each accelerator may draw", value=cap_w)
        if self._power_w is not None:
            drawn = "What each accelerator drew of late, on average"
            yield GaugeMetricFamily("underlay_accelerator_power_watts", drawn, value=self._power_w)

    def _seen(self, now_s: float) -> PoolSeen:
        answers = self._answers
        while answers and answers[0][0] < now_s - power_caps.WINDOW_S:
            answers.popleft()
        self._meter(now_s)
        return PoolSeen(
            self._site,
            POOL,
            self._limits.rated_w,
            self._power_w,
            power_caps.slow_end(ttft_s for _, ttft_s, _ in answers),
            power_caps.slow_end(tpot_s for _, _, tpot_s in answers if tpot_s is not None),
            len(answers),
            self._waiting(),
        )

    def _meter(self, now_s: float) -> None:
        """What one accelerator drew since the last look; not known where one of them cannot be read."""
        end_s = now_s - _LATE_S
        if end_s <= self._looked_s:
            return
        windows = [window for window in self._windows(self._looked_s, end_s) if window.meter.family == "nvml"]
        late = any(window.why == "pending" for window in windows)
        if late and end_s - self._looked_s < _SILENT_S:
            return  # it is known at the next look
        known = [window.consumed.joules for window in windows if window.consumed is not None]
        whole = len(known) == len(windows) == self._limits.count
        self._power_w = sum(known) / ((end_s - self._looked_s) * len(known)) if whole else None
        self._looked_s = end_s


async def begin(data_dir: Path, settings: PowerCapSettings, seen: Seen) -> PowerCaps | None:
    """The caps, if they are wanted and can be set; otherwise it is said why not.

    What a run left that was killed is given back first, wanted or not.
    """
    if settings.mode == "off" and not power_limits.was_cut_off(data_dir):
        return None
    found = await asyncio.to_thread(power_limits.offer, data_dir)
    if found.limits is None:
        log.warning("no power caps", why=found.why, fix=found.fix)
        return None
    if settings.mode == "off":
        await asyncio.to_thread(found.limits.close)
        log.info("limits of power are given back", why="an earlier run was cut off")
        return None
    return PowerCaps(found.limits, settings, seen)
