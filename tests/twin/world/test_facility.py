from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.twin.world.sites import SERVER, Steady, World, nodes

from underlay.domain.errors import NotFound
from underlay.physics.climate import Clock
from underlay.physics.power_chain import chain
from underlay.twin.world import energy_book as book
from underlay.twin.world.site_supply import SHUTDOWN_C, SiteSupply, supply

LEAVES = (book.BUSY, book.IDLE, book.HOST, book.CHAIN, book.COOLING)


def account(world: World, name: str, place: str = "") -> float:
    return next(one.value for one in world.facility.accounts() if (one.name, one.place) == (name, place))


def test_the_leaves_the_losses_and_cooling_are_what_the_feeders_delivered() -> None:
    world = World(nodes())
    world.place("a", [0], Steady(4000, busy=0.5))
    world.place("b", [1, 2], Steady(2500), each=2)
    world.run(to=35)
    world.facility.trip(37.5, "west/w2/h/r1", "a breaker")
    world.run(to=95)
    world.facility.remove(95, "b")
    world.run(to=200)
    world.facility.settle(203.25)
    assert sum(map(world.joules, LEAVES)) == pytest.approx(world.joules(book.FEEDER), rel=1e-12)
    assert world.joules(book.BUSY) == pytest.approx(203.25 * 0.5 * 4000 + 95 * 2500, rel=1e-12)


@quick
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["place", "remove", "trip", "restore", "settle", "cool"]),
            st.integers(0, 7),
            st.floats(0, 30),
        ),
        max_size=25,
    )
)
def test_the_sums_close_whatever_happens(steps) -> None:
    world = World(nodes())
    for number, (what, server, wait_s) in enumerate(steps):
        world.run(to=world.kernel.at + wait_s)
        at, facility = world.kernel.at, world.facility
        path = facility.feeders.tree.paths["server"][server]
        if what == "place":
            world.place(f"r{number}", [server], Steady(200 + 70 * number, 90), each=1)
        elif what == "remove" and facility.feeders.servers.placed:
            facility.remove(at, next(iter(facility.feeders.servers.placed)))
        elif what == "trip":
            facility.trip(at, path)
        elif what == "restore":
            facility.restore(at, path)
        elif what == "cool":
            facility.fail_cooling(at, "west/w1", server / 7)
        else:
            facility.settle(at)
    world.facility.settle(world.kernel.at)
    assert sum(map(world.joules, LEAVES)) == pytest.approx(world.joules(book.FEEDER), rel=1e-9, abs=1e-6)
    assert world.joules(book.BUSY) == pytest.approx(sum(load.joules for load in world.loads.values()), rel=1e-9)


def test_idle_accelerators_draw_what_nobody_uses() -> None:
    world = World(nodes(1, 1, 1))
    world.place("a", [0], Steady(2000, busy=0.25), each=4)
    world.run(to=100)
    assert world.joules(book.IDLE) == pytest.approx(90 * (8 - 4 * 0.25) * 100)
    assert world.joules(book.HOST) == pytest.approx(
        (1000 + 200 * 0.125) * 100 + 0.09 * (world.joules(book.IDLE) + world.joules(book.BUSY))
    )


def test_a_quiet_world_makes_no_more_of_it_than_it_is() -> None:
    world = World(nodes(), ups="none")
    world.run(to=100)
    told = world.facility.sample()
    assert told["west.power_w"] == pytest.approx(told["west/w1.power_w"] + told["west/w2.power_w"])
    assert 1.0 < told["west.pue"] < 1.5
    assert world.facility.watts("west/w1/h/r1/s1") == pytest.approx(1000 + 720 * 1.14)


def test_a_tripped_place_is_dark_and_its_replicas_are_told_once() -> None:
    world = World(nodes())
    for server in range(8):
        world.place(f"r{server}", [server])
    world.run(to=20)
    assert world.facility.trip(20, "west/w1", "utility") == ["r0", "r1", "r2", "r3"]
    assert world.facility.trip(20, "west/w1") == []
    assert world.facility.trip(20, "west/w1/h/r1/s1") == []  # dark already
    assert [name for _, name, _ in world.lost] == ["r0", "r1", "r2", "r3"]
    world.run(to=40)
    assert world.facility.watts("west/w1") == 0
    assert world.facility.watts("west/w2") > 0
    world.facility.restore(40, "west/w1")
    assert [world.facility.has_power(server) for server in (0, 1)] == [False, True]
    world.run(to=60)
    assert world.facility.watts("west/w1") > 0


def test_carbon_water_and_money_follow_the_feeder() -> None:
    world = World(nodes())
    world.facility.tick_s = 900
    world.place("a", [0])
    world.run(to=86_400)
    kwh = account(world, "energy_feeder")
    assert account(world, "carbon") == pytest.approx(400 * kwh, rel=0.02)
    assert account(world, "electricity_cost", "west") == pytest.approx(0.1 * kwh)
    assert account(world, "water_off_site") == pytest.approx(2 * kwh)
    assert account(world, "energy_feeder") / account(world, "energy_it") > 1


def test_what_nobody_said_is_not_accounted() -> None:
    world = World(nodes(), SiteSupply(chain()))
    world.run(to=100)
    assert {one.name for one in world.facility.accounts()} == {
        "accelerators_busy", "accelerators_idle", "host", "power_chain_loss", "energy_it", "energy_feeder",
        "host_active", "accelerator_hours",
    }  # fmt: skip


@pytest.mark.parametrize("like", ["azure/westus2", "aws/ap-southeast-1", "gcp/europe-west4"])
def test_a_site_like_a_published_one_has_nearly_its_pue(like) -> None:
    peak_w = SERVER.peak_w * 4
    years = [World(nodes(), supply(like, peak_w, Clock(day))) for day in (20, 110, 200, 290)]
    for world in years:
        for server in range(8):
            world.place(f"r{server}", [server], Steady(4200))
        world.facility.tick_s = 1800
        world.run(to=86_400)
    it, feeder = (sum(world.joules(kind) for world in years) for kind in (book.IT, book.FEEDER))
    published = years[0].facility.feeders.sites[0].supply.pue
    assert feeder / it == pytest.approx(published, abs=0.02)


def test_lost_cooling_warms_slows_and_shuts_down() -> None:
    world = World(nodes(1))
    for server in range(4):
        world.place(f"r{server}", [server], Steady(5000))
    world.facility.fail_cooling(0, "west/w1", 1.0)
    world.run(to=1800)
    slowed, lost = world.told[0][0], world.lost[0][0]
    assert 60 < slowed < lost < 1800
    assert world.facility.sample()["west/w1.inlet_c"] >= SHUTDOWN_C
    assert "40 C" in world.lost[0][2]
    assert len(world.lost) == 4


def test_half_the_cooling_is_enough_for_slower_clocks() -> None:
    world = World(nodes(1))
    for server in range(4):
        world.place(f"r{server}", [server], Steady(5000))
    world.facility.fail_cooling(0, "west", 0.5)
    world.run(to=7200)
    assert world.told
    assert not world.lost
    assert max(factor for *_, factor in world.told) <= 3.0
    world.facility.fail_cooling(7200, "west", 0.0)
    world.run(to=14_400)
    assert all(load.slowdown == 1.0 for load in world.loads.values())


def test_part_of_a_feed_caps_and_none_of_it_trips() -> None:
    world = World(nodes(1))
    for server in range(4):
        world.place(f"r{server}", [server], Steady(5000))
    world.run(to=30)
    whole_w = world.facility.feeders.whole_w("site", 0)
    world.facility.feed(30, "west/w1", 0.6)
    world.run(to=100)
    assert world.facility.watts("west/w1") <= 0.6 * whole_w
    world.facility.feed(100, "west/w1", 0.0)
    assert len(world.lost) == 4
    world.facility.feed(110, "west/w1", 1.0)
    assert world.facility.has_power(0)


def test_a_snapshot_goes_on_the_same() -> None:
    world = World(nodes(west_w1=30e3))
    for server in range(8):
        world.place(f"r{server}", [server])
    world.run(to=25)
    copy = deepcopy(world)
    for one in (world, copy):
        one.run(to=300)
    assert copy.told == world.told
    assert copy.facility.accounts() == world.facility.accounts()


def test_bad_orders_are_refused() -> None:
    world = World(nodes())
    with pytest.raises(NotFound, match="west/w2"):
        world.facility.trip(0, "west/w3")
    with pytest.raises(ValueError, match="share"):
        world.facility.feed(0, "west/w1", 1.5)
    with pytest.raises(ValueError, match="hall"):
        world.facility.fail_cooling(0, "west/w1/h", 0.5)
    world.place("a", [0])
    with pytest.raises(ValueError, match="already"):
        world.place("a", [1])
