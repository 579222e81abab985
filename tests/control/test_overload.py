"""A line that stands, and how long one would wait in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.control.overload import Delay, Served, Service


def told(waits, *, start=0.0, every_s=0.25, delay=None):
    """A detector (target 1 s, intervals of 2 s) that saw these waiting times one after the other."""
    delay = delay or Delay(target_s=1.0, interval_s=2.0)
    for number, waited_s in enumerate(waits):
        delay.served(waited_s, start + number * every_s)
    return delay


def test_a_line_that_stands_for_an_interval_is_overload():
    assert not told([3.0] * 8).overloaded
    assert told([3.0] * 9).overloaded


def test_a_burst_is_not_overload():
    """One that got through quickly shows that the line gets short, whatever the mean says."""
    assert not told([9.0, 9.0, 9.0, 0.5, 9.0, 9.0, 9.0, 9.0] * 4).overloaded


def test_overload_ends_after_an_interval_with_a_short_wait():
    delay = told([3.0] * 9)
    told([3.0, 0.9, *[3.0] * 6, 3.0], start=2.25, delay=delay)
    assert not delay.overloaded


def test_an_empty_line_ends_overload_at_once():
    delay = told([3.0] * 9)
    delay.emptied(at=2.1)
    assert not delay.overloaded
    delay.served(3.0, at=4.0)
    assert not delay.overloaded  # it takes a whole interval again


def test_one_served_after_a_long_silence_proves_no_standing_line():
    delay = told([0.1])
    delay.served(50.0, at=60.0)
    assert not delay.overloaded


def test_who_waited_twice_the_target_is_too_late_only_under_overload():
    delay = told([3.0])
    assert not delay.too_late(100.0)
    told([3.0] * 9, delay=delay)
    assert delay.too_late(2.1)
    assert not delay.too_late(2.0)


@quick
@given(st.lists(st.floats(0, 1), max_size=40))
def test_waits_within_the_target_are_never_overload(waits):
    assert not told(waits).overloaded


def test_nothing_is_expected_before_anything_was_seen():
    service = Service()
    assert service.wait_s(1000, 1) == 0.0
    assert service.retry_after_s(1000, 1) == 1.0


def test_the_expected_wait_is_what_littles_law_says():
    service = Service()
    for _ in range(10):
        service.observe(4.0)
    assert service.wait_s(0, 8) == pytest.approx(0.5)
    assert service.wait_s(15, 8) == pytest.approx(8.0)
    assert service.wait_s(1, 0) == pytest.approx(8.0)  # no replica is ready


def test_old_measurements_fade():
    service = Service()
    for took_s in [100.0] * 50 + [2.0] * 300:
        service.observe(took_s)
    assert service.wait_s(0, 1) == pytest.approx(2.0, abs=0.5)


@quick
@given(st.floats(0, 1e6), st.integers(0, 10_000), st.integers(0, 1000))
def test_a_time_to_come_back_is_always_sensible(took_s, ahead, slots):
    service = Service()
    service.observe(took_s)
    assert 1.0 <= service.retry_after_s(ahead, slots) <= 60.0


SHARES = (0.0, 0.2, 0.05)


def served(*bands, every_s=0.05, start=0.0, shares=SHARES):
    """What these were given, one after the other, and when the last was."""
    lately, at = Served(shares), start
    for number, band in enumerate(bands):
        at = start + number * every_s
        lately.note(band, at)
    return lately, at


def test_before_anything_was_served_everything_is_left_to_everyone():
    lately, at = served()
    assert [lately.left_for(band, at) for band in range(3)] == [1.0, 1.0, 1.0]


def test_what_the_bands_above_get_is_not_left_to_a_band():
    lately, at = served(*[0, 1, 1, 2] * 100)
    assert lately.left_for(0, at) == 1.0
    assert lately.left_for(1, at) == pytest.approx(0.75, abs=0.03)
    assert lately.left_for(2, at) == pytest.approx(0.25, abs=0.05)


def test_no_band_is_reckoned_to_get_less_than_its_share():
    lately, at = served(*[0] * 400, shares=(0.0, 0.2, 0.0))
    assert lately.left_for(1, at) == 0.2
    assert lately.left_for(2, at) == pytest.approx(0.04, abs=0.01)
    lately, at = served(*[0] * 4000, every_s=0.005, shares=(0.0, 0.2, 0.0))
    assert lately.left_for(2, at) == 0.02


def test_one_or_two_prove_nothing():
    """With a slot or two, whoever was served last would else be reckoned to get all for ever."""
    lately, at = served(0, 0)
    assert lately.left_for(2, at) > 0.6


def test_what_was_served_long_ago_is_forgotten():
    lately, at = served(*[0] * 400)
    assert lately.left_for(2, at) < 0.1
    assert lately.left_for(2, at + 60) > 0.99


@quick
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 10)), max_size=60))
def test_less_urgent_bands_are_left_less_but_always_their_share(happenings):
    lately, at = Served((0.0, 0.0, 0.0)), 1_790_000_000.0
    for band, later_s in happenings:
        at += later_s
        lately.note(band, at)
        left = [lately.left_for(each, at) for each in range(3)]
        assert left[0] == 1.0
        assert left == sorted(left, reverse=True)
        assert min(left) >= 0.02
