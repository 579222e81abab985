from dataclasses import replace

from tests.twin.plan.builders import problem, question

from underlay.twin.plan.diagnosis import diagnose, out_of_reach, out_of_reach_when_lost
from underlay.twin.plan.places import reach, ways
from underlay.twin.plan.question import Client


def test_the_bound_that_stands_in_the_way_is_told_with_what_it_would_take():
    (said,) = diagnose(problem(available={"a0": 3}))
    assert said == "the 3 x a0 that there are; without it the best plan takes 4 x a0"


def test_power_shares_and_losses_are_bounds_too():
    task = problem((2.0,), regions=2, survives_region=True, available={"a0": 8})
    assert diagnose(task) == [
        "the 8 x a0 that there are; without it the best plan takes 10 x a0",
        "surviving the loss of a region; without it the best plan takes 5 x a0",
    ]
    narrow = problem((2.0,), regions=2)
    narrow = replace(narrow, regions=tuple(replace(region, share_max=0.4) for region in narrow.regions))
    assert diagnose(narrow) == ["how much of the load one region may take; without it the best plan takes 5 x a0"]
    hot = replace(problem((2.0,), regions=1, shares=(1.0,)), kinds=(replace(narrow.kinds[0], on_w=1e6),))
    hot = replace(hot, regions=(replace(hot.regions[0], power_cap_w=2e6),))
    assert diagnose(hot) == ["the 2 MW of r0; without it the best plan takes 5 x a0 (5 MW in r0)"]


def test_bounds_that_only_fail_together_are_told_together():
    task = problem((2.0,), regions=1, shares=(1.0,), available={"a0": 3})
    task = replace(task, regions=(replace(task.regions[0], accelerators_max=2.0),))
    (said,) = diagnose(task)
    assert said.startswith("several bounds together (the 3 x a0 that there are, the 2 accelerators of r0)")
    assert said.endswith("takes 5 x a0")


def test_clients_out_of_reach_are_told_how_far_the_nearest_region_is():
    asked = question(
        ("azure/westeurope", "azure/northeurope"), clients=(Client("azure/japaneast"), Client("azure/uksouth"))
    )
    found = ways(asked)
    (said,) = out_of_reach(asked, found, reach(found, 0.05), 0.05)
    assert said.startswith(
        "azure/japaneast: the nearest region, azure/westeurope, is 219 ms away, allowed are 50 ms"
    )
    task = problem(clients=2, reach_lost=((False, False), (True, False)))
    lost = out_of_reach_when_lost(asked, task, found)
    assert len(lost) == 3
    assert lost[2].startswith("azure/uksouth when azure/westeurope is lost: the next region, azure/northeurope, is")
