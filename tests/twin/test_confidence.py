"""Student's t against the printed tables, and against simulated means."""

from __future__ import annotations

from math import inf, isnan, nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tests.control.builders import quick

from underlay.twin.confidence import interval, t_quantile, two_sided


@pytest.mark.parametrize(
    ("level", "freedom", "t"),
    # Abramowitz and Stegun, table 26.10.
    [
        (0.95, 1, 12.706),
        (0.95, 2, 4.303),
        (0.95, 3, 3.182),
        (0.95, 4, 2.776),
        (0.95, 9, 2.262),
        (0.95, 30, 2.042),
        (0.95, 120, 1.980),
        (0.99, 1, 63.657),
        (0.99, 10, 3.169),
        (0.80, 5, 1.476),
    ],
)
def test_quantiles_are_those_of_the_tables(level, freedom, t):
    assert t_quantile(level, freedom) == pytest.approx(t, abs=6e-4)


@quick
@given(some.floats(0.01, 0.999), some.integers(1, 60))
def test_the_quantile_undoes_the_distribution(level, freedom):
    assert two_sided(t_quantile(level, freedom), freedom) == pytest.approx(level, abs=1e-12)


@pytest.mark.parametrize(("level", "freedom"), [(0.0, 3), (1.0, 3), (0.95, 0)])
def test_there_is_no_quantile_of_nothing(level, freedom):
    with pytest.raises(ValueError, match="No t"):
        t_quantile(level, freedom)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    dice = Random(7)
    held = 0
    for _ in range(2000):
        found = interval([dice.gauss(5.0, 2.0) for _ in range(4)])
        held += found.low <= 5.0 <= found.high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_one_run_knows_nothing_of_chance_and_none_knows_nothing():
    assert interval([3.0]) == (3.0, inf, 1)
    assert interval([3.0, nan]) == (3.0, inf, 1)
    nothing = interval([nan])
    assert isnan(nothing.mean)
    assert nothing.runs == 0


def test_runs_that_agree_leave_no_doubt():
    assert interval([2.5, 2.5, 2.5]) == (2.5, 0.0, 3)
