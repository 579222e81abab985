from __future__ import annotations

import copy

import pytest
from tests.twin.world.worlds import KIND, region, two_regions

from underlay.domain.errors import NotFound
from underlay.twin.world.mistake import ScenarioMistake
from underlay.twin.world.topology import Plan, Topology


def test_places_have_paths_and_ranges_of_servers():
    world = two_regions(halls=2, racks=10, servers=4)
    assert (len(world.servers), world.accelerators) == (160, 1280)
    rack = world.node("east/w/a2/r03")
    assert [world.servers[number].path for number in rack.servers] == [f"east/w/a2/r03/s{n}" for n in range(1, 5)]
    assert (rack.accelerators, rack.up("hall").path, rack.up("region").place) == (
        32,
        "east/w/a2",
        "azure/westeurope",
    )
    assert [node.path for node in world.find("*/w/a?/r10")] == [
        "west/w/a1/r10", "west/w/a2/r10", "east/w/a1/r10", "east/w/a2/r10",
    ]  # fmt: skip
    assert len(list(world.at_level("hall"))) == 4
    with pytest.raises(ValueError, match="not in a server"):
        rack.up("server")


def test_every_accelerator_is_found_again():
    world = Topology(
        [
            Plan("a", parts=[Plan("b", parts=[Plan("c", parts=[Plan("d", parts=[
                Plan("s", 2, accelerator=KIND, accelerators=8),
                Plan("t", 3, accelerator="l4", accelerators=1),
            ])])])])
        ]
    )  # fmt: skip
    found = [world.server_of_accelerator(number) for number in range(world.accelerators)]
    assert [(server.name, number) for server, number in found[6:]] == [
        ("s1", 6), ("s1", 7), *(("s2", n) for n in range(8)), ("t1", 0), ("t2", 0), ("t3", 0),
    ]  # fmt: skip


def test_a_hundred_thousand_accelerators_and_no_copies_in_a_snapshot():
    world = two_regions(halls=8, racks=98, servers=8)
    assert world.accelerators == 100_352
    assert copy.deepcopy(world) is world
    assert copy.deepcopy(world.node("west")) is world.node("west")


def test_an_unknown_place_tells_what_was_meant():
    with pytest.raises(NotFound, match="did you mean west/w/a/r2"):
        two_regions().node("west/w/a/r9")
    with pytest.raises(ScenarioMistake, match="regions are west, east") as caught:
        two_regions().node("mars", ("faults", 0, "where"))
    assert caught.value.steps == ("faults", 0, "where")


SERVER = Plan("s", accelerator=KIND, accelerators=8, idle_w=1500.0, steps=("world", "s"))


def around(server: Plan, **more) -> list[Plan]:
    rack = Plan("r", parts=[server], steps=("world", "r"), **more)
    return [Plan("west", parts=[Plan("w", parts=[Plan("a", parts=[rack])])])]


@pytest.mark.parametrize(
    ("plans", "steps", "says"),
    [
        ([], (), "at least one region"),
        ([Plan("west", steps=("world",))], ("world",), "region west is empty"),
        (
            [region("west"), Plan("west", parts=region("x").parts, steps=("two",))],
            ("two", "name"),
            "two places west",
        ),
        (around(Plan("s", 0, accelerator=KIND, accelerators=8, steps=("s",))), ("s", "count"), "at least 1"),
        (around(Plan("s", accelerator=KIND, steps=("s",))), ("s", "accelerators"), "at least 1 to serve"),
        (around(Plan("s", accelerator="h100-smx", accelerators=8, steps=("s",))), ("s", "accelerator"), "h100-sxm"),
        (around(Plan("S 1", accelerator=KIND, accelerators=8)), ("name",), "no name for a server"),
        (around(SERVER, cap_w=1000.0), ("world", "r", "cap_w"), "draws 1,500 W with nothing running"),
        (around(SERVER, cap_w=-1.0), ("world", "r", "cap_w"), "above 0"),
        (around(SERVER, place="azure/eastus"), ("world", "r", "place"), "give it to its region"),
        (around(SERVER, accelerators=8), ("world", "r", "accelerator"), "give them to its servers"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(plans, steps, says):
    with pytest.raises(ScenarioMistake, match=says) as caught:
        Topology(plans)
    assert caught.value.steps == steps
    assert str(caught.value).startswith(".".join(map(str, steps)))


def test_idle_power_adds_up_only_where_all_say_it():
    assert Topology(around(SERVER)).node("west").idle_w == 1500.0
    assert two_regions().node("west").idle_w is None
