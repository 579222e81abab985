"""A straight line through what was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.control.dice import Dice
from underlay.control.fading import FadingLine


def taught(measured, base=0.0, slope=1.0, **how):
    """A line made with these numbers that has seen these measurements."""
    line = FadingLine(base, slope, **how)
    for x, y in measured:
        line.add(x, y)
    return line


def test_before_anything_was_measured_it_is_what_it_was_made_with():
    line = FadingLine(3.0, 0.25)
    assert (line.count, line.at(0), line.at(8)) == (0, 3.0, 5.0)


@quick
@given(
    st.floats(0, 100),
    st.floats(0.001, 10),
    st.lists(st.integers(0, 10_000), min_size=2, max_size=60, unique=True),
    st.booleans(),
)
def test_an_exact_line_is_recovered_where_x_differ_enough(base, slope, xs, keep_slope):
    xs = [min(xs), max(xs) * 2 + 1, *xs]
    line = taught([(x, base + slope * x) for x in xs], 7.0, 7.0, keep_slope=keep_slope)
    assert line.slope == pytest.approx(slope, rel=1e-4, abs=1e-4)
    assert line.base == pytest.approx(base, rel=1e-4, abs=1e-4 + 1e-6 * slope * max(xs))
    assert line.at(500) == pytest.approx(base + slope * 500, rel=1e-3, abs=1e-3)


def test_noise_averages_out():
    dice = Dice(3)
    xs = [dice.below(1000) for _ in range(300)]
    line = taught([(x, (20 + 0.5 * x) * (0.9 + 0.2 * dice.share())) for x in xs])
    assert line.slope == pytest.approx(0.5, rel=0.1)
    assert line.base == pytest.approx(20, abs=15)


@quick
@given(
    st.lists(st.tuples(st.integers(0, 100_000), st.floats(0, 1000)), min_size=1, max_size=40),
    st.booleans(),
)
def test_noise_gives_nothing_negative(measured, keep_slope):
    line = FadingLine(1.0, 0.25, keep_slope=keep_slope)
    for x, y in measured:
        line.add(x, y)
        assert line.base >= 0.0
        assert line.slope >= 0.0


def test_where_more_x_seem_to_give_less_y_it_is_level():
    line = taught([(100, 3.0), (200, 2.0), (300, 1.0)] * 20)
    assert line.slope == 0.0
    assert line.at(1000) == pytest.approx(2.0, abs=0.1)


def test_a_line_that_would_begin_below_nothing_goes_through_the_origin():
    """Attention takes more than twice as long for twice the tokens; short prompts are still not free."""
    line = taught([(x, x * x / 1000) for x in (10, 50, 100)] * 10)
    assert line.base == 0.0
    assert 0.05 < line.slope < 0.1


@pytest.mark.parametrize("xs", [(100,), (100, 100), (100, 101, 99)])
def test_all_alike_it_goes_through_the_origin(xs):
    line = taught([(x, 5.0) for x in xs], 2.0, 0.5)
    assert (line.base, line.slope) == (pytest.approx(0.0, abs=0.01), pytest.approx(0.05, rel=0.01))


@pytest.mark.parametrize("x", [0, 2, 100])
def test_all_alike_it_may_keep_the_slope_it_was_made_with(x):
    line = taught([(x, 105.0)] * 3, 0.0, 0.25, keep_slope=True)
    assert (line.slope, line.at(x)) == (0.25, pytest.approx(105.0))


def test_a_kept_slope_that_alone_is_too_much_is_not_kept():
    line = taught([(1000, 50.0)] * 3, 0.0, 0.25, keep_slope=True)
    assert (line.base, line.slope) == (0.0, pytest.approx(0.05))


@quick
@given(st.integers(0, 100_000), st.floats(0, 1000), st.booleans())
def test_one_measurement_is_believed_at_its_x(x, y, keep_slope):
    assert taught([(x, y)], 1.0, 0.25, keep_slope=keep_slope).at(x) == pytest.approx(y)


def test_nothing_but_zeros_changes_no_slope():
    line = taught([(0, 0.0)] * 3, 1.0, 0.25)
    assert (line.base, line.slope) == (0.0, 0.25)


def test_old_measurements_fade():
    before = [(100, 100.0), (400, 400.0)] * 150
    now = [(100, 30.0), (400, 45.0)] * 150
    line = taught(before + now)
    assert line.slope == pytest.approx(0.05, abs=0.01)
    assert line.base == pytest.approx(25.0, abs=1.0)
    assert line.count == pytest.approx(50.0, rel=0.01)  # so many are remembered
