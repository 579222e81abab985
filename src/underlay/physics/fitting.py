"""What are the coefficients of a step, given steps that were timed?

All of them but the tables are linear in the time of a step, so least squares find them at once, with no starting
value and no iteration. Each step counts by its relative error: a step of 5 ms matters as much as one of 500 ms. No
coefficient is negative, as no work takes time away: one that comes out below zero is left out and the rest fitted
again. The tables (time of the matrix products by tokens) are given, measured or estimated apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from underlay.physics.step_time import Curve, attention_pairs


class DecodeStep(NamedTuple):
    """A timed step that only decodes, or the mean of several: ``kv_tokens`` is the sum of all contexts."""

    sequences: float
    kv_tokens: float
    step_s: float


class PrefillStep(NamedTuple):
    """A timed step with a chunk of one prompt, after its first ``cached_tokens``."""

    tokens: int
    cached_tokens: int
    step_s: float


class MixedAttention(NamedTuple):
    """The attention of a step with both, and of its two parts alone."""

    sequences: int
    together_s: float
    apart_s: float


class Spread(NamedTuple):
    """Relative errors of a fit, without sign: their mean, and what 95 % stay below."""

    mean: float
    p95: float


def fit_decode(steps: Sequence[DecodeStep], decode: Curve) -> tuple[float, float, float]:
    """The fixed seconds, those per sequence and those per token in the KV cache."""
    rows = [(1.0, float(step.sequences), float(step.kv_tokens)) for step in steps]
    fixed_s, sequence_s, token_s = _least_squares(rows, [s.step_s - decode.at(s.sequences) for s in steps], steps)
    return fixed_s, sequence_s, token_s


def fit_prefill(steps: Sequence[PrefillStep], mixed: Curve) -> tuple[float, float, float]:
    """The fixed seconds of prompts in a step, those per token and those per pair of tokens."""
    rows = [(1.0, float(step.tokens), attention_pairs(step.tokens, step.cached_tokens)) for step in steps]
    fixed_s, token_s, pair_s = _least_squares(rows, [s.step_s - mixed.at(s.tokens) for s in steps], steps)
    return fixed_s, token_s, pair_s


def fit_mixed_slowdown(steps: Sequence[MixedAttention]) -> float:
    """Kappa: how much more than the sum of its parts the attention of a mixed step costs, per decoding sequence."""
    # The one slowdown that keeps the sum of squared relative errors of ``apart (1 + kappa B)`` least.
    parts = [(step.sequences * step.apart_s / step.together_s, step.apart_s / step.together_s) for step in steps]
    return max(0.0, sum(grown * (1.0 - part) for grown, part in parts) / sum(grown * grown for grown, _ in parts))


def spread(predicted_s: Sequence[float], measured_s: Sequence[float]) -> Spread:
    """How far the predicted lie from the measured."""
    errors = sorted(abs(said / was - 1.0) for said, was in zip(predicted_s, measured_s, strict=True))
    return Spread(sum(errors) / len(errors), errors[min(len(errors) - 1, int(0.95 * len(errors)))])


def _least_squares(
    rows: Sequence[tuple[float, ...]], targets_s: Sequence[float], steps: Sequence[DecodeStep | PrefillStep]
) -> list[float]:
    """The coefficients, none below zero, that keep the sum of squared relative errors least."""
    if len(rows) < 3:
        raise ValueError(f"Three coefficients cannot be found from {len(rows)} steps.")
    weighed = [tuple(value / step.step_s for value in row) for row, step in zip(rows, steps, strict=True)]
    targets = [target / step.step_s for target, step in zip(targets_s, steps, strict=True)]
    kept = list(range(len(rows[0])))
    while kept:
        found = _solve(
            [[sum(row[i] * row[j] for row in weighed) for j in kept] for i in kept],
            [sum(row[i] * target for row, target in zip(weighed, targets, strict=True)) for i in kept],
        )
        if min(found) >= 0.0:
            break
        kept.pop(found.index(min(found)))
    else:
        found = []
    return [found[kept.index(column)] if column in kept else 0.0 for column in range(len(rows[0]))]


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss with the rows and columns scaled first: pairs of tokens are 1e8 times as many as steps."""
    size = len(right)
    scale = [matrix[i][i] ** 0.5 or 1.0 for i in range(size)]
    rows = [[matrix[i][j] / scale[i] / scale[j] for j in range(size)] + [right[i] / scale[i]] for i in range(size)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        if abs(rows[column][column]) < 1e-12:
            raise ValueError("These steps do not tell the coefficients apart: vary batch and length.")
        for row in range(size):
            if row != column:
                factor = rows[row][column] / rows[column][column]
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column], strict=True)]
    return [rows[i][size] / rows[i][i] / scale[i] for i in range(size)]
