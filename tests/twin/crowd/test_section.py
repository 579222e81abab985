from random import Random

import numpy as np
import pytest

from underlay.twin.crowd.section import CrowdSection, demand, generators


def test_generators_repeat_and_differ():
    one, other = ([each.random(500) for each in generators(Random(seed), 2)] for seed in (4, 4))
    assert np.array_equal(one, other)
    assert abs(np.corrcoef(one)[0, 1]) < 0.15
    assert not np.array_equal(one[0], generators(Random(5), 1)[0].random(500))


def test_more_generators_leave_the_first_ones_alone():
    assert generators(Random(4), 1)[0].random() == generators(Random(4), 3)[0].random()


def test_what_is_demanded():
    demand(True, "It is.")
    with pytest.raises(ValueError, match="It is not"):
        demand(False, "It is not.")


def test_a_crowd_that_says_nothing_of_it_is_followed_by_nothing():
    crowd = CrowdSection()
    crowd.check()
    assert not crowd.follows
    assert crowd.warnings() == ()
