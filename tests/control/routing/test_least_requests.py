"""Least requests."""

from hypothesis import given
from hypothesis import strategies as st
from tests.control.routing.fleets import ask, carry, give, policy, pool_of, quick


def test_the_least_loaded_share_is_chosen_not_the_lowest_count():
    pool, index = pool_of(2, 8)
    carry(pool, "r1", 1)
    carry(pool, "r2", 2)
    choice = policy("least_requests").choose(ask(), pool.open, pool, index)
    assert choice.replica.name == "r2"
    assert choice.why == "least requests of 2: 2 of 8 slots in use"


def test_among_equals_the_one_not_chosen_for_longest():
    pool, index = pool_of(9, 9, 9)
    chooser = policy("least_requests")
    assert [give(chooser, ask(), pool, index)[0].replica.name for _ in range(4)] == ["r1", "r2", "r3", "r1"]


@quick
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), min_size=1, max_size=20))
def test_whoever_is_chosen_nobody_carries_a_smaller_share(fleet):
    pool, index = pool_of(*[slots for slots, _ in fleet])
    for number, (slots, load) in enumerate(fleet, 1):
        if load:
            carry(pool, f"r{number}", min(slots, load))
    if pool.open:
        chosen = policy("least_requests").choose(ask(), pool.open, pool, index).replica
        assert all(chosen.load / chosen.slots <= other.load / other.slots for other in pool.open)
