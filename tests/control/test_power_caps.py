"""Caps are tightened slowly and given up at once, keep above the floor, and an older plan is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.control import power_caps
from underlay.control.power_caps import CALM_S, FIRST, NO_CAP, REMEMBERED_S, STEP_SHARE, Goals, PoolSeen, plan
from underlay.domain.errors import Conflict

GOALS = Goals(ttft_s=2.0, tpot_s=0.1, floor_share=0.6)


def seen(ttft_s: float | None = 0.4, tpot_s: float | None = 0.02, **more) -> PoolSeen:
    said = {"power_w": 500.0, "answers": 100, "waiting": 0, **more}
    return PoolSeen("west", "chat", 700.0, ttft_s=ttft_s, tpot_s=tpot_s, **said)


def follow(steps, last=FIRST, goals=GOALS):
    """The plans that follow from what was seen, each with its time."""
    plans = []
    for at, pool in steps:
        last = plan(last, [pool], goals, at)
        plans.append(last)
    return plans


def shares(plans) -> list[float]:
    return [made.steps[0].share for made in plans]


def test_a_calm_pool_is_tightened_step_by_step_down_to_the_floor() -> None:
    plans = follow([(CALM_S * turn, seen()) for turn in range(12)])
    assert shares(plans)[:3] == pytest.approx([0.95, 0.9, 0.85])
    assert shares(plans)[-1] == 0.6
    assert "as low as it may go" in plans[-1].reasons[0]
    assert plans[0].reasons[0].startswith("chat in west: 95% of the rated power (665 W): tightened from 100%")
    assert plans[0].changed == (True,)
    assert plans[-1].changed == (False,)


def test_after_a_step_it_is_seen_what_it_does_before_the_next() -> None:
    plans = follow([(0, seen()), (10, seen()), (CALM_S - 1, seen()), (CALM_S, seen())])
    assert shares(plans) == pytest.approx([0.95, 0.95, 0.95, 0.9])


@pytest.mark.parametrize(
    "surge", [seen(ttft_s=1.9), seen(tpot_s=0.095), seen(waiting=40), seen(ttft_s=None, answers=0, waiting=8)]
)
def test_in_danger_a_cap_is_given_up_at_once_and_wholly(surge) -> None:
    calm = follow([(CALM_S * turn, seen()) for turn in range(4)])
    freed = plan(calm[-1], [surge], GOALS, 3 * CALM_S + 10)
    assert freed.steps[0].share == NO_CAP
    assert freed.steps[0].watts(700.0) == float("inf")
    assert "given up at once from 80%" in freed.reasons[0]


def test_the_cap_that_was_too_tight_is_left_alone_for_a_while() -> None:
    times = [CALM_S * turn for turn in range(4)]
    broken = follow([*((at, seen()) for at in times), (times[-1] + 10, seen(ttft_s=1.9))])[-1]
    begun = times[-1] + 10
    again = follow([(begun + CALM_S * turn, seen()) for turn in range(1, 20)], broken)
    assert min(shares(again)) == pytest.approx(0.85)
    assert "80% was too tight before" in again[-1].reasons[0]
    later = follow([(begun + REMEMBERED_S + CALM_S * turn, seen()) for turn in range(1, 8)], again[-1])
    assert min(shares(later)) == 0.6


def test_between_calm_and_danger_nothing_moves() -> None:
    plans = follow([(0, seen()), (CALM_S, seen(ttft_s=1.5)), (2 * CALM_S, seen(ttft_s=1.7))])
    assert shares(plans) == pytest.approx([0.95, 0.95, 0.95])
    assert "kept, TTFT 1.70 s of 2 s" in plans[-1].reasons[0]


def test_few_answers_tighten_nothing_and_a_few_who_wait_are_no_queue() -> None:
    assert shares(follow([(0, seen(answers=5))])) == [NO_CAP]
    assert shares(follow([(0, seen(answers=0, ttft_s=None, tpot_s=None))])) == [NO_CAP]
    assert shares(follow([(0, seen(waiting=3))])) == [0.95]


def test_a_pool_that_nobody_meters_has_no_cap() -> None:
    blind = follow([(0, seen()), (CALM_S, seen(power_w=None))])[-1]
    assert blind.steps[0].share == NO_CAP
    assert "not metered" in blind.reasons[0]


def test_each_pool_goes_by_its_own_times() -> None:
    two = [seen(), seen(ttft_s=1.6)._replace(region="east")]
    made = plan(FIRST, two, GOALS, 0.0)
    assert [(cap.region, cap.share) for cap in made.steps] == [("west", 0.95), ("east", NO_CAP)]
    assert made.changed == (True, False)


def test_an_objective_that_is_not_given_is_no_matter() -> None:
    assert shares(follow([(0, seen(ttft_s=100.0))], goals=Goals(tpot_s=0.1))) == [0.95]


def test_an_older_plan_is_refused() -> None:
    first, second = follow([(0, seen()), (CALM_S, seen())])
    executed = power_caps.Executed()
    executed.take(second)
    for late in (first, second):
        with pytest.raises(Conflict, match="too late"):
            executed.take(late)
    assert (first.parent, second.parent, executed.generation) == (0, first.generation, second.generation)


def test_the_slow_end() -> None:
    assert power_caps.slow_end([]) is None
    assert power_caps.slow_end([3.0, 1.0]) == 3.0
    assert power_caps.slow_end(range(1, 201)) == 198


pools = st.builds(
    seen,
    st.none() | st.floats(0, 5),
    st.none() | st.floats(0, 0.2),
    power_w=st.none() | st.floats(0, 700),
    answers=st.integers(0, 300),
    waiting=st.integers(0, 300),
)


@quick
@given(st.lists(st.tuples(st.floats(1, 300), pools), max_size=40))
def test_whatever_happens_a_cap_keeps_its_bounds_and_never_drops_by_more_than_a_step(happens) -> None:
    at, last = 0.0, FIRST
    for passed_s, pool in happens:
        at += passed_s
        made = plan(last, [pool], GOALS, at)
        before = last.steps[0].share if last.steps else NO_CAP
        share = made.steps[0].share
        assert GOALS.floor_share <= share <= NO_CAP
        assert share >= before - STEP_SHARE - 1e-9
        assert share <= before or share == NO_CAP
        in_danger = (pool.ttft_s or 0) >= 0.9 * GOALS.ttft_s or (pool.tpot_s or 0) >= 0.9 * GOALS.tpot_s
        assert not (in_danger and share < NO_CAP)
        assert made.generation == last.generation + 1 == made.parent + 1
        last = made
