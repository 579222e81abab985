from __future__ import annotations

import pytest
from tests.twin.world.worlds import World, region

from underlay.domain.errors import NotFound
from underlay.physics.round_trips import LAST_MILE_S, round_trip
from underlay.twin.world.fabric import Fabric, LinkRates
from underlay.twin.world.links import Links
from underlay.twin.world.mistake import ScenarioMistake
from underlay.twin.world.topology import Plan, Topology


def test_links_are_made_when_they_are_asked_for():
    world = World()
    assert world.links.links == {}
    server = world.topology.node("west/w/a/r2/s1")
    path = [link.name for link in world.fabric.to_server(server, "object-store")]
    assert path == ["west/object-store", "west/w/fabric", "west/w/a/r2/uplink", "west/w/a/r2/s1/nic"]
    assert world.fabric.to_server(server, "storage")[0].name == "west/w/storage"
    assert world.fabric.link("west/w/a/r2").name == "west/w/a/r2/uplink"
    assert world.fabric.link("west~east") is world.fabric.link("east~west")
    assert world.fabric.link("west") is world.fabric.link("west/wan")


def test_the_way_between_regions_is_half_a_published_round_trip():
    world = World()
    half_s = 0.5 * round_trip("azure/westus2", "azure/westeurope").seconds
    assert half_s == pytest.approx(0.07175)
    assert world.fabric.call_s("west", "east") == pytest.approx(0.5 * LAST_MILE_S + half_s + 50e-6)
    assert world.fabric.call_s("west", "west") == pytest.approx(0.5 * LAST_MILE_S + 50e-6)
    # What ails the way out of the region near the caller does not concern who goes elsewhere.
    world.links.degrade(world.fabric.link("west"), added_s=1.0)
    assert world.fabric.call_s("west", "east") < 0.1
    assert world.fabric.call_s("east", "west") > 1.0


def test_round_trips_may_be_said_and_must_be_known():
    regions = [region("west"), region("east")]
    said = Fabric(Topology(regions), Links(World().kernel), LinkRates(), {("east", "west"): 0.04})
    assert (said.round_trip("west", "east").seconds, said.round_trip("west", "east").method) == (0.04, "assumed")
    with pytest.raises(ScenarioMistake, match="Say where west is"):
        Fabric(Topology(regions), Links(World().kernel))
    wrong = Plan("west", parts=region("x").parts, place="azure/westus9", steps=("regions", 0))
    with pytest.raises(ScenarioMistake, match="did you mean azure/westus") as caught:
        Fabric(Topology([wrong, region("east", "aws/eu-west-1")]), Links(World().kernel))
    assert caught.value.steps == ("regions", 0, "place")


@pytest.mark.parametrize(
    ("name", "says"),
    [("west/wlan", "did you mean wan"), ("west/w/a/x", "it has none"), ("mars~west", "no place 'mars'")],
)
def test_what_is_no_link_is_told(name, says):
    with pytest.raises(NotFound, match=says):
        World().fabric.link(name)
    with pytest.raises(ScenarioMistake, match=says):
        World().fabric.link(name, ("faults", 0))


def test_a_link_carries_something():
    with pytest.raises(ScenarioMistake, match="more than 0"):
        LinkRates(nic=0.0)
