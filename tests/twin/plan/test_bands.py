from math import exp

import numpy as np
import pytest
from tests.twin.plan.builders import demand, nobody_watches, question

from underlay.physics import profiles
from underlay.twin.plan.bands import _around, _draws, _follows, deviations, timed
from underlay.twin.plan.planner import plan

ASKED = question(samples=24)
MADE = plan(ASKED, nobody_watches)


def test_deviations_come_from_errors_against_real_runs():
    known = profiles.find("h100-sxm", "llama-3.1-70b", "tp4", "fp8")
    assert deviations(known)[0] == pytest.approx(known.runs_error.tpot_median * 1.4826)
    reckoned = profiles.find("mi300x", "llama-3.1-8b", "tp1", "bf16")
    assert deviations(reckoned) == pytest.approx(
        (reckoned.fit_error.decode_mean * 1.2533, reckoned.fit_error.prefill_mean * 1.2533)
    )


def test_slower_steps_carry_less_and_the_straight_line_says_how_much():
    """The line between logarithms against a run with both changed at once."""
    (carrier,) = MADE.carriers
    follows = _follows(carrier)
    assert follows.decode < 0
    assert follows.prefill < 0
    assert follows.burst <= 0
    decode, prefill = deviations(carrier.offer.profile)
    bench = carrier.bench
    slower = type(bench)(
        timed(bench.times, exp(decode), exp(prefill)),
        *(getattr(bench, name) for name in ("rules", "curve", "demand", "target", "sequences", "seed")),
    )
    said = carrier.capacity_per_s * exp(follows.decode + follows.prefill)
    assert slower.highest(said).rate_per_s == pytest.approx(said, rel=0.05)


def test_timed_changes_the_parts_that_it_names():
    times = MADE.carriers[0].bench.times
    slower = timed(times, 1.5, 1.0)
    assert slower.decode_step_s(8, 8000) - times.host_s == pytest.approx(
        1.5 * (times.decode_step_s(8, 8000) - times.host_s)
    )
    assert slower.prefill_s(500) == times.prefill_s(500)
    assert timed(times, 1.0, 2.0).prefill_s(500) > times.prefill_s(500)


def test_bands_hold_the_plan_and_say_how_often_it_keeps_its_promise():
    sure = MADE.bands
    for name in ("accelerators", "peak_w", "usd_per_mtok", "joules_per_token"):
        low, high = sure.bands[name]
        assert low <= getattr(MADE.total, name) <= high, name
    assert sure.bands["ttft_p99_s"].low < sure.bands["ttft_p99_s"].high
    assert 0 < sure.kept_share <= 1
    assert sure.fitting_share == 1
    assert plan(ASKED, nobody_watches).bands == sure  # equal dice


def test_a_plan_that_barely_fits_often_would_not():
    tight = question(
        samples=24, available={"h100-sxm": 8}, demand=demand(100.0, 8 * MADE.carriers[0].capacity_per_s)
    )
    sure = plan(tight, nobody_watches).bands
    assert 0.1 < sure.fitting_share < 0.9
    assert sure.kept_share < MADE.bands.kept_share


def test_a_price_is_drawn_around_its_median():
    assert [_around(place, 1.0, 2.0, 5.0) for place in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1.0, 1.5, 2.0, 3.5, 5.0]


def test_every_part_of_a_spread_is_met_once():
    draws = list(_draws(50, np.random.default_rng(1)))
    assert sorted(int(draw.price * 50) for draw in draws) == list(range(50))
    assert abs(sum(draw.decode for draw in draws)) < 1.0
