import pytest
from tests.twin.fluid.worlds import world

from underlay.physics import power
from underlay.twin.fluid.flows import Run
from underlay.twin.fluid.grouped import Group


class Used:
    """A pool that has used so much."""

    busy_s = joules = 0.0


CURVE = power.find("h100-sxm", "llama-3.1-8b", 1, "bf16")


def test_a_group_draws_for_all_that_stand():
    pool = Used()
    group = Group("g", pool, CURVE)
    group.members = {"a": ([0], [1]), "b": ([0], [1]), "c": ([3], [1])}
    assert group.stand(0.0) == ([0, 3], [2, 1])
    pool.busy_s, pool.joules = 2.0, 900.0
    assert group.drawn(2.0) == pytest.approx((2.0, 2700.0))
    del group.members["c"]
    group.stand(2.0)
    pool.busy_s, pool.joules = 3.0, 1000.0
    assert group.drawn(3.0) == pytest.approx((3.0, 2900.0))


def test_slower_clocks_draw_less_above_idle():
    pool = Used()
    group = Group("g", pool, CURVE)
    group.members = {"a": ([0], [1])}
    group.stand(0.0)
    group.throttle(0.0, 1.3)
    pool.busy_s, pool.joules = 1.0, 500.0
    idle_j = CURVE.idle_w
    assert group.drawn(1.0)[1] == pytest.approx(idle_j + (500.0 - idle_j) * power.power_share(1.3))


def test_what_left_its_servers_draws_nothing_more(tmp_path, coarse):
    run = Run(world(tmp_path, duration="20 s"), 1)
    facility, crew = run.world.facility, run.world.operations
    run.go(lambda *_: None, lambda: False)
    at = run.world.kernel.at
    for name in list(crew.deployed):
        if name.startswith("chat-west"):
            crew.kill(name, at, "test")
    run.world.kernel.run(at + 10.0)
    placed = facility.feeders.servers.placed
    assert [name.split(" ")[-1].split("/")[0] for name in placed] == ["east"]
