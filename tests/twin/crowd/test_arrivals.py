from itertools import islice
from math import erf, exp, gamma, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.twin.crowd.arrivals import Arrivals, Even, GammaGaps, Poisson, WeibullGaps
from underlay.twin.crowd.rates import Diurnal, Ramp, Steps, Surge

PROCESSES = (Poisson(), GammaGaps(cv=2.5), WeibullGaps(shape=0.5), Even())


def times(arrivals, seed=1, count=None):
    dice = np.random.default_rng(seed)
    return np.concatenate([np.empty(0), *islice(arrivals.times(dice), count)])


def deviation(sample, distribution):
    """Kolmogorov and Smirnov's distance, times the root of the count: above 1.95 once in a thousand samples."""
    told = np.array([distribution(value) for value in np.sort(sample)])
    places = np.arange(len(told) + 1) / len(told)
    return max((places[1:] - told).max(), (told - places[:-1]).max()) * sqrt(len(told))


@pytest.mark.parametrize("process", PROCESSES)
def test_the_rate_comes_out(process):
    counts = [len(times(Arrivals(20.0, process, stop_s=200.0), seed)) for seed in range(60)]
    assert np.mean(counts) == pytest.approx(4000, abs=4 * np.std(counts) / sqrt(60) + 1)


@pytest.mark.parametrize("process", [GammaGaps(cv=4), WeibullGaps(shape=0.4)])
def test_bursts_do_not_come_early_because_one_began_to_look(process):
    """In the first second as many come as in any other."""
    counts = [len(times(Arrivals(1.0, process, stop_s=1.0), seed)) for seed in range(1500)]
    assert np.mean(counts) == pytest.approx(1.0, abs=4 * np.std(counts) / sqrt(1500))


def test_poisson_gaps_are_exponential():
    gaps = np.diff(times(Arrivals(50.0), count=8))
    assert deviation(gaps[:5000], lambda gap: 1 - exp(-50.0 * gap)) < 1.95


def test_gamma_gaps_have_their_cv():
    gaps = np.diff(times(Arrivals(10.0, GammaGaps(cv=3.0)), count=30))
    assert gaps.std() / gaps.mean() == pytest.approx(3.0, rel=0.05)


def test_gamma_gaps_of_shape_a_half_are_squares_of_normal_ones():
    gaps = GammaGaps(cv=sqrt(2.0)).gaps(5000, np.random.default_rng(5))
    assert deviation(gaps, lambda gap: erf(sqrt(gap / 2.0))) < 1.95


def test_weibull_gaps_are_weibull():
    gaps = np.diff(times(Arrivals(10.0, WeibullGaps(shape=0.5)), count=8))
    scale = 0.1 / gamma(3.0)
    assert deviation(gaps[:5000], lambda gap: 1 - exp(-sqrt(gap / scale))) < 1.95


def test_even_gaps_are_even():
    assert times(Arrivals(4.0, Even(), start_s=10.0, stop_s=12.0)).tolist() == [10.125 + 0.25 * n for n in range(8)]


def test_a_changing_poisson_process_is_uniform_once_time_is_stretched_by_its_rate():
    arrivals = Arrivals(
        3.0, over_time=(Diurnal(peak_hour=2), Surge(factor=4, at_s=900, for_s=600, rise_s=300)), stop_s=3600.0
    )
    moments = np.linspace(0, 3600, 7201)
    rate = np.array([arrivals.rate_at(at) for at in moments[:-1]])
    expected = np.concatenate(([0], np.cumsum(rate * 0.5)))
    found = times(arrivals, seed=3)
    assert len(found) == pytest.approx(expected[-1], abs=4 * sqrt(expected[-1]))
    assert deviation(found, lambda at: float(np.interp(at, moments, expected)) / expected[-1]) < 1.95


@quick
@given(
    st.sampled_from(PROCESSES),
    st.floats(0.01, 50),
    st.floats(0, 500),
    st.floats(0, 500),
    st.lists(
        st.sampled_from(
            [
                Ramp(end=0, at_s=100, for_s=50),
                Steps(((50, 0.0), (120, 2.0))),
                Surge(factor=3, at_s=9, for_s=9),
                Diurnal(),
            ]
        ),
        max_size=3,
    ),
)
def test_times_are_in_order_and_within_bounds(process, rate_per_s, start_s, for_s, shapes):
    arrivals = Arrivals(rate_per_s, process, tuple(shapes), start_s=start_s, stop_s=start_s + for_s)
    found = times(arrivals)
    assert (np.diff(found) >= 0).all()
    assert all(start_s <= at < start_s + for_s + 1e-6 for at in found)
    assert found.tolist() == times(arrivals).tolist()


def test_nobody_comes_where_the_rate_is_nothing():
    arrivals = Arrivals(10.0, over_time=(Steps(((100, 0.0), (200, 1.0))),), stop_s=300.0)
    found = times(arrivals)
    assert not ((found > 100.0001) & (found < 199.9999)).any()
    assert len(found) == pytest.approx(2000, abs=200)


def test_it_ends_by_itself_once_nobody_comes_any_more():
    arrivals = Arrivals(10.0, over_time=(Ramp(end=0, at_s=0, for_s=100), Diurnal()))
    assert times(arrivals).max() < 100.001
    assert not len(times(Arrivals(0.0)))


def test_it_goes_on_for_days_without_being_in_memory():
    chunks = Arrivals(0.001, over_time=(Diurnal(),)).times(np.random.default_rng(1))
    first = next(chunks)
    assert 0 < len(first) <= 64
    assert first[-1] > 86_400 / 4


def test_a_part_has_its_share_and_its_day():
    whole = Arrivals(10.0, over_time=(Diurnal(peak_hour=12),))
    part = whole.part(0.25, 6.0)
    assert part.rate_at(6 * 3600.0) == pytest.approx(whole.rate_at(12 * 3600.0) / 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Arrivals(-1.0),
        lambda: Arrivals(1.0, start_s=5, stop_s=4),
        lambda: GammaGaps(cv=0),
        lambda: WeibullGaps(shape=0.01),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ValueError, match=r".+\."):
        make()
