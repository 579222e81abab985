from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.domain.errors import BadRequest, NotFound
from underlay.physics import catalogue, power
from underlay.physics.profiles import find as profile

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from fidelity import power as refit

CURVE = power.find("h100-sxm", "llama-3.1-8b", 1, "bf16")


@pytest.mark.parametrize(("batch", "joules_per_token"), [(8, 0.455), (64, 0.119)])
def test_energy_per_token_of_profile_and_curve_is_near_the_published_one(batch, joules_per_token) -> None:
    # ML.ENERGY, chat on one H100; the time comes from a step profile that knows nothing of these runs.
    step_s = profile("h100-sxm", "llama-3.1-8b", "tp1", "bf16").coefficients.decode_step_s(batch, batch * 700)
    assert CURVE.stretch_joules(1, step_s, batch, 0) / batch == pytest.approx(joules_per_token, rel=0.35)


@pytest.mark.parametrize(("batch", "watts"), [(8, 486), (64, 610), (256, 691), (512, 688)])
def test_the_fitted_curve_meets_published_watts(batch, watts) -> None:
    assert CURVE.power_w(batch) == pytest.approx(watts, rel=0.03)
    assert CURVE.method == "calibrated"


def test_a_group_that_nobody_measured_is_assumed_and_says_how_far_off_that_is() -> None:
    curve = power.find("mi300x", "llama-3.1-70b", 4, "bf16")
    assert curve.method == "assumed"
    assert "14%" in curve.note
    assert curve.idle_w < curve.power_w(1) < curve.power_w(64) <= curve.limit_w == 4 * 750
    assert curve.power_w(64) / curve.limit_w == pytest.approx(0.74, abs=0.12)


def test_an_accelerator_without_a_rated_power_is_not_guessed() -> None:
    with pytest.raises(BadRequest, match="rated_w"):
        power.find("tpu-v5e", "llama-3.1-8b", 4, "bf16")
    assert power.find("tpu-v5e", "llama-3.1-8b", 4, "bf16", rated_w=200).limit_w == 800
    with pytest.raises(NotFound, match="did you mean"):
        power.find("h100-smx", "llama-3.1-8b", 1, "bf16")


def test_idle_is_measured_where_it_is_and_a_share_elsewhere() -> None:
    assert power.idle_power_w(catalogue.accelerator("h200-sxm")) == (80.3, "calibrated")
    watts, method = power.idle_power_w(catalogue.accelerator("b200-sxm"))
    assert (watts, method) == (pytest.approx(135), "assumed")
    assert CURVE.power_w(0) == CURVE.idle_w == pytest.approx(0.135 * 700)


def test_a_prompt_draws_the_rated_power() -> None:
    assert CURVE.power_w(8, 2048) == CURVE.limit_w == 700
    assert CURVE.power_w(8) < CURVE.power_w(8, 32) < 700


@quick
@given(st.integers(0, 4096), st.integers(0, 8192), st.floats(1, 3), st.floats(1, 3))
def test_power_is_bounded_and_falls_with_the_clock(sequences, prefill_tokens, slow, slower) -> None:
    slow, slower = sorted((slow, slower))
    fast, late = CURVE.throttled(slow), CURVE.throttled(slower)
    watts = fast.power_w(sequences, prefill_tokens)
    assert CURVE.idle_w <= late.power_w(sequences, prefill_tokens) <= watts <= CURVE.limit_w


def test_seventy_percent_of_the_power_takes_a_prompt_thirty_percent_longer() -> None:
    share = (0.7 * 700 - CURVE.idle_w) / (700 - CURVE.idle_w)
    assert power.slowdown_of(share) == pytest.approx(1.3, rel=1e-6)
    assert power.power_share(1.3) == pytest.approx(share)
    assert CURVE.throttled(1.3).power_w(0, 2048) == pytest.approx(0.7 * 700)


@quick
@given(st.floats(100, 500), st.floats(50, 300), st.floats(8, 200))
def test_the_fit_finds_the_curve_that_runs_were_made_of(low, rise, half) -> None:
    batches = [8, 16, 32, 64, 128, 256, 512]
    runs = [refit.Run(batch, low + rise * batch / (batch + half)) for batch in batches]
    assert max(refit.errors(runs, refit.fit(runs))) < 0.02


def test_a_curve_that_falls_with_the_batch_is_not_believed() -> None:
    runs = [refit.Run(batch, 600 - 30 * np.log2(batch)) for batch in (8, 32, 128, 512)]
    assert refit.fit(runs).rise_w == 0


def test_every_shipped_curve_is_for_a_known_model_and_says_its_error() -> None:
    for key, fit in power.fits().items():
        if key != power.ANY:
            assert catalogue.model(key.model)
            assert (
                0 < fit.power_w(1) <= fit.power_w(512) < 1.1 * (catalogue.accelerator(key.accelerator).power_w or 0)
            )
        assert 0 <= fit.error_mean <= fit.error_max < 0.5


def test_of_decoding_a_part_is_drawn_whatever_the_clock() -> None:
    # arXiv 2501.08219v4: 42 % less energy and 1 to 6 % more time on a sixteenth of the clock.
    watts = CURVE.power_w(1)
    assert CURVE.throttled(16.0).power_w(1) * 1.035 == pytest.approx((1 - 0.42) * watts, rel=0.02)
    # arXiv 2605.11999: up to 32 % less before it becomes much slower.
    assert CURVE.throttled(2.3).power_w(1) == pytest.approx(0.68 * watts, rel=0.02)


def test_a_cap_holds_every_step_that_a_clock_can_hold() -> None:
    capped = CURVE.capped(0.7 * 700)
    assert capped.power_w(0, 2048) == pytest.approx(490)
    assert capped.slowdown_at(0, 2048) == pytest.approx(1.3)
    assert capped.power_w(4) == CURVE.power_w(4) < 490
    assert capped.slowdown_at(4) == 1.0
    tight = CURVE.capped(150)  # less than a clock can do
    assert tight.slowdown_at(8) == power.SLOWEST
    assert 150 < tight.power_w(8) < 0.65 * CURVE.power_w(8)
    with pytest.raises(ValueError, match="above 0 W"):
        CURVE.capped(0)


@quick
@given(st.integers(0, 4096), st.integers(0, 8192), st.floats(1, 3), st.floats(100, 800))
def test_a_cap_and_a_throttle_together_are_the_tighter_of_both(sequences, prompt_tokens, slowdown, cap_w) -> None:
    both = CURVE.throttled(slowdown).capped(cap_w)
    slowest = max(slowdown, CURVE.capped(cap_w).slowdown_at(sequences, prompt_tokens))
    assert both.slowdown_at(sequences, prompt_tokens) == pytest.approx(slowest)
    assert both.power_w(sequences, prompt_tokens) == pytest.approx(
        CURVE.throttled(slowest).power_w(sequences, prompt_tokens)
    )
