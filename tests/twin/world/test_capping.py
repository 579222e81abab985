from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.twin.world.sites import Steady, World, nodes

from underlay.twin.world.capping import RELEASE


def busy(world: World, watts: float = 4500.0) -> World:
    for server in range(world.facility.feeders.tree.counts["server"]):
        world.place(f"r{server}", [server], Steady(watts))
    return world


@pytest.mark.parametrize("path", ["west", "west_w1", "west_w1_h", "west_w1_h_r1", "west_w1_h_r1_s1"])
def test_every_level_comes_under_its_cap_and_stays_there(path) -> None:
    free = busy(World(nodes()))
    free.run(to=20)
    cap_w = 0.8 * free.facility.watts(path.replace("_", "/"))
    world = busy(World(nodes(**{path: cap_w})))
    world.run(to=60)
    told = len(world.told)
    assert RELEASE * cap_w <= world.facility.watts(path.replace("_", "/")) <= cap_w
    world.run(to=600)
    assert len(world.told) == told  # a steady load is told once and left alone


def test_all_under_one_cap_are_slowed_alike_and_nobody_else() -> None:
    world = busy(World(nodes(west_w1=20e3)))
    world.run(to=60)
    slow = {name: load.slowdown for name, load in world.loads.items()}
    assert len({slow[f"r{server}"] for server in range(4)}) == 1
    assert slow["r0"] > 1.0 == slow["r4"]


def test_a_feed_that_is_whole_again_lets_everybody_go() -> None:
    world = busy(World(nodes()))
    world.run(to=20)
    world.facility.feed(20, "west/w1", 0.5)
    world.run(to=60)
    assert {load.slowdown for load in world.loads.values()} != {1.0}
    world.facility.feed(60, "west/w1", 1.0)
    world.run(to=80)
    assert {load.slowdown for load in world.loads.values()} == {1.0}


def test_less_load_gives_room_back() -> None:
    world = busy(World(nodes(west_w1=22e3)))
    world.run(to=60)
    before = world.loads["r1"].slowdown
    for server in (2, 3):
        world.loads[f"r{server}"].busy = 0.0
    world.run(to=200)
    assert world.loads["r1"].slowdown < before


@quick
@given(st.floats(0.4, 1.1), st.floats(0.4, 1.1), st.floats(0.4, 1.1))
def test_a_lower_cap_never_makes_anybody_quicker(lower, higher, rack) -> None:
    lower, higher = sorted((lower, higher))
    slow = []
    for part in (lower, higher):
        world = busy(World(nodes(west_w1=28e3 * part, west_w1_h_r1=14e3 * rack)))
        world.run(to=150)
        slow.append([world.loads[f"r{server}"].slowdown for server in range(8)])
    assert all(tight >= loose - 0.0201 for tight, loose in zip(*slow, strict=True))


def uneven(world: World, watts: list[float]) -> World:
    for server, each in enumerate(watts):
        world.place(f"r{server}", [server], Steady(each))
    return world


@quick
@given(st.lists(st.floats(1000, 5500), min_size=8, max_size=8), st.floats(0.5, 0.95))
def test_uneven_loads_settle_too(watts, part) -> None:
    free = uneven(World(nodes()), watts)
    free.run(to=20)
    cap_w = free.facility.watts("west/w2") * part
    world = uneven(World(nodes(west_w2=cap_w)), watts)
    world.run(to=200)
    told = len(world.told)
    world.run(to=400)
    assert len(world.told) == told
    slowest = world.loads["r4"].slowdown == 3.0
    assert slowest or world.facility.watts("west/w2") <= cap_w


def test_a_place_that_cannot_be_slowed_enough_says_so_once() -> None:
    world = busy(World(nodes(west_w1=5e3)))
    world.run(to=200)
    said = [text for _, text in world.facility.happenings if "as slow as they get" in text]
    assert len(said) == 1
    assert said[0].startswith("west/w1 draws")


def test_who_comes_where_it_is_tight_is_slowed_at_once() -> None:
    world = busy(World(nodes(west_w1=20e3)))
    world.run(to=60)
    world.facility.remove(60, "r0")
    newcomer = world.place("new", [0], Steady(4500))
    assert newcomer.slowdown > 1.0
