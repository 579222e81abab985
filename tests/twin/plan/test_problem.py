from dataclasses import replace

import pytest
from tests.twin.plan.builders import problem

from underlay.twin.plan.problem import Kind, least_kinds


def test_a_kind_that_another_always_takes_the_place_of_is_left_out():
    small = Kind("small", "x", 1, 3.0, 10.0, 5.0)
    large = Kind("large", "x", 2, 5.0, 30.0, 6.0)
    other = Kind("other", "y", 2, 1.0, 30.0, 6.0)
    assert least_kinds([large, other, small]) == ([small, other], [(large, small)])


@pytest.mark.parametrize("better", [{"capacity_per_s": 6.1}, {"on_w": 19.0}, {"joules": 4.0}])
def test_a_kind_that_is_better_in_anything_stays(better):
    small = Kind("small", "x", 1, 3.0, 10.0, 5.0)
    large = replace(Kind("large", "x", 2, 5.0, 30.0, 6.0), **better)
    assert len(least_kinds([small, large])[0]) == 2


def test_energy_of_a_request_is_that_of_the_mean_at_the_feeder():
    task = problem()
    task = replace(
        task,
        kinds=(replace(task.kinds[0], joules=100.0),),
        regions=(replace(task.regions[0], pue=1.2), task.regions[1]),
    )
    assert task.kw_per_request(0, 0) == pytest.approx(0.1 * 1.2 * 0.5)
    assert task.kinds[0].full_w == pytest.approx(300.0)
