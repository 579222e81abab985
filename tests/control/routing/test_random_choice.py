"""Random."""

from collections import Counter

from tests.control.routing.fleets import ask, policy, pool_of


def test_each_has_the_same_chance():
    pool, index = pool_of(4, 4, 4, 4)
    chooser = policy("random")
    drawn = Counter(chooser.choose(ask(), pool.open, pool, index).replica.name for _ in range(2000))
    assert len(drawn) == 4
    assert max(drawn.values()) < 1.2 * min(drawn.values())
