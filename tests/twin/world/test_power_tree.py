from __future__ import annotations

import numpy as np
import pytest
from tests.twin.world.sites import nodes

from underlay.domain.errors import NotFound
from underlay.twin.world.power_tree import PowerNode, PowerTree, Where, nodes_of
from underlay.twin.world.topology import Plan, Topology


def test_servers_are_found_under_every_place() -> None:
    tree = PowerTree(nodes())
    assert tree.servers(tree.find("west")).tolist() == list(range(8))
    assert tree.servers(tree.find("west/w2/h/r1")).tolist() == [4, 5]
    assert tree.find("west/w2") == Where("site", 1)
    with pytest.raises(NotFound, match="did you mean west/w2"):
        tree.find("west/w3")


def test_losses_add_up_on_the_way() -> None:
    tree = PowerTree(nodes(1, 2, 2))
    tree.rack_share[:] = 0.01
    tree.hall_share[:], tree.hall_fixed_w[:] = 0.05, 3.0
    climb = tree.climb(np.array([10.0, 20.0, 30.0, 40.0]), 2.0, np.array([True]))
    assert climb.rack_load.tolist() == [30, 70]
    assert climb.hall_load[0] == pytest.approx(101)
    assert climb.site_load[0] == pytest.approx(101 * 1.05 + 6)


def test_a_topology_becomes_a_tree() -> None:
    servers = Plan("s", 2, accelerator="h100-sxm", accelerators=8, cap_w=9000)
    topology = Topology([Plan("west", parts=[Plan("w", parts=[Plan("h", parts=[Plan("r", 3, parts=[servers])])])])])
    tree = PowerTree(nodes_of(topology))
    assert tree.counts == {"region": 1, "site": 1, "hall": 1, "rack": 3, "server": 6}
    assert tree.caps_w["server"].tolist() == [9000] * 6
    assert tree.paths["server"][3] == topology.servers[3].path


def test_a_tree_with_a_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="must stand in a hall"):
        PowerTree([PowerNode("west", -1, "region"), PowerNode("west/r1", 0, "rack")])
