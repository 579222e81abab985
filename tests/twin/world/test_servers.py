from __future__ import annotations

import numpy as np
import pytest
from tests.twin.world.sites import SERVER, Steady

from underlay.twin.world.servers import Servers


def test_a_replica_over_two_servers_draws_in_both_by_its_accelerators() -> None:
    servers = Servers([SERVER] * 3)
    servers.place("a", 0.0, [0, 1], [8, 4], Steady(1200))
    used = servers.use(10.0, 10.0)
    assert used.busy.tolist() == pytest.approx([8000, 4000, 0])
    assert used.idle.tolist() == pytest.approx([0, 4 * 90 * 10, 8 * 90 * 10])
    assert servers.on(np.array([1])) == ["a"]


def test_what_a_replica_drew_before_it_left_stays_drawn() -> None:
    servers = Servers([SERVER])
    servers.place("a", 0.0, [0], [8], Steady(1000))
    servers.use(10.0, 10.0)
    servers.remove("a", 15.0)
    assert servers.use(20.0, 10.0).busy.tolist() == pytest.approx([5000])
    assert servers.use(30.0, 10.0).busy.tolist() == [0]


def test_a_step_that_was_cut_off_stays_counted() -> None:
    servers, load = Servers([SERVER]), Steady(1000)
    servers.place("a", 0.0, [0], [8], load)
    assert servers.use(10.0, 10.0).busy[0] == pytest.approx(10_000)
    load.up, load.joules, load.busy_s = False, 4000.0, 4.0
    assert servers.use(20.0, 10.0).busy[0] == 0
    load.up, load.at = True, 20.0
    assert servers.use(30.0, 10.0).busy[0] == pytest.approx(10_000)


def test_a_replica_goes_as_slow_as_its_slowest_server() -> None:
    servers = Servers([SERVER] * 3)
    servers.place("a", 0.0, [0, 1], [8, 8], Steady())
    servers.place("b", 0.0, [2], [8], Steady())
    assert [(one.name, slow) for one, slow in servers.retimed(np.array([1.0, 1.4, 1.0]))] == [("a", 1.4)]
