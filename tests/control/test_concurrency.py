"""How much work a replica is given when it gets slow, and that it gets all of it back."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import NOW_S, quick

from underlay.control.concurrency import Limit, expected_cost
from underlay.control.fleet import Replica

REQUEST = 100.0  # the work of each
SLOTS = 8
RATE = 20  # answers a second


class Engine:
    """A replica under as much load as its limit lets in; every answer is measured."""

    def __init__(self, slots: int = SLOTS) -> None:
        self.replica = Replica("r1", "gemma", slots, 0)
        self.limit = self.replica.limit = Limit(slots)
        self.at = NOW_S
        self.least = inf

    @property
    def in_flight(self) -> int:
        return self.replica.load

    def fill(self, demand: int) -> None:
        """Give it requests while it takes them."""
        self.replica.load, self.replica.cost = 0, 0.0
        while self.replica.load < demand and self.replica.takes(1):
            self.replica.load += 1
            self.replica.cost += REQUEST

    def run(self, seconds: float, slowness: float = 1.0, demand: int = SLOTS, prefill: float = 1.0) -> "Engine":
        for _ in range(int(seconds * RATE)):
            self.at += 1 / RATE
            self.fill(demand)
            self.limit.first_token(0.2 * slowness * prefill, 0.2, self.replica.cost, self.at)
            self.limit.decoded(0.02 * slowness, self.replica.cost, self.at)
            self.least = min(self.least, self.limit.cost)
        return self


def test_an_output_token_is_the_work_of_two_input_tokens():
    assert expected_cost(1000, 100) == 1200.0


def test_a_replica_that_keeps_its_pace_has_no_limit():
    assert Engine().run(60).least == inf


def test_a_slow_replica_from_its_beginning_has_none_either():
    assert Engine().run(60, slowness=10.0).least == inf


def test_the_first_seconds_are_only_learnt_from():
    assert Engine().run(2).run(3, slowness=4.0).run(20).least == inf


def test_one_slow_answer_among_many_says_nothing():
    engine = Engine().run(20)
    for _ in range(20):
        engine.run(1 / RATE, slowness=50.0)
        engine.run(1)
    assert engine.least == inf


def test_slower_tokens_halve_what_it_is_given_within_seconds():
    engine = Engine().run(20)
    engine.run(6, slowness=4.0)
    assert engine.in_flight <= SLOTS / 2


def test_slower_first_tokens_do_so_by_themselves():
    engine = Engine().run(20)
    engine.run(6, prefill=4.0)
    assert engine.in_flight <= SLOTS / 2


@pytest.mark.parametrize("slowness", [2.0, 5.0, 100.0])
def test_i24_it_gets_all_back_soon_after_the_degradation_ends(slowness):
    engine = Engine().run(20)
    engine.run(15, slowness=slowness)
    assert engine.limit.cost < inf
    engine.run(15)
    assert engine.limit.cost == inf


def test_a_replica_that_stays_slower_gets_all_back_in_two_minutes():
    engine = Engine().run(20)
    engine.run(120, slowness=100.0)
    assert engine.limit.cost == inf


def test_a_batch_that_fills_up_is_no_degradation():
    """From one request at a time to eight at three times the time per token: more is done per second."""
    engine = Engine().run(60, demand=1)
    engine.run(120, slowness=3.0, demand=SLOTS)
    assert engine.least == inf


def test_app_limited_windows_do_not_raise_the_limit():
    engine = Engine().run(20)
    engine.run(10, slowness=4.0)
    limited = engine.limit.cost
    assert limited >= 2 * REQUEST
    engine.fill(0)
    for _ in range(20 * RATE):  # hardly anything is in flight
        engine.at += 1 / RATE
        engine.limit.decoded(0.02, REQUEST * 0.9, engine.at)
    assert engine.limit.cost == limited


def test_i27_too_few_measurements_to_judge_do_not_hold_the_limit_down():
    engine = Engine().run(20)
    engine.run(10, slowness=4.0)
    assert engine.limit.cost < inf
    for _ in range(5):
        engine.at += 20.0
        engine.limit.decoded(0.02, REQUEST, engine.at)
    assert engine.limit.cost == inf


def test_measurements_that_say_nothing_are_left_out():
    limit = Limit(SLOTS)
    for number in range(100):
        limit.first_token(1.0, 0.0, 0.0, NOW_S + number)
        limit.decoded(0.0, 0.0, NOW_S + number)
        limit.decoded(0.01, 0.0, NOW_S + number / 20)
    assert limit.cost == inf


def test_what_is_usual_and_what_is_now_can_be_read():
    engine = Engine().run(20)
    engine.run(2, slowness=3.0)
    assert engine.limit.itl_s == pytest.approx(0.06)
    assert engine.limit.usual_itl_s < 0.03
    assert engine.limit.itl_at > engine.at - 1.5


phases = st.lists(
    st.tuples(st.integers(1, 15), st.sampled_from([0.1, 0.5, 1.0, 2.0, 5.0, 50.0]), st.integers(0, SLOTS)),
    min_size=1,
    max_size=6,
)


@quick
@given(phases, st.sampled_from([1, 2, SLOTS]))
def test_i27_from_any_state_full_load_at_a_steady_pace_ends_without_a_limit(phases, slots):
    engine = Engine(slots)
    for seconds, slowness, demand in phases:
        engine.run(seconds, slowness, demand or 1)
    for _ in range(120):
        if engine.run(1).limit.cost == inf:
            return
    pytest.fail(f"still limited to {engine.limit.cost}")


@quick
@given(phases, st.sampled_from([1, 4, SLOTS]))
def test_the_limit_is_never_below_a_quarter_or_one_slots_part_of_what_was_carried_lately(phases, slots):
    engine = Engine(slots)
    engine.run(8, demand=slots)
    for seconds, slowness, _ in phases:
        engine.run(min(seconds, 5), slowness, slots)
        engine.fill(slots)
        assert engine.in_flight >= 1
        assert engine.limit.cost >= REQUEST * slots * max(1 / 4, 1 / slots) * 0.9
