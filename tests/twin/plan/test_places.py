import pytest
from tests.twin.plan.builders import question

from underlay.domain.errors import NotFound
from underlay.physics import grid
from underlay.twin.plan.places import farthest_s, places, reach, ways
from underlay.twin.plan.question import Candidate, Client


def test_a_region_has_what_was_published_for_it():
    (place,) = places(question(("azure/westus2",)))
    known = grid.region("azure/westus2")
    assert (place.pue.value, place.pue.method) == (known.pue, "modelled")
    assert (place.price.value, place.price.method) == (known.usd_kwh, "modelled")
    assert place.carbon.value == place.carbon.least == place.carbon.most == known.carbon_g_kwh  # a part of the US


def test_what_is_given_goes_before_and_counts_as_measured():
    given = Candidate("azure/westus2", usd_kwh=0.2, carbon_g_kwh=5.0, pue=1.5)
    (place,) = places(question((given,)))
    assert [known[:3] for known in (place.pue, place.carbon, place.price)] == [
        (1.5, "measured", "given"),
        (5.0, "measured", "given"),
        (0.2, "measured", "given"),
    ]
    (everywhere,) = places(question(usd_kwh=0.3))
    assert everywhere.price.value == 0.3


def test_what_nobody_published_is_assumed_and_says_so():
    (place,) = places(question(("azure/uksouth",)))
    assert (place.pue.method, place.price.method) == ("assumed", "assumed")
    assert 1.02 < place.pue.value < 1.6
    assert "no price published" in place.price.source
    assert place.price.least < place.price.value < place.price.most


def test_two_sources_of_one_zone_leave_a_range_around_the_figure():
    (place,) = places(question(("azure/francecentral",)))
    carbon = place.carbon
    assert carbon.least < carbon.value < carbon.most
    assert carbon.value**2 == pytest.approx(carbon.least * carbon.most)


def test_ways_are_from_each_client_to_each_region():
    asked = question(
        ("azure/westeurope", "azure/westus2"), clients=(Client("azure/uksouth", 3), Client("azure/westus2", 1))
    )
    found = ways(asked)
    assert found.shares == (0.75, 0.25)
    assert found.rtt_s[1][1] == 0.0
    assert found.rtt_s[0][0] < 0.03 < 0.1 < found.rtt_s[0][1]
    allowed = reach(found, 0.05)
    assert allowed == ((True, False), (False, True))
    assert farthest_s(found, allowed) == pytest.approx(found.rtt_s[0][0] + 0.02)
    assert ways(question()).rtt_s == ((0.0,),)


def test_who_is_not_known_is_told_what_was_perhaps_meant():
    with pytest.raises(NotFound, match="did you mean azure/westeurope"):
        places(question(("azure/westeurop",)))
    with pytest.raises(NotFound, match="did you mean azure/uksouth"):
        ways(question(clients=(Client("azure/uksout"),)))
