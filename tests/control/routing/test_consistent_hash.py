"""Consistent hashing with bounded load."""

from math import ceil

from hypothesis import given
from hypothesis import strategies as st
from tests.control.routing.fleets import ask, carry, give, policy, pool_of, quick


def test_prompts_that_begin_alike_meet():
    pool, index = pool_of(*[64] * 8)
    chooser = policy("consistent_hash")
    chosen = {chooser.choose(ask(text="a" + rest), pool.open, pool, index).replica.name for rest in "abcdef"}
    assert len(chosen) == 1


def test_sessions_meet_where_nothing_is_known_of_the_prompt():
    pool, index = pool_of(*[64] * 8)
    chooser = policy("consistent_hash")
    places = [
        [chooser.choose(ask(session=s), pool.open, pool, index).replica.name for _ in "ab"] for s in range(1, 30)
    ]
    assert all(first == second for first, second in places)
    assert len({first for first, _ in places}) > 4


def test_with_neither_the_least_score_gets_it():
    pool, index = pool_of(8, 8)
    carry(pool, "r1", 3, 300)
    choice = policy("consistent_hash").choose(ask(), pool.open, pool, index)
    assert choice.replica.name == "r2"
    assert choice.why == "no session to go by: least score"


@quick
@given(
    st.lists(st.tuples(st.integers(1, 16), st.integers(0, 16)), min_size=2, max_size=5), st.text("ab", max_size=20)
)
def test_nobody_gets_more_than_a_quarter_above_its_part(fleet, prompts):
    """The bound is over those that may be chosen: the load of full ones is not in the mean."""
    pool, index = pool_of(*[slots for slots, _ in fleet])
    for number, (slots, load) in enumerate(fleet, 1):
        if load:
            carry(pool, f"r{number}", min(slots, load))
    chooser = policy("consistent_hash")
    for text in prompts:
        if not pool.open:
            break
        load, slots = sum(r.load for r in pool.open), sum(r.slots for r in pool.open)
        choice, _ = give(chooser, ask(text=text), pool, index)
        assert choice.replica.load <= ceil(1.25 * (load + 1) / slots * choice.replica.slots)


def test_a_beginning_in_demand_spills_over_to_the_next_on_the_ring_always_the_same():
    def spilled():
        pool, index = pool_of(*[100] * 4)
        chooser = policy("consistent_hash")
        return [give(chooser, ask(text="a"), pool, index)[0].replica.name for _ in range(40)]

    assert len(set(spilled())) == 4
    assert spilled() == spilled()


def test_full_replicas_do_not_lift_the_bound():
    """Two carry 100 each and are full: with them in the mean, the first open one could take all of the rest."""
    pool, index = pool_of(100, 100, 100, 100)
    carry(pool, "r1", 100)
    carry(pool, "r2", 100)
    chooser = policy("consistent_hash")
    for _ in range(40):
        give(chooser, ask(text="a"), pool, index)
    assert max(pool.members["r3"].load, pool.members["r4"].load) <= 26
