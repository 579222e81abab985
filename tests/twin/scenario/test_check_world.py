"""Worlds that cannot stand as they are drawn."""

import pytest


@pytest.mark.parametrize(
    ("text", "where", "setting", "said"),
    [
        (
            "world: {regions: [{name: a, like: azure/westeurop}]}\n",
            "s.yaml:1:35",
            "world.regions.0.like",
            "no region is called 'azure/westeurop'; did you mean 'azure/westeurope'?",
        ),
        (
            "world: {servers: [{accelerator: h100-sx}]}\n",
            "s.yaml:1:33",
            "world.servers.0.accelerator",
            "no accelerator is called 'h100-sx'; did you mean 'h100-sxm'?",
        ),
        (
            "world: {regions: [{name: a, like: azure/eastus}, {name: a, like: azure/eastus}]}\n",
            "s.yaml:1:57",
            "world.regions.1.name",
            "another region is called 'a' already",
        ),
        (
            "world: {regions: [{name: a, servers: 1, sites: [{halls: [{racks: 1}]}]}]}\n",
            "s.yaml:1:38",
            "world.regions.0.servers",
            "say servers or sites, not both",
        ),
        (
            "world: {regions: [{name: a, server: hxg}]}\n",
            "s.yaml:1:37",
            "world.regions.0.server",
            "no kind of server is called 'hxg'; did you mean 'hgx'?",
        ),
        (
            "world: {regions: [{name: a}, {name: b, like: azure/eastus}]}\n",
            "s.yaml:1:30",
            "world.regions.1",
            "how far is it from b to a? Say where they lie (like:), or write links.round_trips",
        ),
        (
            "world: {regions: [{name: a, sites: [{halls: [{racks: 1}, {racks: 2}]}]}]}\n",
            "s.yaml:1:58",
            "world.regions.0.sites.0.halls.1.name",
            "There are two places a/site/hall: each needs its own name.",
        ),
        (
            "world: {regions: [{name: a, servers: 4, power_cap: 1 kW}]}\n",
            "s.yaml:1:52",
            "world.regions.0.power_cap",
            "a may draw 1,000 W, but draws",
        ),
        (
            "faults: [{kind: outage, at: 20 min, where: home}]\n",
            "s.yaml:1:29",
            "faults.0.at",
            "the run is over at 600 s",
        ),
        (
            "faults: [{kind: outage, at: 1, where: hom}]\n",
            "s.yaml:1:39",
            "faults.0.where",
            "There is no place 'hom'; did you mean home?",
        ),
        (
            "faults: [{kind: crash, at: 1, where: chat-hme-*}]\n",
            "s.yaml:1:38",
            "faults.0.where",
            "no place or replica is called 'chat-hme-*'; did you mean 'chat-home-1'?",
        ),
        (
            "faults: [{kind: congestion, at: 1, where: home/wlan}]\n",
            "s.yaml:1:43",
            "faults.0.where",
            "home has no link 'wlan'; did you mean wan?",
        ),
        (
            "faults: [{kind: powre, at: 1, where: home}]\n",
            "s.yaml:1:10",
            "faults.0",
            "kind must be 'shortage', 'outage', 'power'",
        ),
        (
            "faults: [{kind: power, at: 1, where: home, lef: 0.5}]\n",
            "s.yaml:1:44",
            "faults.0.lef",
            "unknown key; did you mean 'left'?",
        ),
    ],
)
def test_a_world_that_cannot_be(refused, text, where, setting, said):
    found = refused(text)
    assert [(place, named) for place, named, _ in found] == [(where, setting)]
    assert said in found[0][2]
