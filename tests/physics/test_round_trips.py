from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.domain.errors import NotFound
from underlay.physics.round_trips import (
    FIBRE_KM_S,
    Position,
    great_circle_km,
    line,
    position,
    positions,
    published,
    round_trip,
)

places = st.sampled_from(sorted(positions()))


def test_what_was_measured_is_told_as_such():
    trip = round_trip("azure/westus2", "azure/westeurope")
    assert (trip.method, trip.seconds) == ("measured", pytest.approx(0.1435))
    assert round_trip("azure/westeurope", "azure/westus2") == trip
    assert round_trip("azure/eastus", "azure/eastus").method == "assumed"


@pytest.mark.parametrize(
    ("origin", "goal", "measured_ms"),
    # cloudping.co, April 2024: pairs that the model has not seen.
    [
        ("us-west-2", "ap-southeast-2", 140.5),
        ("ap-northeast-2", "eu-west-2", 248.7),
        ("ap-northeast-2", "us-west-1", 132.6),
        ("eu-west-2", "eu-west-3", 10.3),
    ],
)
def test_the_model_is_within_what_it_says(origin, goal, measured_ms):
    trip = round_trip(f"aws/{origin}", f"aws/{goal}")
    assert trip.method == "modelled"
    assert trip.seconds * 1e3 == pytest.approx(measured_ms, rel=trip.error)


def test_the_line_is_fitted_to_the_published_pairs():
    assert len(published()) >= 272
    assert line().fixed_s == pytest.approx(4.3e-3, rel=0.1)
    # Slower than light in fibre, as cables do not follow great circles.
    assert 1.3 < line().km_s * FIBRE_KM_S / 2 < 2.0
    assert 0.3 < line().error < 0.6


@quick
@given(places, places)
def test_no_way_is_shorter_than_light_takes_nor_differs_by_direction(origin, goal):
    trip = round_trip(origin, goal)
    assert trip.seconds == pytest.approx(round_trip(goal, origin).seconds)
    assert trip.seconds >= 2.0 * great_circle_km(position(origin), position(goal)) / FIBRE_KM_S * 0.99


def test_places_may_be_positions_and_far_from_any_region():
    assert great_circle_km(Position(52.52, 13.405), Position(48.857, 2.352)) == pytest.approx(878, abs=2)
    lonely = round_trip(Position(-54.8, -68.3), "azure/uksouth")  # Ushuaia
    assert (lonely.method, lonely.error) == ("modelled", line().error)
    assert round_trip("gcp/us-east4", "aws/us-east-1").seconds < 0.01
    with pytest.raises(NotFound, match="did you mean azure/westeurope"):
        position("azure/westeuropa")
