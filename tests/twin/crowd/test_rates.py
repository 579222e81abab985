from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.twin.crowd import rates
from underlay.twin.crowd.rates import Diurnal, Ramp, Steps, Surge

shapes = st.one_of(
    st.builds(Ramp, end=st.floats(0, 5), at_s=st.floats(0, 5000), for_s=st.floats(0, 900), begin=st.floats(0, 5)),
    st.builds(
        Surge, factor=st.floats(0, 9), at_s=st.floats(0, 5000), for_s=st.floats(300, 600), rise_s=st.floats(0, 300)
    ),
    st.builds(Steps, steps=st.just(((100.0, 0.5), (200.0, 3.0)))),
    st.builds(Diurnal, peak_hour=st.floats(0, 24), trough_share=st.floats(0, 1), utc_offset_h=st.floats(-12, 14)),
)


def test_a_surge_rises_stays_and_falls():
    surge = Surge(factor=5, at_s=100, for_s=60, rise_s=20, fall_s=40)
    assert [surge.value_at(at) for at in (0, 100, 110, 120, 150, 160, 180, 200, 900)] == [1, 1, 3, 5, 5, 5, 3, 1, 1]


def test_a_sudden_surge_begins_at_its_time_and_is_over_at_its_end():
    surge = Surge(factor=5, at_s=100, for_s=60)
    assert [surge.value_at(at) for at in (99.9, 100, 159.9, 160)] == [1, 5, 5, 1]


def test_steps_hold_from_their_time_on():
    steps = Steps(((10, 2.0), (20, 0.0)))
    assert [steps.value_at(at) for at in (0, 9.9, 10, 19.9, 20, 999)] == [1, 1, 2, 2, 0, 0]
    assert steps.values_at(np.array([10.0, 20.0]), before=True).tolist() == [1, 2]


def test_a_ramp_goes_from_one_factor_to_the_other():
    assert [Ramp(end=3, at_s=10, for_s=10).value_at(at) for at in (0, 10, 15, 20, 99)] == [1, 1, 2, 3, 3]


def test_a_day_peaks_by_the_callers_clocks_and_has_mean_1():
    day = Diurnal(peak_hour=15, trough_share=0.25, utc_offset_h=-6, begins_hour=3)
    at_peak = (15 + 6 - 3) * 3600.0
    assert day.value_at(at_peak) == pytest.approx(1.6)
    assert day.value_at(at_peak + 12 * 3600) == pytest.approx(0.4)
    assert day.values_at(np.arange(0, 86_400.0, 60)).mean() == pytest.approx(1.0)


@quick
@given(st.lists(shapes, max_size=3), st.lists(st.floats(0, 7000), min_size=1))
def test_one_time_and_many_agree(some, times):
    product = np.prod([shape.values_at(np.array(times)) for shape in some] or [np.ones(len(times))], axis=0)
    assert [rates.factor_at(some, at) for at in times] == pytest.approx(product.tolist())


@quick
@given(st.lists(shapes, max_size=3))
def test_between_knots_a_rate_is_straight(some):
    pieces = rates.pieces(some, 0.0, 7000.0)
    assert pieces.span_s.sum() == pytest.approx(7000.0)
    middle = pieces.start_s + pieces.span_s / 2
    told = [rates.factor_at(some, at) for at in middle.tolist()]
    missed = np.abs((pieces.first + pieces.last) / 2 - told)
    assert missed[pieces.span_s > 1e-9].max() < 0.005 * max(*told, 1.0)  # in shorter ones the clock has no middle


def test_when_nothing_changes_any_more():
    assert rates.settles_at([Ramp(end=3, at_s=10, for_s=10), Surge(factor=2, at_s=5, for_s=5)]) == 20
    assert rates.settles_at([Diurnal()]) == -inf
    assert rates.ends_at_nothing([Steps(((10, 0.0),)), Diurnal()])
    assert not rates.ends_at_nothing([Diurnal(trough_share=0)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ramp(end=-1, at_s=0, for_s=1),
        lambda: Steps(()),
        lambda: Steps(((5, 1), (5, 2))),
        lambda: Surge(factor=2, at_s=0, for_s=5, rise_s=6),
        lambda: Diurnal(trough_share=1.5),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ValueError, match=r".+\."):
        make()
