from __future__ import annotations

from tests.twin.world.worlds import World, region

from underlay.twin.world.topology import Topology


def test_a_replica_comes_back_with_the_last_of_what_it_lost():
    world = World()
    world.add("chat", within="west/w/a/r1")
    server = world.topology.node(world.topology.servers[world.placement.slots["chat"][0].server].path)
    rack = world.outages.lose(world.topology.node("west/w/a/r1"), 0.0, "switch")
    card = world.outages.lose(server, 0.0, "memory", number=3)
    assert world.done("kill") == [(0.0, "chat", "switch")]
    world.outages.regain(rack, 0.0)
    assert world.outages.is_down("chat")
    assert world.done("restart") == []
    world.outages.regain(card, 0.0)
    assert world.done("restart") == [(0.0, "chat", None)]
    assert not world.outages.is_down("chat")


def test_an_accelerator_takes_only_its_own_replica():
    world = World(Topology([region("west", racks=1, servers=1)]))
    world.add("one", 4)
    world.add("two", 4)
    world.outages.lose(world.topology.servers[0], 0.0, "HBM", number=5)
    assert [to for _, to, _ in world.done("kill")] == ["two"]


def test_who_waits_too_long_moves_to_a_spare():
    world = World(spare_after_s=300.0)
    for number in range(3):
        world.add(f"r{number}", within="west")
    site = world.topology.node("west/w/a/r1")
    lost = world.outages.lose(site, 0.0, "switch")
    assert len(lost.hit) == 2
    world.kernel.run(299.0)
    assert world.done("restart") == []
    world.kernel.run(300.0)
    # One server of the region was free: one replica moves, the other waits.
    assert len(world.done("restart")) == 1
    moved = world.done("restart")[0][1]
    assert world.topology.servers[world.placement.slots[moved][0].server].path.startswith("west/w/a/r2")
    assert world.said == [(300.0, f"{moved} moved away from west/w/a/r1/s1 (switch)")] or "r1" in world.said[0][1]
    world.outages.regain(lost, 300.0)
    assert len(world.done("restart")) == 2


def test_nothing_starts_where_accelerators_cannot_be_had():
    world = World()
    for name, where in (("w", "west"), ("e", "east")):
        world.add(name, within=where)
    world.outages.hold("west")
    assert not world.outages.may_start("west/w/a")
    assert world.outages.may_start("east")
    world.outages.crash("w", 0.0, "bug")
    world.outages.crash("e", 0.0, "bug")
    assert [to for _, to, _ in world.done("restart")] == ["e"]
    world.outages.hold("west")
    world.outages.release("west", 0.0)
    assert len(world.done("restart")) == 1
    world.outages.release("west", 0.0)
    assert [to for _, to, _ in world.done("restart")] == ["e", "w"]


def test_who_is_barred_or_forgotten_does_not_come_back_with_the_hardware():
    world = World(spare_after_s=10.0)
    for name in ("good", "bad", "gone"):
        world.add(name, 2, within="west/w/a/r1/s1")
    bar = world.outages.bar(["bad"], 0.0, "bad version")
    lost = world.outages.lose(world.topology.node("west/w/a/r1/s1"), 0.0, "power")
    world.outages.forget("gone")
    world.placement.remove("gone")
    world.kernel.run(10.0)  # good and bad move; bad stays down
    assert [to for _, to, _ in world.done("restart")] == ["good"]
    world.outages.regain(lost, 10.0)
    assert len(world.done("restart")) == 1
    world.outages.regain(bar, 10.0)
    assert [to for _, to, _ in world.done("restart")] == ["good", "bad"]
