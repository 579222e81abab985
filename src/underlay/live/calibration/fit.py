"""A step profile from timed steps, and how far it is off.

The engine tells no time of its parts, only of whole steps; so what is fitted is what can be told apart outside:

* what a token of context costs a decoding sequence, from steps of equal batches behind unequal contexts;
* what a prompt's token and pair of tokens cost, from prompts alone; the rest of each is a table by tokens;
* what decoding adds to a step with a prompt in it (fixed and per sequence), from mixed steps;
* the rest of a step that only decodes, as a table by sequences.

What the host does in each step is within those; ``host_ms`` is 0. Every step counts by its relative error.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from msgspec import structs

from underlay.live.calibration.asking import CalibrationFailed
from underlay.live.calibration.measuring import Measured
from underlay.live.calibration.power_fit import Drawn, drawn, power_of
from underlay.live.calibration.sweep import Sample
from underlay.physics.fitting import MixedAttention, PrefillStep, fit_mixed_slowdown, fit_prefill
from underlay.physics.profiles import EngineRules, FitError, Line, Validity
from underlay.physics.step_time import Curve, StepCoefficients, attention_pairs

_Key = TypeVar("_Key")
#: A table must hold numbers above 0; where the rest of a step is less than that part of it, it is taken as that.
_LEAST = 0.02


class Machine(NamedTuple):
    """What a profile is of: names for people, none of a host; and what the engine was started with, if known."""

    accelerator: str
    model: str
    precision: str
    engine: str
    source: str
    rules: EngineRules | None = None


class Off(NamedTuple):
    """Relative errors without sign of so many points: what half and 95 % of them stay below, and their mean."""

    points: int
    median: float
    p95: float
    mean: float


class Calibration(NamedTuple):
    """A profile and how well it is known.

    ``fitted`` and ``held_out`` are the errors by kind of step (decode, prefill, mixed); ``noise`` is how far a
    measurement lies from the median of those of the same point, for half of them; ``overhead_s`` what a request
    takes beside its steps. ``drawn`` are the loads that were metered; where there are none, ``unmetered`` says why.
    """

    line: Line
    points: tuple[Sample, ...]
    fitted: dict[str, Off]
    held_out: dict[str, Off]
    noise: float
    overhead_s: float
    drawn: tuple[Drawn, ...] = ()
    unmetered: str = ""


def with_power(found: Calibration, measured: Measured) -> Calibration:
    """The same with what steps draw, if that was metered; else with the reason why it was not."""
    if measured.source is None:
        return found._replace(unmetered=measured.why)
    try:
        power = power_of(measured.draws, measured.source)
    except CalibrationFailed as failure:
        return found._replace(unmetered=str(failure))
    line = structs.replace(found.line, power=power)
    return found._replace(line=line, drawn=tuple(drawn(measured.draws, power)))


def calibrate(samples: Sequence[Sample], machine: Machine, overheads_s: Sequence[float] = ()) -> Calibration:
    """Fit the formula of ``physics.step_time`` to timed steps. Raises ``CalibrationFailed`` if they are too few."""
    points = _points(samples)
    fitted = [point for point in points if not point.held_out]
    overhead_s = max(0.0, statistics.median(overheads_s)) if overheads_s else 0.0
    line = _line(fitted, points, machine)
    cost = line.coefficients()
    off = {held: _off(cost, [p for p in points if p.held_out == held]) for held in (False, True)}
    proof = off[True] if {"decode", "prefill"} <= off[True].keys() else off[False]
    against = "steps of the same engine that were timed and not fitted"
    decode, prefill = proof["decode"], proof["prefill"]
    error = FitError(
        *(decode.mean, decode.p95, prefill.mean, prefill.p95),
        against if proof is off[True] else "the steps it was fitted to",
    )
    return Calibration(
        structs.replace(line, fit_error=error, rules=machine.rules, request_ms=round(overhead_s * 1e3, 4)),
        tuple(points),
        off[False],
        off[True],
        _noise(samples),
        overhead_s,
    )


def kind(sample: Sample) -> str:
    """Which kind of step it is."""
    if sample.prompt_tokens == 0:
        return "decode"
    return "mixed" if sample.sequences else "prefill"


def predicted_s(cost: StepCoefficients, sample: Sample) -> float:
    """What the formula says of such a step."""
    pairs = attention_pairs(sample.prompt_tokens, sample.cached_tokens)
    return cost.step_s(sample.prompt_tokens, sample.sequences, round(sample.kv_tokens), pairs)


def _points(samples: Sequence[Sample]) -> list[Sample]:
    """One sample for each point: the median of all that were meant to be the same."""
    groups = _grouped(samples, lambda s: (s.held_out, *s.point))
    return [
        group[0]._replace(
            kv_tokens=statistics.median(s.kv_tokens for s in group),
            prompt_tokens=round(statistics.median(s.prompt_tokens for s in group)),
            step_s=statistics.median(s.step_s for s in group),
        )
        for group in groups.values()
    ]


def _grouped(samples: Iterable[Sample], key: Callable[[Sample], _Key]) -> dict[_Key, list[Sample]]:
    groups: dict[_Key, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[key(sample)].append(sample)
    return groups


def _noise(samples: Sequence[Sample]) -> float:
    """How far from their median the measurements of one point lie, for half of them."""
    spreads: list[float] = []
    for group in _grouped(samples, lambda s: (s.held_out, *s.point)).values():
        middle = statistics.median(s.step_s for s in group)
        if len(group) > 1:
            spreads += [abs(s.step_s / middle - 1.0) for s in group]
    return statistics.median(spreads) if spreads else float("nan")


def _off(cost: StepCoefficients, points: Sequence[Sample]) -> dict[str, Off]:
    found = {}
    for name, group in sorted(_grouped(points, kind).items()):
        errors = sorted(abs(predicted_s(cost, point) / point.step_s - 1.0) for point in group)
        p95 = errors[min(len(errors) - 1, int(0.95 * len(errors)))]
        found[name] = Off(len(errors), statistics.median(errors), p95, statistics.fmean(errors))
    return found


class _Prefill(NamedTuple):
    """What prompts cost: a table by tokens, seconds per token and per pair."""

    table: Curve
    token_s: float
    pair_s: float

    def linear_s(self, tokens: int, cached_tokens: int) -> float:
        return self.token_s * tokens + self.pair_s * attention_pairs(tokens, cached_tokens)


def _line(fitted: Sequence[Sample], points: Sequence[Sample], machine: Machine) -> Line:
    by_kind = _grouped(fitted, kind)
    prefill = _prefill(by_kind["prefill"])
    batches = _grouped(by_kind["decode"], lambda s: s.sequences)
    if not batches:
        raise CalibrationFailed("no step that only decodes could be timed; give it more seconds")
    kv_token_s = _context_slope(batches)
    alone_s = {
        n: statistics.median(s.step_s - kv_token_s * s.kv_tokens for s in batches[n]) for n in sorted(batches)
    }
    fixed_s, sequence_s = _added(by_kind["mixed"], prefill, kv_token_s, alone_s)
    rest_s = {n: s - fixed_s - sequence_s * n for n, s in alone_s.items()}
    slowdown = _slowdown(by_kind["mixed"], prefill, (fixed_s, sequence_s, kv_token_s))
    return Line(
        machine.accelerator, machine.model, "tp1", machine.precision, machine.engine, "calibrated", machine.source,
        decode_sequences=tuple(rest_s),
        decode_ms=tuple(round(s * 1e3, 4) for s in rest_s.values()),
        mixed_tokens=tuple(int(knot) for knot in prefill.table.knots),
        mixed_ms=tuple(round(s * 1e3, 4) for s in prefill.table.values_s),
        decode_fixed_ms=round(fixed_s * 1e3, 5),
        decode_sequence_us=round(sequence_s * 1e6, 4),
        decode_kv_token_ns=round(kv_token_s * 1e9, 4),
        prefill_fixed_ms=0.0,
        prefill_token_us=round(prefill.token_s * 1e6, 5),
        prefill_pair_ns=round(prefill.pair_s * 1e9, 6),
        mixed_slowdown=round(slowdown, 5),
        host_ms=0.0,
        valid=Validity(
            max(batches),
            max(p.prompt_tokens + p.sequences for p in points),
            max(_context(p) for p in points),
        ),
        fit_error=FitError(0.0, 0.0, 0.0, 0.0, ""),
    )  # fmt: skip


def _context(point: Sample) -> int:
    """The longest context in it."""
    decoding = round(point.kv_tokens / point.sequences) if point.sequences else 0
    return max(decoding, point.cached_tokens + point.prompt_tokens)


def _prefill(points: Sequence[Sample]) -> _Prefill:
    """Seconds per token and pair by least squares; what is left of each whole prompt is the table."""
    steps = [PrefillStep(p.prompt_tokens, p.cached_tokens, p.step_s) for p in points]
    try:
        _, token_s, pair_s = fit_prefill(steps, Curve((1.0,), (0.0,)))
    except ValueError as error:
        raise CalibrationFailed(f"prompts of too few lengths could be timed: {error}") from None
    line = _Prefill(Curve((1.0,), (0.0,)), token_s, pair_s)
    left: dict[int, list[float]] = defaultdict(list)
    for step in steps:
        rest_s = step.step_s - line.linear_s(step.tokens, step.cached_tokens)
        left[step.tokens].append(max(rest_s, _LEAST * step.step_s))
    knots = sorted(left)
    return line._replace(table=Curve(knots, [statistics.median(left[tokens]) for tokens in knots]))


def _context_slope(batches: dict[int, list[Sample]]) -> float:
    """Seconds per token of context: how steps of equal batches grow with it, and never below zero."""
    above = below = 0.0
    for group in batches.values():
        weights = [s.step_s**-2 for s in group]
        total = sum(weights)
        kv = sum(w * s.kv_tokens for w, s in zip(weights, group, strict=True)) / total
        step_s = sum(w * s.step_s for w, s in zip(weights, group, strict=True)) / total
        above += sum(w * (s.kv_tokens - kv) * (s.step_s - step_s) for w, s in zip(weights, group, strict=True))
        below += sum(w * (s.kv_tokens - kv) ** 2 for w, s in zip(weights, group, strict=True))
    return max(0.0, above / below) if below else 0.0


def _added(
    mixed: Sequence[Sample], prefill: _Prefill, kv_token_s: float, alone_s: dict[int, float]
) -> tuple[float, float]:
    """What decoding adds to a step with a prompt in it: fixed, and per sequence.

    It is at most what those batches take alone. A full batch, in which no prompt can come, may take less: then its
    rest in the table is below 0, and the step is not.
    """
    rows, rests = [], []
    for s in mixed:
        without_s = prefill.table.at(s.prompt_tokens + s.sequences) + prefill.linear_s(s.prompt_tokens, 0)
        rows.append((1.0 / s.step_s, s.sequences / s.step_s))
        rests.append((s.step_s - without_s - kv_token_s * s.kv_tokens) / s.step_s)
    if not rows:
        return 0.0, 0.0
    alone_s = {s.sequences: alone_s[s.sequences] for s in mixed if s.sequences in alone_s}
    matrix, right = np.array(rows), np.array(rests)
    if len({s.sequences for s in mixed}) > 1:
        fixed_s, sequence_s = (float(value) for value in np.linalg.lstsq(matrix, right, rcond=None)[0])
        if min(fixed_s, sequence_s) >= 0.0:
            return _bounded(fixed_s, sequence_s, alone_s)
    # One of the two would be negative, or they cannot be told apart: all of it is per sequence.
    sequence_s = float(matrix[:, 1] @ right / (matrix[:, 1] @ matrix[:, 1]))
    return _bounded(0.0, max(0.0, sequence_s), alone_s)


def _bounded(fixed_s: float, sequence_s: float, alone_s: dict[int, float]) -> tuple[float, float]:
    """The same, but no more in any batch than that batch takes alone."""
    part = min((1.0, *((1.0 - _LEAST) * s / (fixed_s + sequence_s * n + 1e-12) for n, s in alone_s.items())))
    return fixed_s * part, sequence_s * part


def _slowdown(mixed: Sequence[Sample], prefill: _Prefill, decode: tuple[float, float, float]) -> float:
    """Kappa, from what mixed steps take beyond the sum of their parts."""
    fixed_s, sequence_s, kv_token_s = decode
    steps = []
    for s in mixed:
        apart_s = (
            prefill.linear_s(s.prompt_tokens, 0) + fixed_s + sequence_s * s.sequences + kv_token_s * s.kv_tokens
        )
        together_s = s.step_s - prefill.table.at(s.prompt_tokens + s.sequences)
        if together_s > 0.0:
            steps.append(MixedAttention(s.sequences, together_s, apart_s))
    return fit_mixed_slowdown(steps) if steps else 0.0
