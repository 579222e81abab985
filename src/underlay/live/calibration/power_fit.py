"""What a step takes, from loads that were held and metered; and how well that is known.

The joules of a stretch are taken to be e0·steps + ep·PFLOP + ed·tokens + ek·GB (``ledger.step_energy``), fitted by
least relative squares, none below zero. How far it is off is told of loads that were held out, where there are any.
Each coefficient comes with its standard error (jackknife: the fit again without each turn of a load). Two loads are
enough for a first model; what fewer loads than coefficients cannot tell apart shares what there is, and has no
standard error, however often they are held.

Known as the meters are: ``calibrated`` by meters that measure, else no better than they say of themselves. Where a
model of processor time is the only meter, idle power is beyond it, and none is told.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

from underlay.domain.figures import weakest
from underlay.ledger.priors import fitted
from underlay.ledger.step_energy import Coefficients
from underlay.live.calibration.asking import CalibrationFailed
from underlay.live.calibration.metered import Source
from underlay.live.calibration.power import IDLE, Draw, Load
from underlay.physics.step_power import StepJoules, StepPower

_LOADS_MIN, _JACKKNIFE_FROM = 2, len(Coefficients._fields)


class Drawn(NamedTuple):
    """A load as it was metered, the median of its turns: watts, and what the model says of it."""

    load: Load
    power_w: float
    modelled_w: float | None
    turns: int


def power_of(draws: Sequence[Draw], source: Source) -> StepPower:
    """The power of a profile. Raises ``CalibrationFailed`` if too little was metered."""
    busy = [draw for draw in draws if draw.load != IDLE and draw.metered.value > 0.0]
    learnt = [draw for draw in busy if not draw.load.held_out]
    proof = [draw for draw in busy if draw.load.held_out]
    if len({draw.load for draw in learnt}) < _LOADS_MIN or not any(draw.load.sequences for draw in learnt):
        raise CalibrationFailed("the meters counted nothing for two loads; give it more seconds, or --no-power")
    method = weakest(("calibrated", *(draw.metered.method for draw in busy)))
    found = fitted([(draw.sums, draw.metered.value) for draw in learnt], method).model.coefficients
    off = [abs(found.joules(draw.sums) / draw.metered.value - 1.0) for draw in proof or learnt]
    batches = _decode_w(busy)
    idle_w, idle_off_w = (None, None) if source.above_idle else _idle(draws)
    meter_off = [draw.metered.uncertainty for draw in busy]
    return StepPower(
        method=method,
        meter=source.meter,
        boundary=source.boundary,
        joules=StepJoules(*(_rounded(value) for value in found)),
        error_mean=round(statistics.fmean(off), 4),
        against="loads that were metered and not fitted" if proof else "the loads it was fitted to",
        decode_sequences=tuple(batches),
        decode_w=tuple(round(watts, 3) for watts in batches.values()),
        prefill_w=round(max((d.power_w for d in busy if not d.load.sequences), default=max(batches.values())), 3),
        processor=source.processor,
        above_idle=source.above_idle,
        standard_error=_standard_error(learnt),
        meter_error=None
        if None in meter_off
        else round(statistics.median((d.metered.uncertainty or 0.0) / d.metered.value for d in busy), 4),
        idle_w=idle_w,
        idle_off_w=idle_off_w,
    )


def drawn(draws: Sequence[Draw], found: StepPower) -> list[Drawn]:
    """Each load beside what the model says of it; idle has no model."""
    by_load: dict[Load, list[Draw]] = defaultdict(list)
    for draw in draws:
        by_load[draw.load].append(draw)
    of = Coefficients(found.joules.step_j, found.joules.pflop_j, found.joules.token_j, found.joules.kv_gb_j)
    return [
        Drawn(
            load,
            statistics.median(draw.power_w for draw in group),
            None if load == IDLE else statistics.median(of.joules(d.sums) / d.seconds for d in group),
            len(group),
        )
        for load, group in by_load.items()
    ]


def _decode_w(busy: Sequence[Draw]) -> dict[int, float]:
    """Median watts by batch, behind the shortest contexts that it was metered with."""
    by_batch: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for draw in busy:
        if draw.load.sequences:
            by_batch[draw.load.sequences][draw.load.prompt_tokens].append(draw.power_w)
    return {batch: statistics.median(watts[min(watts)]) for batch, watts in sorted(by_batch.items())}


def _idle(draws: Sequence[Draw]) -> tuple[float | None, float | None]:
    """Idle watts, the mean of all times nothing was asked, and how far off; None where that was never metered."""
    idle = [draw for draw in draws if draw.load == IDLE]
    if not idle:
        return None, None
    watts = [draw.power_w for draw in idle]
    if any(draw.metered.uncertainty is None for draw in idle):
        return round(statistics.fmean(watts), 3), None
    reading_w = statistics.fmean((draw.metered.uncertainty or 0.0) / draw.seconds for draw in idle)
    return round(statistics.fmean(watts), 3), round(reading_w + statistics.pstdev(watts), 3)


def _standard_error(learnt: Sequence[Draw]) -> StepJoules | None:
    """By jackknife, of each coefficient."""
    if len({draw.load for draw in learnt}) < _JACKKNIFE_FROM:
        return None
    samples = [(draw.sums, draw.metered.value) for draw in learnt]
    found = [
        fitted(samples[:left_out] + samples[left_out + 1 :], "calibrated").model.coefficients
        for left_out in range(len(samples))
    ]
    # The jackknife's variance: (n - 1) times the mean square of the deviations.
    return StepJoules(
        *(_rounded(statistics.pstdev(values) * sqrt(len(found) - 1)) for values in zip(*found, strict=True))
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
