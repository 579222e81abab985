from __future__ import annotations

from collections import Counter
from math import sqrt

import pytest
from tests.twin.world.worlds import World, call_off, region

from underlay.physics.failure_rates import FailureRate, Repair, failure_rates
from underlay.twin.world.failures import Failures
from underlay.twin.world.topology import Topology

HOUR_S = 3600.0


def world_of(seed: int = 1, **more) -> tuple[World, Failures]:
    world = World(Topology([region("west", halls=2, racks=8, servers=8)]), seed=seed)
    for number in range(120):
        world.add(f"r{number}", 8, group="chat")
    failures = Failures(world.kernel, world.topology, world.outages, world.starts, **more)
    failures.begin(0.0)
    return world, failures


def test_as_many_break_as_published():
    world, failures = world_of(factor=100.0)
    # 1,024 accelerators; 19.7 failures per million accelerator-hours, racks and the site apart.
    per_hour = 1024 * 19.733e-6 + 16 * 9.23e-6 + 5.7e-6
    assert failures.per_s * HOUR_S == pytest.approx(100 * per_hour, rel=1e-3)
    world.kernel.run(400 * HOUR_S)
    expected = 400 * 100 * per_hour
    struck = sum(failures.counts.values())
    # A few strike what is out already and are none.
    assert 0.8 * expected < struck < expected + 4 * sqrt(expected)
    # The most frequent, whose victims are seldom out already (an accelerator is one of a thousand).
    faulty = 400 * 100 * 1024 * 6.97e-6
    assert abs(failures.counts["faulty GPU (incl. NVLink)"] - faulty) < 4 * sqrt(faulty) + 0.1 * faulty
    assert len(world.said) == struck


def test_all_is_back_when_nothing_breaks_any_more():
    world, failures = world_of(factor=300.0)
    world.kernel.run(100 * HOUR_S)
    failures.rates, failures._sums = (), []
    call_off(world.kernel, failures._strike)
    world.kernel.run()
    assert set(world.states.values()) == {"up"}
    assert not any(world.placement.is_out(server) for server in range(128))
    assert not any(world.placement.is_broken(server, n) for server in range(128) for n in range(8))


def test_equal_seeds_break_equal_things():
    runs = []
    for seed in (5, 5, 6):
        world, failures = world_of(seed, factor=50.0)
        world.kernel.run(50 * HOUR_S)
        runs.append((world.said, failures.counts))
    assert runs[0] == runs[1] != runs[2]


def rate(domain: str, counted: str) -> FailureRate:
    return FailureRate("it", domain, counted, 1.0 / HOUR_S, "assumed", "")


@pytest.mark.parametrize(
    ("domain", "counted", "hit"),
    [("accelerator", "accelerator", 1), ("server", "accelerator", 2), ("rack", "rack", 4), ("site", "site", 8)],
)
def test_each_takes_what_depends_on_it(domain, counted, hit):
    world = World(Topology([region("west", racks=2, servers=2)]))
    for number in range(8):
        world.add(f"r{number}", 4)
    ways = {domain: [Repair(domain, "replace", 1.0, 1e9, 0.0, "assumed", "")]}
    failures = Failures(
        world.kernel, world.topology, world.outages, world.starts, rates=[rate(domain, counted)], ways=ways
    )
    failures.begin(0.0)
    while not failures.counts:
        world.kernel.run(world.kernel.next_at())
    assert len(world.done("kill")) == hit


def test_a_crashed_process_starts_again_at_once():
    world = World(Topology([region("west", racks=1, servers=1)]))
    world.add("chat")
    failures = Failures(
        world.kernel, world.topology, world.outages, world.starts, rates=[rate("process", "accelerator")]
    )
    failures.begin(0.0)
    world.kernel.run(HOUR_S)
    assert len(world.done("kill")) == failures.counts["it"] > 0
    assert [at for at, _, _ in world.done("kill")] == [at for at, _, _ in world.done("restart")]


def test_a_replaced_server_has_to_fetch_again():
    world = World(Topology([region("west", racks=1, servers=1)]))
    world.add("chat")
    ways = {"server": [Repair("server", "replace", 1.0, HOUR_S, 0.0, "assumed", "")]}
    rates = [FailureRate("it", "server", "accelerator", 1e-5, "assumed", "")]
    Failures(world.kernel, world.topology, world.outages, world.starts, rates=rates, ways=ways).begin(0.0)
    while len(world.starts.started) < 3:
        world.kernel.run(world.kernel.next_at())
    assert all(done.fetched_bytes > 0 for done in world.starts.started)


def test_no_failures_without_a_factor():
    world, failures = world_of(factor=0.0)
    world.kernel.run()
    assert failures.counts == {}
    assert Counter(rate.domain for rate in failure_rates())["accelerator"] == 6
