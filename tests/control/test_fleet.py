"""What is known of the replicas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as pace
from hypothesis import strategies as st

from underlay.control.dice import Dice
from underlay.control.fleet import LOOK_AT, SCAN_MAX, Pace, Pool

quick = pace(max_examples=30, deadline=None)


def pool_of(*slots: int) -> Pool:
    pool = Pool("gemma")
    for number, count in enumerate(slots):
        pool.join(f"r{number}", count, 0)
    return pool


def lease(pool: Pool, name: str, *, strands: int = 1, tokens: int = 100, cost: float = 1.0):
    return pool.take(pool.members[name], 1, 0.0, strands, tokens, 0, cost)


# Pace.


def test_a_line_is_learnt_from_noisy_first_tokens():
    """20 ms and a millisecond for each token, measured 5 % off."""
    learnt, dice = Pace(), Dice(3)
    for _ in range(300):
        tokens = 50 + dice.below(2000)
        learnt.prefilled(tokens, (0.02 + tokens / 1000) * (0.95 + 0.1 * dice.share()))
    assert learnt.token_s == pytest.approx(1 / 1000, rel=0.05)
    assert learnt.base_s == pytest.approx(0.02, abs=0.03)


def test_prompts_that_are_all_alike_are_put_down_to_their_tokens():
    learnt = Pace()
    for _ in range(10):
        learnt.prefilled(100, 0.5)
    assert (learnt.base_s, learnt.token_s) == (pytest.approx(0.0), pytest.approx(0.005))


def test_old_measurements_fade():
    learnt = Pace()
    for rate in (1000, 4000):
        for tokens in (100, 400) * 150:
            learnt.prefilled(tokens, tokens / rate)
    assert learnt.token_s == pytest.approx(1 / 4000, rel=0.05)


def test_a_replica_that_has_shown_little_is_taken_to_be_like_its_pool():
    pool = pool_of(4, 4)
    known, new = (pool.members[name].pace for name in ("r0", "r1"))
    for tokens in (100, 400) * 20:
        known.prefilled(tokens, tokens / 1000)
    new.prefilled(100, 9.9)
    assert new.token_s < 0.01, "one measurement is none"
    joined = pool.join("r2", 4, 0)
    assert not joined.pace.known
    assert joined.pace.token_s == pool.pace.token_s


@quick
@given(st.lists(st.tuples(st.integers(0, 100_000), st.floats(0, 100)), max_size=15))
def test_a_pace_never_goes_backwards(measured):
    learnt = Pace()
    for tokens, took_s in measured:
        learnt.prefilled(tokens, took_s)
        assert learnt.base_s >= 0.0
        assert learnt.token_s >= 0.0


def test_time_between_tokens_is_learnt():
    pool = pool_of(4)
    learnt = pool.members["r0"].pace
    for _ in range(100):
        learnt.decoded(20, 0.2)
    learnt.decoded(0, 5.0)
    assert learnt.itl_s == pytest.approx(0.01)
    assert pool.pace.itl_s == pytest.approx(0.01)


# Room.


def test_a_replica_takes_what_fits_its_free_slots():
    pool = pool_of(4)
    lease(pool, "r0", strands=2)
    replica = pool.members["r0"]
    assert replica.takes(2)
    assert not replica.takes(3)


def test_an_idle_replica_takes_more_than_its_slots_in_turns():
    """Otherwise a request for more answers than any replica has slots would wait for ever."""
    pool = pool_of(2)
    assert pool.members["r0"].takes(8)
    lease(pool, "r0", strands=8)
    assert pool.open == []
    pool.check()


# First tokens.


def test_a_first_token_waits_for_all_uncached_tokens_before_it():
    pool = pool_of(4)
    replica = pool.members["r0"]
    for tokens in (100, 200, 300, 400):
        replica.pace.prefilled(tokens, tokens / 1000)
    assert replica.first_token_s(100) == pytest.approx(0.1)
    held = lease(pool, "r0", tokens=400)
    assert held.ahead_tokens == 400
    assert replica.first_token_s(100) == pytest.approx(0.5)
    assert replica.score(100) == pytest.approx(1.0)
    pool.first_token(held, 1.0)
    pool.first_token(held, 2.0)
    assert held.first_at == 1.0
    assert replica.prefill_tokens == 0


# Life.


def test_only_ready_replicas_count_and_are_open():
    pool = pool_of(2, 4)
    pool.set_state(pool.members["r1"], "suspect")
    assert (pool.ready, pool.slots, [replica.name for replica in pool.open]) == (1, 2, ["r0"])
    pool.resize(pool.members["r1"], 8)
    pool.set_state(pool.members["r1"], "ready")
    assert (pool.ready, pool.slots) == (2, 10)
    pool.leave(pool.members["r0"])
    assert list(pool.members) == ["r1"]
    pool.check()


def test_nobody_leaves_with_leases():
    pool = pool_of(2)
    lease(pool, "r0")
    with pytest.raises(AssertionError, match="left with 1"):
        pool.leave(pool.members["r0"])


# The least pressed.


def test_all_of_a_small_pool_are_looked_at():
    pool = pool_of(*[4] * SCAN_MAX)
    assert pool.least_pressed() is pool.open


def test_of_a_large_pool_the_least_pressed_come_first():
    pool = pool_of(*[8] * 40)
    for number in range(40):
        if number not in {7, 31}:
            lease(pool, f"r{number}")
    lease(pool, "r31", tokens=10)
    found = [replica.name for replica in pool.least_pressed()]
    assert found[:2] == ["r7", "r31"]
    assert len(found) >= LOOK_AT


def test_the_least_pressed_of_a_large_pool_are_those_that_all_of_it_in_order_would_begin_with():
    """However many are taken and given back, while the load rises and falls."""
    pool, dice, leases = pool_of(*[6] * 200), Dice(7), []
    for turn in range(3000):
        found, rising = pool.least_pressed(), turn // 700 % 2 == 0
        if len(pool.open) > SCAN_MAX:
            assert found == sorted(pool.open, key=lambda each: (each.score(256), each.turn, each.number))[:LOOK_AT]
        if rising or not leases:
            leases.append(lease(pool, found[dice.below(len(found))].name, tokens=1 + dice.below(400)))
        else:
            held = leases.pop(dice.below(len(leases)))
            pool.first_token(held, 1.0)
            pool.give_back(held)
        if turn % 100 == 0:
            pool.check()


steps = st.lists(
    st.tuples(
        st.sampled_from(["take"] * 3 + ["first", "back", "suspect", "ready", "resize", "join", "leave", "look"]),
        st.integers(0, 25),
        st.integers(1, 4),
    ),
    max_size=80,
)


@quick
@given(st.integers(1, 24), steps)
def test_i16_after_any_steps_lists_and_sums_agree_and_all_leases_given_back_leave_nothing(count, steps):
    pool = pool_of(*[3] * count)
    leases, joined = [], count
    for what, which, number in steps:
        members = list(pool.members.values())
        replica = members[which % len(members)] if members else None
        if what == "join":
            pool.join(f"r{joined}", number, 0)
            joined += 1
        elif what == "look":
            found = list(pool.least_pressed())
            assert len(set(found)) == len(found)
            assert all(each.place >= 0 for each in found)
            assert bool(found) == bool(pool.open)
        elif what in {"first", "back"} and leases:
            held = leases[which % len(leases)]
            pool.first_token(held, 1.0) if what == "first" else pool.give_back(held)
            if what == "back":
                leases.remove(held)
        elif replica is None:
            continue
        elif what == "take" and replica.state == "ready" and replica.takes(number):
            leases.append(lease(pool, replica.name, strands=number, cost=0.1))
        elif what in {"suspect", "ready"}:
            pool.set_state(replica, what)
        elif what == "resize":
            pool.resize(replica, number)
        elif what == "leave" and not replica.load:
            pool.leave(replica)
        pool.check()
    for held in leases:
        pool.give_back(held)
    pool.check()
    assert pool.load == 0
    assert all((r.load, r.prefill_tokens, r.cost) == (0, 0, 0.0) for r in pool.members.values())
