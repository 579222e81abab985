from __future__ import annotations

import pytest

from underlay.physics.climate import HOUR_S, Climate, Clock


def mean_c(latitude: float, day: float) -> float:
    place = Climate(latitude, 0.0, Clock(day))
    return sum(place.temperature_c(hour * HOUR_S) for hour in range(24)) / 24


def test_it_is_warmer_by_day_in_summer_and_near_the_equator() -> None:
    place = Climate(40, 0, Clock(172))
    assert place.temperature_c(15 * HOUR_S) > place.temperature_c(3 * HOUR_S)
    assert mean_c(40, 200) > mean_c(40, 20)
    assert mean_c(-40, 200) < mean_c(-40, 20)
    assert mean_c(1, 100) > mean_c(60, 100)


def test_noon_comes_earlier_in_the_east() -> None:
    east, west = Climate(40, 90, Clock(172, 9)), Climate(40, 0, Clock(172, 9))
    assert east.temperature_c(0) == pytest.approx(west.temperature_c(6 * HOUR_S), abs=0.1)


def test_hours_that_are_given_take_the_place_of_the_model() -> None:
    place = Climate(40, 0, hourly_c=(10, 20))
    assert [place.temperature_c(hour * HOUR_S) for hour in (0, 0.5, 1, 1.5, 2)] == [10, 15, 20, 15, 10]
    assert (place.method, Climate(40, 0).method) == ("measured", "assumed")
