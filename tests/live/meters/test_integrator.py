"""Joules from samples of power."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.live.meters.integrator import Integrator


def test_a_steady_load_is_known_but_for_the_sensor() -> None:
    integrator = Integrator(0.05, gap_s=10)
    integrator.take(0.0, 200)
    reading = integrator.take(5.0, 200)
    assert (reading.joules, reading.low_joules, reading.high_joules) == pytest.approx((1000, 950, 1050))


def test_samples_too_far_apart_are_not_joined() -> None:
    integrator = Integrator(0.0, gap_s=4)
    integrator.take(0.0, 200)
    before = integrator.take(2.0, 200)
    after = integrator.take(3600.0, 200)
    assert (after.joules, after.epoch) == (before.joules, before.epoch + 1)
    assert integrator.take(3601.0, 100) == (3601.0, 550, 500, 600, 1)


def test_a_clock_that_went_back_is_a_loss() -> None:
    integrator = Integrator(0.0, gap_s=4)
    integrator.take(10.0, 200)
    assert integrator.take(9.0, 200).epoch == 1


@quick
@given(st.lists(st.tuples(st.floats(0.01, 3.9), st.floats(0, 1e5)), min_size=2, max_size=30), st.floats(0, 0.5))
def test_bounds_hold_the_middle_and_nothing_ever_falls(samples, share) -> None:
    integrator, at_s, last = Integrator(share, gap_s=4), 0.0, None
    for pause, power_w in samples:
        at_s += pause
        reading = integrator.take(at_s, power_w)
        slack = 1e-9 * reading.high_joules
        assert reading.low_joules - slack <= reading.joules <= reading.high_joules + slack
        if last is not None:
            assert reading.joules >= last.joules
            assert reading.low_joules >= last.low_joules
        last = reading
