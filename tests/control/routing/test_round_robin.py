"""Round robin."""

from tests.control.routing.fleets import ask, give, policy, pool_of


def test_everybody_gets_a_turn_before_anybody_gets_two():
    pool, index = pool_of(9, 9, 9)
    chooser = policy("round_robin")
    names = [give(chooser, ask(), pool, index)[0].replica.name for _ in range(6)]
    assert names == ["r1", "r2", "r3"] * 2


def test_candidates_that_come_and_go_neither_skip_nor_repeat_a_turn():
    pool, index = pool_of(9, 9, 9)
    chooser = policy("round_robin")
    r1, r2, r3 = pool.members.values()
    turns = [give(chooser, ask(), pool, index, some)[0].replica for some in ([r1, r2, r3], [r1, r3], [r1, r2, r3])]
    assert turns == [r1, r3, r2]
