from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.physics.fitting import (
    DecodeStep,
    MixedAttention,
    PrefillStep,
    fit_decode,
    fit_mixed_slowdown,
    fit_prefill,
    spread,
)
from underlay.physics.step_time import Curve, attention_pairs

MATRICES = Curve([1, 512, 8192], [5e-3, 11e-3, 170e-3])
GRID = [(batch, batch * context) for batch in (1, 4, 16, 64, 256) for context in (128, 2048, 8192)]


@given(st.floats(0, 1e-2), st.floats(0, 1e-4), st.floats(1e-9, 1e-6))
def test_the_coefficients_of_exact_timings_are_found_again(fixed_s: float, each_s: float, token_s: float) -> None:
    steps = [DecodeStep(n, kv, MATRICES.at(n) + fixed_s + each_s * n + token_s * kv) for n, kv in GRID]
    assert fit_decode(steps, MATRICES) == pytest.approx((fixed_s, each_s, token_s), rel=1e-4, abs=1e-7)


def test_prompts_are_fitted_by_tokens_and_pairs() -> None:
    steps = [
        PrefillStep(n, c, MATRICES.at(n) + 6e-4 + 6e-7 * n + 8e-10 * attention_pairs(n, c))
        for n in (64, 512, 4096) for c in (0, 2048, 32768)
    ]  # fmt: skip
    assert fit_prefill(steps, MATRICES) == pytest.approx((6e-4, 6e-7, 8e-10), rel=1e-6)


def test_no_coefficient_is_negative() -> None:
    # Batches get quicker than their table says: an honest fit is "they cost nothing more", not a gift of time.
    steps = [DecodeStep(n, kv, MATRICES.at(n) + 1e-3 - 1e-6 * n + 4e-8 * kv) for n, kv in GRID]
    assert min(fit_decode(steps, MATRICES)) == 0.0


def test_too_few_or_all_alike_is_said() -> None:
    with pytest.raises(ValueError, match="2 steps"):
        fit_decode([DecodeStep(1, 1, 1.0), DecodeStep(2, 2, 1.0)], MATRICES)
    with pytest.raises(ValueError, match="vary batch and length"):
        fit_decode([DecodeStep(4, 400, 1.0)] * 5, MATRICES)


def test_the_slowdown_of_mixed_steps() -> None:
    assert fit_mixed_slowdown([MixedAttention(n, 2e-3 * (1 + 0.01 * n), 2e-3) for n in (1, 8, 64)]) == (
        pytest.approx(0.01)
    )
    assert fit_mixed_slowdown([MixedAttention(8, 1e-3, 2e-3)]) == 0.0


def test_spread_tells_mean_and_tail() -> None:
    assert spread([1.1] * 19 + [2.0], [1.0] * 20) == pytest.approx((0.145, 1.0))
