"""Which region a call goes to."""

import pytest

from underlay.control.regions import CHOICES, RegionSeen, Way

WAYS = [Way("near", 0.01), Way("middle", 0.05), Way("far", 0.4)]
UP = RegionSeen(ready=True, load=1, slots=10)
BUSY = RegionSeen(ready=True, load=9, slots=10)
DOWN = RegionSeen(ready=False)


def chosen(policy, near, middle, far):
    choice = CHOICES[policy](WAYS, {"near": near, "middle": middle, "far": far}, 0.25)
    return choice and choice.region


@pytest.mark.parametrize("policy", CHOICES)
def test_everybody_goes_to_the_nearest_while_all_are_alike(policy):
    assert chosen(policy, UP, UP, UP) == "near"


@pytest.mark.parametrize("policy", CHOICES)
def test_a_region_that_is_down_is_never_chosen(policy):
    assert chosen(policy, DOWN, UP, UP) == "middle"
    assert chosen(policy, DOWN, DOWN, UP) == "far"
    assert chosen(policy, DOWN, DOWN, DOWN) is None


def test_spill_leaves_a_busy_region_but_does_not_go_out_of_reach():
    assert chosen("nearest", BUSY, UP, UP) == "near"
    assert chosen("spill", BUSY, UP, UP) == "middle"
    assert chosen("spill", BUSY, BUSY._replace(load=10), UP) == "near"
    assert chosen("spill", UP._replace(waiting=1), UP, UP) == "middle"


def test_price_and_carbon_choose_among_regions_with_room():
    cheap, dear = UP._replace(usd_kwh=0.05, carbon_g_kwh=500), UP._replace(usd_kwh=0.2, carbon_g_kwh=20)
    assert chosen("cheapest", dear, cheap, cheap) == "middle"
    assert chosen("cheapest", dear, cheap._replace(load=9), cheap) == "near"
    assert chosen("greenest", cheap, dear, UP) == "middle"
    assert chosen("greenest", UP, dear, UP) == "middle"
    assert chosen("greenest", UP, UP, UP) == "near"
