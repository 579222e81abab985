"""Power of two choices."""

from tests.control.routing.fleets import ask, carry, give, policy, pool_of

from underlay.control.dice import Dice
from underlay.control.routing.two_choices import two


def greatest_load(name: str) -> int:
    pool, index = pool_of(*[1000] * 100)
    chooser = policy(name)
    for _ in range(400):
        give(chooser, ask(), pool, index)
    return max(replica.load for replica in pool.members.values())


def test_a_second_look_halves_the_greatest_load_of_chance():
    """400 on 100: chance gives somebody 10 or so, two choices never more than 6."""
    assert greatest_load("two_choices") <= 6
    assert greatest_load("two_choices") <= 0.6 * greatest_load("random")


def test_what_is_expected_of_the_leases_counts_not_their_number():
    pool, index = pool_of(8, 8)
    r1, r2 = pool.members.values()
    pool.take(r1, 1, 0.0, 1, 0, 0, 10_000.0)
    for attempt in range(3):
        pool.take(r2, attempt, 0.0, 1, 0, 0, 10.0)
    assert policy("two_choices").choose(ask(), pool.open, pool, index).replica is r2


def test_never_the_same_one_twice_unless_it_is_the_only_one():
    pool, _ = pool_of(8, 8, 8)
    dice = Dice(1)
    pairs = {(a.name, b.name) for a, b in (two(pool.open, dice) for _ in range(200))}
    assert len(pairs) == 6
    assert all(a != b for a, b in pairs)
    assert two(pool.open[:1], dice) == (pool.open[0], pool.open[0])


def test_the_less_busy_of_two_is_never_the_busiest_of_three():
    pool, index = pool_of(8, 8, 8)
    carry(pool, "r2", 5)
    chooser = policy("two_choices")
    assert "r2" not in {chooser.choose(ask(), pool.open, pool, index).replica.name for _ in range(50)}
