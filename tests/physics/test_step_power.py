"""What a profile knows of watts and joules, and the curve that the twin makes of it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.domain.errors import BadRequest
from underlay.physics import profiles
from underlay.physics.step_power import StepJoules, StepPower, fit_curve

METERED = StepPower(
    method="calibrated",
    meter="nvml:GPU-0",
    boundary="an accelerator",
    joules=StepJoules(3.0, 400.0, 0.05, 0.2),
    error_mean=0.04,
    against="a test",
    decode_sequences=(1, 4, 16),
    decode_w=(200.0, 320.0, 440.0),
    prefill_w=600.0,
    idle_w=80.0,
    idle_off_w=1.0,
)


@given(st.floats(10, 500), st.floats(0, 500), st.sampled_from([1.0, 2.0, 8.0]))
def test_a_curve_is_found_again(low, rise, half):
    batches = (1, 2, 4, 8, 16)
    watts = [low + rise * n / (n + half) for n in batches]
    found_low, found_rise, found_half = fit_curve(batches, watts)
    for n, w in zip(batches, watts, strict=True):
        assert found_low + found_rise * n / (n + found_half) == pytest.approx(w, rel=0.02)


def test_two_batches_are_enough_and_one_is_a_constant():
    low, rise, half = fit_curve((1, 8), (100.0, 150.0))
    assert low + rise / (1 + half) == pytest.approx(100.0)
    assert low + rise * 8 / (8 + half) == pytest.approx(150.0)
    assert fit_curve((4,), (120.0,)) == (120.0, 0.0, 1.0)


def test_a_curve_that_falls_is_not_believed():
    assert fit_curve((1, 8), (150.0, 100.0)) == (125.0, 0.0, 1.0)


def test_the_curve_draws_what_was_metered_and_idles_as_was_metered():
    curve = METERED.curve(1, 100.0)
    assert curve.power_w(0) == 80.0
    assert [curve.power_w(n) for n in (1, 4, 16)] == pytest.approx([200.0, 320.0, 440.0], rel=0.02)
    assert curve.power_w(4, 10_000) == pytest.approx(600.0)
    assert curve.method == "calibrated"
    assert "nvml:GPU-0" in curve.note


def test_where_idle_is_beyond_the_meter_what_is_drawn_above_it_is_added():
    above = msgspec.structs.replace(METERED, above_idle=True, idle_w=None, idle_off_w=None, method="modelled")
    curve = above.curve(1, 100.0)
    assert curve.power_w(0) == 100.0
    assert curve.power_w(4) == pytest.approx(420.0, rel=0.02)
    assert curve.limit_w == pytest.approx(700.0)
    unknown = above.curve(1, None)
    assert unknown.power_w(4) == pytest.approx(320.0, rel=0.02)
    assert "idle power is unknown" in unknown.note
    assert unknown.method == "modelled"


@pytest.mark.parametrize(
    "wrong",
    [
        {"decode_w": [1.0]},
        {"decode_w": [], "decode_sequences": []},
        {"prefill_w": -1.0},
        {"joules": {"step_j": -1.0, "pflop_j": 0, "token_j": 0, "kv_gb_j": 0}},
    ],
)
def test_what_cannot_be_is_refused_with_the_file_s_name(wrong, tmp_path):
    line = next(iter(profiles.lines().values()))
    told = msgspec.to_builtins(msgspec.structs.replace(line, power=METERED))
    file = tmp_path / "mine.profile.json"
    file.write_bytes(msgspec.json.encode(told))
    assert profiles.read(file).power == METERED
    told["power"] |= wrong
    file.write_bytes(msgspec.json.encode(told))
    with pytest.raises(BadRequest, match=r"mine\.profile\.json"):
        profiles.read(file)


def test_profiles_that_ship_do_not_claim_to_have_been_metered():
    assert {line.power for line in profiles.lines().values()} == {None}
