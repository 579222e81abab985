import numpy as np
import pytest

from underlay.twin.crowd.spreads import Exponential, Fixed, Gamma, Geometric, Lognormal, Quantiles, whole


def drawn(spread, count=40_000):
    return spread.draw(count, np.random.default_rng(7))


@pytest.mark.parametrize(
    ("spread", "cv"),
    [
        (Fixed(30.0), 0.0),
        (Exponential(mean=30.0), 1.0),
        (Geometric(mean=30.0), np.sqrt(1 - 1 / 30)),
        (Lognormal(mean=30.0, cv=1.5), 1.5),
        (Gamma(mean=30.0, cv=0.7), 0.7),
    ],
)
def test_mean_and_variation_come_out(spread, cv):
    sample = drawn(spread)
    assert sample.mean() == pytest.approx(30.0, rel=0.03)
    assert sample.std() / sample.mean() == pytest.approx(cv, rel=0.06, abs=1e-9)


def test_cuts_hold():
    sample = drawn(Lognormal(mean=100, cv=3, low=20, high=500))
    assert (sample.min(), sample.max()) == (20, 500)


def test_quantiles_come_back():
    table = Quantiles(shares=(0.1, 0.5, 0.9), values=(10.0, 50.0, 200.0))
    sample = drawn(table)
    assert np.quantile(sample, [0.1, 0.3, 0.5, 0.7, 0.9]) == pytest.approx([10, 30, 50, 125, 200], rel=0.05)
    assert (sample.min(), sample.max()) == (10, 200)


def test_tokens_are_whole_and_at_least_one():
    assert whole(np.array([0.0, 0.6, 2.5, 7.2])).tolist() == [1, 1, 2, 7]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fixed(-1.0),
        lambda: Exponential(mean=0),
        lambda: Geometric(mean=0.5),
        lambda: Lognormal(mean=5, cv=0),
        lambda: Gamma(mean=5, low=9, high=8),
        lambda: Quantiles(shares=(0.5, 0.5), values=(1.0, 2.0)),
        lambda: Quantiles(shares=(0.5, 0.6), values=(3.0, 2.0)),
        lambda: Quantiles(shares=(), values=()),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ValueError, match=r".+\."):
        make()
