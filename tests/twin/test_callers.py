"""Callers: from a crowd through a door into a platform, and into the records."""

from __future__ import annotations

import pytest
from tests.support.replacing import replace

from underlay.domain.policy import DeskSettings, ModelPolicy
from underlay.physics import profiles
from underlay.twin.callers import NO_ANSWER_S, Callers
from underlay.twin.crowd.call import Call
from underlay.twin.engine import PagedRules
from underlay.twin.kernel import Kernel
from underlay.twin.modelled import Modelled
from underlay.twin.platform import Platform
from underlay.twin.records import OUTCOMES

TIMES = profiles.find("h100-sxm", "llama-3.1-8b", "tp1", "bf16").coefficients


class Scripted:
    """Calls at given times, each by its own tenant, and no more of any of them."""

    follows = False

    def __init__(self, *times):
        self._times = times

    def calls(self, _dice):
        for number, at in enumerate(self._times):
            yield Call(at, 500, 20, tenant=f"tenant {number % 2}")


class Door:
    """The way to each region; without any nobody gets in."""

    def __init__(self, **ways):
        self.ways = ways

    def choose(self, _place, _model):
        return next(iter(self.ways.items()), None)

    def change(self, _at, ways):
        self.ways = ways


class World:
    """Platforms of one replica each, and callers before them; where and when calls came to a door."""

    def __init__(self, door, *times, regions=("west",)):
        self.kernel = Kernel(7)
        self.at_door = []
        self.platforms = {}
        for region in regions:
            settings = DeskSettings(models=(ModelPolicy("m"),))
            platform = self.platforms[region] = Platform(self.kernel, settings, {}, self._ended, name=region)
            platform.add(Modelled(f"{region}-1", "m", PagedRules(blocks=2000), TIMES))
            platform.start(0.0, f"{region}-1")
            replace(platform, "arrive", self._noting(platform))
        crowds = [Scripted(*times)]
        self.callers = Callers(self.kernel, self.platforms, crowds, door, duration_s=100.0, model="m")

    def _noting(self, platform):
        arrive = platform.arrive

        def noted(at, call, *more):
            self.at_door.append((platform.name, at))
            arrive(at, call, *more)

        return noted

    def _ended(self, platform, exchange, outcome, at):
        self.callers.ended(platform, exchange, outcome, at)

    def run(self):
        self.kernel.run()
        return self.callers.requests


@pytest.mark.parametrize("regions", [("west",), ("west", "east")])
def test_a_call_is_at_the_door_one_way_after_it_left_however_many_regions_there_are(regions):
    world = World(Door(west=0.5), 1.0, 2.0, 2.25, regions=regions)
    requests = world.run()
    assert world.at_door == [("west", 1.5), ("west", 2.5), ("west", 2.75)]
    assert requests.column("arrived_s").tolist() == [1.0, 2.0, 2.25]
    prefill_s = TIMES.prefill_s(500)
    assert requests.column("ttft_s")[0] == pytest.approx(0.5 + prefill_s + 0.5)  # there and back


def test_a_longer_way_holds_up_every_call_that_is_not_at_the_door_yet():
    door = Door(west=0.5)
    world = World(door, 1.0, 2.0, 4.0)
    world.kernel.call(2.2, door.change, {"west": 1.0})
    world.run()
    assert world.at_door == [("west", 1.5), ("west", 3.0), ("west", 5.0)]


def test_a_shorter_way_is_taken_from_the_call_after_the_next_on():
    door = Door(west=0.5)
    world = World(door, 1.0, 2.0, 4.0)
    world.kernel.call(1.7, door.change, {"west": 0.25})
    world.run()
    assert world.at_door == [("west", 1.5), ("west", 2.5), ("west", 4.25)]


@pytest.mark.parametrize("regions", [("west",), ("west", "east")])
def test_who_finds_no_way_gives_up_after_a_while_and_the_next_one_tries_all_the_same(regions):
    door = Door()
    world = World(door, 1.0, 2.0, regions=regions)
    world.kernel.call(1.5, door.change, {"west": 0.0})
    requests = world.run()
    outcomes = [OUTCOMES[place] for place in requests.column("outcome")]
    assert outcomes == ["failed", "finished"]
    assert requests.column("e2e_s")[0] == NO_ANSWER_S
    assert world.at_door == [("west", 2.0)]


def test_every_name_in_the_records_stands_for_what_it_was():
    requests = World(Door(west=0.0), 1.0, 2.0, 3.0).run()
    tenants = [requests.names["tenant"][place] for place in requests.column("tenant")]
    assert tenants == ["tenant 0", "tenant 1", "tenant 0"]
    assert requests.names["region"] == ["west"]
    assert requests.names["model"] == ["m"]
