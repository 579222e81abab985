from __future__ import annotations

import pytest
from tests.twin.world.worlds import KIND, WEIGHTS, World, region

from underlay.physics.storage import engine_start
from underlay.twin.world.storage import StartSettings, Weights
from underlay.twin.world.topology import Topology

INITIALISE_S = engine_start().initialise_s(WEIGHTS.layers)
FETCH_S = WEIGHTS.bytes / 8.003e9
LOAD_S = WEIGHTS.bytes / engine_start().load_bytes_s


def storm(replicas: int, accelerators: int = 8, **more) -> World:
    world = World(Topology([region("west", racks=4, servers=4)]), **more)
    for number in range(replicas):
        world.add(f"r{number}", accelerators)
        world.starts.begin(f"r{number}", 0.0, WEIGHTS)
    return world


def test_one_start_is_its_three_phases():
    world = storm(1)
    assert world.starts.phase("r0") == "fetching"
    world.kernel.run(FETCH_S + 0.1)
    assert world.starts.phase("r0") == "loading"
    world.kernel.run(FETCH_S + LOAD_S + 0.1)
    assert world.starts.phase("r0") == "initialising"
    world.kernel.run()
    (done,) = world.starts.started
    assert (done.fetch_s, done.load_s) == (pytest.approx(FETCH_S, abs=0.01), pytest.approx(LOAD_S, abs=0.01))
    assert (done.initialise_s, done.fetched_bytes) == (pytest.approx(INITIALISE_S), WEIGHTS.bytes)
    assert world.done("ready") == [(pytest.approx(FETCH_S + LOAD_S + INITIALISE_S, abs=0.02), "r0", None)]
    assert world.starts.phase("r0") is None


def test_a_storm_shares_the_store():
    world = storm(16, object_store=16e9)
    world.kernel.run()
    fetches = [done.fetch_s for done in world.starts.started]
    assert fetches == pytest.approx([16 * WEIGHTS.bytes / 16e9] * 16, abs=0.01)
    assert world.links.link("west/object-store").carried_bytes == pytest.approx(16 * WEIGHTS.bytes)


def test_what_was_fetched_stays_until_the_server_is_replaced():
    world = storm(1)
    world.kernel.run()
    server = world.placement.slots["r0"][0].server
    world.starts.begin("r0", world.kernel.at, WEIGHTS)
    world.kernel.run()
    assert (world.starts.started[1].fetch_s, world.starts.started[1].fetched_bytes) == (0.0, 0.0)
    world.starts.forget(server)
    world.starts.begin("r0", world.kernel.at, WEIGHTS)
    world.kernel.run()
    assert world.starts.started[2].fetched_bytes == WEIGHTS.bytes


def test_two_on_one_server_wait_for_one_fetch_also_if_the_first_gives_up():
    world = World(Topology([region("west", racks=1, servers=1)]))
    for name in ("one", "two"):
        world.add(name, 4)
        world.starts.begin(name, 0.0, WEIGHTS)
    world.starts.cancel("one")
    world.kernel.run()
    assert [done.replica for done in world.starts.started] == ["two"]
    assert world.links.link("west/object-store").carried_bytes == pytest.approx(WEIGHTS.bytes)


def test_who_gives_up_leaves_nothing_behind():
    world = storm(2)
    world.kernel.run(0.5)
    world.starts.cancel("r0")
    world.starts.cancel("nobody")
    world.kernel.run(1.0)
    world.starts.begin("r1", 1.0, WEIGHTS)  # again, from the beginning
    world.kernel.run()
    assert [done.began_at for done in world.starts.started] == [1.0]
    assert world.links.streams == 0


def test_a_replica_on_several_servers_waits_for_all_and_splits_the_weights():
    world = World(Topology([region("west", racks=1, servers=2)]))
    world.placement.place("huge", 16, KIND)
    world.starts.begin("huge", 0.0, WEIGHTS)
    world.kernel.run()
    (done,) = world.starts.started
    assert done.fetch_s == pytest.approx(FETCH_S / 2, abs=0.01)
    assert done.fetched_bytes == pytest.approx(WEIGHTS.bytes)


def test_full_drives_forget_what_was_used_longest_ago():
    small = StartSettings(cache_bytes=2.5 * WEIGHTS.bytes, initialise_s=1.0)
    world = World(Topology([region("west", racks=1, servers=1)]), start=small)
    world.add("r0")
    for name in ("a", "b", "a", "c", "a", "b"):
        world.starts.begin("r0", world.kernel.at, WEIGHTS._replace(name=name))
        world.kernel.run()
    assert [done.fetched_bytes > 0 for done in world.starts.started] == [True, True, False, True, False, True]
    assert world.starts.started[0].initialise_s == 1.0


def test_weights_that_are_there_are_not_fetched_and_storage_is_another_way():
    world = storm(1, start=StartSettings(source="disk"))
    world.kernel.run()
    assert world.starts.started[0].fetch_s == 0.0
    world = storm(8, start=StartSettings(source="storage"))
    world.kernel.run()
    assert world.starts.started[0].fetch_s == pytest.approx(8 * WEIGHTS.bytes / 57.5e9, abs=0.01)
    assert Weights.of("llama-3.1-8b", "fp8").bytes < WEIGHTS.bytes
