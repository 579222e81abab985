"""What becomes of a request whose attempt failed, and of the replica that failed it."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import NOW_S, quick, settings

from underlay.control.concurrency import Limit
from underlay.control.events import Failure
from underlay.control.fleet import Pool
from underlay.control.recovery import (
    FRESH_STARTS_MIN,
    MEANING,
    RetryBudget,
    eject,
    outlier,
    praise,
    ramp,
    strike,
    verdict,
)

SETTINGS = settings(attempts_max=3, strikes_max=3, suspect_s=10.0, suspect_max_s=60.0)


def pool_of(count: int, slots: int = 8) -> Pool:
    pool = Pool("gemma")
    for number in range(1, count + 1):
        pool.join(f"r{number}", slots, 0)
    return pool


def strikes(pool: Pool, name: str, count: int = 3, at: float = NOW_S) -> list[bool]:
    """Strike a replica and do what the desk does when it must go."""
    told = []
    for _ in range(count):
        told.append(strike(pool, pool.members[name], SETTINGS, at))
        if told[-1]:
            pool.set_state(pool.members[name], "suspect")
    return told


# Requests.


@pytest.mark.parametrize(
    ("seen", "resumable", "what", "why"),
    [
        (False, True, "restart", "nothing had been delivered, so it starts afresh"),
        (False, False, "restart", "nothing had been delivered, so it starts afresh"),
        (True, True, "resume", "it goes on from exactly what was delivered"),
        (True, False, "give_up", "its constrained output cannot be continued from the middle"),
    ],
)
def test_what_was_delivered_is_continued_or_ends_visibly(seen, resumable, what, why):
    assert verdict(attempts=1, settings=SETTINGS, seen=seen, resumable=resumable) == (what, why)


def test_the_last_attempt_is_the_last():
    for attempts, what in ((1, "restart"), (2, "restart"), (3, "give_up"), (4, "give_up")):
        assert verdict(attempts=attempts, settings=SETTINGS, seen=False, resumable=True)[0] == what
    assert verdict(attempts=3, settings=SETTINGS, seen=False, resumable=True)[1] == (
        "3 replicas were tried, the most allowed"
    )


def test_every_failure_has_a_meaning_for_people():
    assert set(MEANING) == {*get_args(Failure), "lost"}


# The budget.

steps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.01, 0.3, 1.0, 3.7, 9.99, 12.0]), st.integers(0, 400), st.integers(0, 150)),
    max_size=25,
)


@quick
@given(steps, st.sampled_from([0.0, 0.1, 0.2, 1.0]), st.sampled_from([0.0, 0.4, NOW_S]))
def test_i25_fresh_starts_stay_within_their_share_of_any_ten_seconds(steps, share, at):
    budget = RetryBudget(share)
    firsts: list[float] = []
    spent: list[float] = []
    for later_s, arrivals, failures in steps:
        at += later_s
        for _ in range(arrivals):
            budget.first(at)
        firsts += [at] * arrivals
        granted = sum(budget.spend(at) for _ in range(failures))
        spent += [at] * granted
        if granted:
            window = [sum(at - 10.0 < one <= at for one in ones) for ones in (spent, firsts)]
            assert window[0] <= share * window[1] + FRESH_STARTS_MIN
        assert granted >= min(failures, 1) or budget.ready_at(at) > at


@quick
@given(steps, st.sampled_from([0.0, 0.2]))
def test_who_waits_as_long_as_told_gets_a_fresh_start_and_not_much_later(steps, share):
    budget, at = RetryBudget(share), NOW_S
    for later_s, arrivals, failures in steps:
        at += later_s
        for _ in range(arrivals):
            budget.first(at)
        for _ in range(failures):
            budget.spend(at)
    ready_at = budget.ready_at(at)
    assert at <= ready_at <= at + 11.0
    assert budget.spend(ready_at)


def test_i25_the_share_and_the_floor_are_all_there_is():
    budget = RetryBudget(0.2)
    for _ in range(1000):
        budget.first(NOW_S)
    assert sum(budget.spend(NOW_S) for _ in range(1000)) == 200 + FRESH_STARTS_MIN
    assert budget.ready_at(NOW_S) == NOW_S + 11.0
    assert not budget.spend(NOW_S + 10.5)
    assert sum(budget.spend(NOW_S + 11.0) for _ in range(1000)) == FRESH_STARTS_MIN


# Strikes.


def test_the_third_failure_in_a_row_makes_a_replica_suspect():
    pool = pool_of(3)
    assert strikes(pool, "r1") == [False, False, True]
    assert pool.members["r1"].suspect_until == NOW_S + 10


def test_a_finished_answer_wipes_the_strikes_out():
    pool = pool_of(3)
    assert strikes(pool, "r1", 2) == [False, False]
    praise(pool.members["r1"], NOW_S)
    assert strikes(pool, "r1", 3) == [False, False, True]


@pytest.mark.parametrize("state", ["suspect", "lost", "draining"])
def test_a_replica_that_is_away_is_not_sent_away_again(state):
    pool = pool_of(5)
    replica = pool.members["r1"]
    pool.set_state(replica, state)
    replica.strikes, replica.suspect_until = 3, 1.0
    assert not strike(pool, replica, SETTINGS, NOW_S)
    assert (replica.strikes, replica.suspect_until, replica.ejections) == (4, 1.0, 0)


def test_each_time_it_is_away_twice_as_long_up_to_a_bound():
    pool = pool_of(3)
    replica = pool.members["r1"]
    away_s = []
    for _ in range(5):
        assert eject(pool, replica, SETTINGS, NOW_S)
        away_s.append(replica.suspect_until - NOW_S)
    assert away_s == [10, 20, 40, 60, 60]


def test_an_ejection_is_forgotten_after_a_minute_of_good_service():
    pool = pool_of(3)
    replica = pool.members["r1"]
    replica.ejections, replica.suspect_until = 2, NOW_S
    seen = []
    for second in range(0, 200, 20):
        praise(replica, NOW_S + second)
        seen.append(replica.ejections)
    assert seen == [2, 2, 2, 1, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("members", "may_go"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)])
def test_i18_at_most_half_is_sent_away_and_never_the_last(members, may_go):
    pool = pool_of(members)
    assert sum(any(strikes(pool, name, 5)) for name in pool.members) == may_go
    assert pool.ready == members - may_go


def test_with_many_lost_the_others_are_trusted():
    pool = pool_of(10)
    for number in range(1, 6):
        pool.set_state(pool.members[f"r{number}"], "lost")
    assert any(strikes(pool, "r6"))
    assert not any(strikes(pool, "r7", 5))


@quick
@given(
    st.integers(1, 12),
    st.lists(
        st.tuples(st.integers(0, 11), st.sampled_from(["strike", "strike", "forgive", "lose", "see"])), max_size=80
    ),
)
def test_i18_no_order_of_failures_sends_more_than_half_away(count, happenings):
    pool = pool_of(count)
    for number, what in happenings:
        replica = pool.members[f"r{number % count + 1}"]
        ready_before = pool.ready
        if what == "strike":
            strikes(pool, replica.name, 1)
            assert pool.ready >= min(1, ready_before)
        elif what == "lose" or replica.state == {"forgive": "suspect", "see": "lost"}[what]:
            pool.set_state(replica, "lost" if what == "lose" else "ready")
        ejected = sum(member.state == "suspect" for member in pool.members.values())
        assert ejected <= max(count / 2, 1 if count > 1 else 0)
        pool.check()


# Slow without failing.


def measured(pool: Pool, itl_ms: dict[str, float], at: float = NOW_S, seconds: int = 1) -> None:
    """Let replicas finish twenty answers a second at these times between tokens."""
    for name, each in itl_ms.items():
        replica = pool.members[name]
        replica.limit = replica.limit or Limit(replica.slots)
        for number in range(20 * seconds + 1):
            replica.limit.decoded(each / 1000, 1000.0, at + number / 20)


USUAL = {"r1": 10.0, "r2": 11.0, "r3": 12.0, "r4": 13.0}


def test_a_replica_that_became_far_slower_than_its_pool_is_named_with_both_times():
    pool = pool_of(4)
    measured(pool, USUAL, seconds=10)
    assert [outlier(pool, replica) for replica in pool.members.values()] == [""] * 4
    measured(pool, {"r4": 60.0}, NOW_S + 20)
    assert outlier(pool, pool.members["r4"]) == "with as much work as usual it takes 60 ms a token, its pool 11 ms"
    assert outlier(pool, pool.members["r1"]) == ""


def test_a_small_accelerator_among_large_ones_is_not_sick():
    pool = pool_of(4)
    measured(pool, {**USUAL, "r4": 60.0}, seconds=10)
    assert outlier(pool, pool.members["r4"]) == ""


def test_when_all_become_slow_together_none_is_an_outlier():
    pool = pool_of(4)
    measured(pool, USUAL, seconds=10)
    measured(pool, {name: each * 6 for name, each in USUAL.items()}, NOW_S + 20)
    assert [outlier(pool, replica) for replica in pool.members.values()] == [""] * 4


def test_the_first_to_fill_up_in_a_surge_is_slower_but_not_sick():
    pool = pool_of(4)
    measured(pool, USUAL, seconds=10)
    for number in range(21):  # six times the work, six times as long from one token to the next
        pool.members["r1"].limit.decoded(0.060, 6000.0, NOW_S + 20 + number / 20)
    assert outlier(pool, pool.members["r1"]) == ""
    for number in range(21):  # four times as long as that is more than its work explains
        pool.members["r1"].limit.decoded(0.240, 6000.0, NOW_S + 30 + number / 20)
    assert outlier(pool, pool.members["r1"])


def test_two_replicas_have_no_median():
    pool = pool_of(2)
    measured(pool, {"r1": 10.0, "r2": 11.0}, seconds=10)
    measured(pool, {"r2": 90.0}, NOW_S + 20)
    assert outlier(pool, pool.members["r2"]) == ""


def test_what_was_measured_before_it_came_back_does_not_count():
    pool = pool_of(4)
    measured(pool, USUAL, seconds=10)
    measured(pool, {"r4": 60.0}, NOW_S + 20)
    pool.members["r4"].suspect_until = NOW_S + 40
    assert outlier(pool, pool.members["r4"]) == ""
    measured(pool, {"r4": 60.0}, NOW_S + 41)
    assert outlier(pool, pool.members["r4"])


def test_a_replica_of_which_nothing_was_measured_is_no_outlier():
    pool = pool_of(4)
    assert outlier(pool, pool.members["r1"]) == ""
    pool.members["r1"].limit = Limit(8)
    assert outlier(pool, pool.members["r1"]) == ""


# Slow start.


def busy_pool(slots: int = 8) -> Pool:
    pool = pool_of(2, slots)
    pool.take(pool.members["r2"], 1, NOW_S, 1, 10, 0, 10.0)
    return pool


@pytest.mark.parametrize(
    ("slots", "expected"), [(8, [1, 2, 4, 6, 8]), (2, [1, 1, 1, 1, 2]), (64, [1, 16, 32, 48, 64])]
)
def test_a_replica_that_came_back_gets_its_part_in_steps(slots, expected):
    pool = busy_pool(slots)
    replica = pool.members["r1"]
    pool.take(replica, 1, NOW_S, 1, 10, 0, 10.0)  # with one slot it is full, with two it has room
    replica.ramp_from = at = NOW_S
    capacities, looks = [], []
    while at is not None:
        looks.append(at - NOW_S)
        at = ramp(replica, pool, SETTINGS, at)
        capacities.append(replica.capacity)
        pool.check()
    assert capacities == expected
    assert looks == [0.0, 2.5, 5.0, 7.5, 10.0]
    assert replica.ramp_from is None


def test_with_nobody_else_or_nothing_to_carry_it_gets_all_at_once():
    alone, idle = pool_of(1), pool_of(2)
    left = busy_pool()
    pool_states = [(alone, "ready"), (idle, "ready"), (left, "suspect")]
    for pool, others in pool_states:
        for name in list(pool.members)[1:]:
            pool.set_state(pool.members[name], others)
        replica = pool.members["r1"]
        replica.ramp_from = NOW_S
        assert ramp(replica, pool, SETTINGS, NOW_S) is None
        assert (replica.capacity, replica.ramp_from) == (8, None)


def test_the_last_one_standing_is_given_all_in_the_middle_of_its_ramp():
    pool = busy_pool()
    replica = pool.members["r1"]
    replica.ramp_from = NOW_S
    assert ramp(replica, pool, SETTINGS, NOW_S) == NOW_S + 2.5
    pool.set_state(pool.members["r2"], "lost")
    assert ramp(replica, pool, SETTINGS, NOW_S + 1) is None
    assert replica.capacity == 8


def test_one_slot_needs_no_ramp():
    pool = busy_pool(1)
    pool.members["r1"].ramp_from = NOW_S
    assert ramp(pool.members["r1"], pool, SETTINGS, NOW_S) is None
