"""Budgets: a calendar without a clock, and purses out of which nobody takes more than is in them."""

import calendar
import math
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import NOW_S, quick

from underlay.control.budgets import Purse, iso, merged, period_end, period_start
from underlay.domain.keys import Budget

USD = 10**12
PERIODS = ["day", "week", "month", "total"]
moments = st.floats(0, 253_370_764_800, allow_nan=False)  # to the end of the year 9998


def by_the_standard_library(period: str, at: float) -> tuple[float, float]:
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "week":
        day -= timedelta(days=day.weekday())
    elif period == "month":
        day = day.replace(day=1)
    days = {"day": 1, "week": 7, "month": calendar.monthrange(day.year, day.month)[1]}[period]
    return day.timestamp(), (day + timedelta(days=days)).timestamp()


@quick
@given(at=moments | st.integers(0, 2_932_000).map(lambda day: day * 86_400.0))
def test_periods_are_those_of_the_calendar(at):
    for period in ("day", "week", "month"):
        assert (period_start(period, at), period_end(period, at)) == by_the_standard_library(period, at)
    assert (period_start("total", at), period_end("total", at)) == (0.0, math.inf)
    assert iso(at) == datetime.fromtimestamp(int(at), UTC).strftime("%4Y-%m-%dT%H:%M:%SZ")


@quick
@given(at=moments, period=st.sampled_from(["day", "week", "month"]))
def test_a_period_ends_where_the_next_one_begins(at, period):
    end = period_end(period, at)
    assert period_start(period, at) <= at < end
    assert period_start(period, end) == end
    assert period_start(period, math.nextafter(end, 0)) == period_start(period, at)


def test_of_several_budgets_for_a_period_the_tightest_bounds_count():
    budgets = (Budget("day", 5, 100), Budget("month", 7), Budget("day", None, 20), Budget("day", 9))
    assert merged(budgets) == {"day": Budget("day", 5, 20), "month": Budget("month", 7)}


# Purses.


def purse(
    period: str = "month", usd: float | None = 5, tokens: int | None = None, whose: str = "this key's"
) -> Purse:
    return Purse(Budget(period, None if usd is None else int(usd * USD), tokens), whose)


def refusal(of: Purse, tokens: int, pico_usd: int, at: float = NOW_S):
    assert not of.fits(tokens, pico_usd, at)
    return of.exhausted(tokens, pico_usd, at)


def test_a_spent_budget_says_whose_it_is_and_when_there_is_more():
    of = purse(whose="team acme's")
    of.spend(0, 5 * USD, NOW_S)
    error = refusal(of, 10, 1)
    assert error.message == "team acme's budget of 5 USD per month is spent; it resets at 2026-10-01T00:00:00Z"
    assert error.retry_after_s == period_end("month", NOW_S) - NOW_S
    assert error.reason == "insufficient_quota"
    assert error.status == 429


def test_too_little_left_says_how_much():
    of = purse("day", None, 100)
    of.spend(90, 0, NOW_S)
    assert refusal(of, 11, 0).message == (
        "this key's budget of 100 tokens per day has 10 tokens left and this request may take 11 tokens; "
        "it resets at 2026-09-22T00:00:00Z"
    )


def test_what_running_requests_reserve_is_no_spent_budget():
    """LiteLLM #27639 told callers that a budget was exhausted when it was only reserved, until the month's end."""
    of = purse("month", 5)
    of.reserve(0, 4 * USD)
    error = refusal(of, 0, 2 * USD)
    assert "has 5 USD left, 4 USD of it reserved by requests that run, and this request may take 2 USD" in str(
        error
    )
    assert error.retry_after_s == 1.0


def test_joules_are_refused_in_units_that_people_read():
    of = Purse(Budget("month", joules=3.6e6), "team acme's")
    of.spend(0, 0, NOW_S, 3_000_000 * 10**6)
    assert not of.fits(0, 0, NOW_S, 700_000 * 10**6)
    error = of.exhausted(0, 0, NOW_S, 700_000 * 10**6)
    assert error.message == (
        "team acme's budget of 3.6 MJ (1 kWh) per month has 600 kJ (166.7 Wh) left and this request may take"
        " 700 kJ (194.4 Wh); it resets at 2026-10-01T00:00:00Z"
    )
    assert error.retry_after_s == period_end("month", NOW_S) - NOW_S
    assert "may take 4 MJ (1.111 kWh), more than team acme's" in str(of.exhausted(0, 0, NOW_S, 4 * 10**12))


def test_joules_of_earlier_runs_are_told_and_of_rotated_keys_taken_over():
    of, other = (Purse(Budget("total", joules=9.0)) for _ in range(2))
    for _ in range(2):
        of.told(0.0, 0, 0, NOW_S, 4_000_000)
    other.spend(0, 0, NOW_S, 1_000_000)
    of.absorb(other)
    assert of.spent_microjoules == 5_000_000


def test_the_tightest_of_several_budgets_in_joules_holds():
    bounds = (Budget("day", joules=5.0), Budget("day", 7), Budget("day", joules=3.0, tokens=2))
    assert merged(bounds) == {"day": Budget("day", 7, 2, 3.0)}


def test_a_total_budget_does_not_reset():
    of = purse("total", 1)
    of.spend(0, 2 * USD, NOW_S)
    error = refusal(of, 0, 1, NOW_S + 1e9)
    assert error.message == "this key's budget of 1 USD in total is spent; it does not reset"
    assert error.retry_after_s is None


def test_who_asks_for_more_than_a_whole_budget_is_not_told_to_wait():
    error = refusal(purse("day", 0.5), 0, USD)
    assert (
        error.message == "this request may take 1 USD, more than this key's budget of 0.5 USD per day; ask for less"
    )
    assert error.retry_after_s is None


def test_what_costs_nothing_is_not_refused_for_money():
    of = purse()
    of.spend(0, 6 * USD, NOW_S)
    assert of.fits(10, 0, NOW_S)


def test_the_next_period_begins_by_itself():
    of = purse("day", 1)
    of.spend(7, USD, NOW_S)
    assert not of.fits(0, 1, of.until - 0.001)
    assert of.fits(0, USD, of.until)
    assert (of.spent_tokens, of.spent_pico_usd) == (0, 0)


def test_what_is_settled_after_a_period_is_charged_to_the_next_and_none_of_it_is_lost():
    """LiteLLM #34733: a reset that plainly set zero lost what was being spent at that moment."""
    of = purse("day", 10)
    of.fits(5, 3 * USD, NOW_S)
    of.reserve(5, 3 * USD)
    after = of.until + 1
    assert not of.fits(0, 8 * USD, after)  # what still runs counts in the new day too
    of.reserve(-5, -3 * USD)
    of.spend(4, 2 * USD, after)
    assert (of.spent_tokens, of.spent_pico_usd, of.reserved_tokens, of.reserved_pico_usd) == (4, 2 * USD, 0, 0)


def test_a_clock_that_steps_back_opens_no_second_budget():
    of = purse("day", 1)
    of.spend(0, USD, NOW_S)
    assert not of.fits(0, 1, NOW_S - 86_400)
    assert not of.fits(0, 1, NOW_S)


def test_what_was_spent_before_counts_once_however_often_it_is_told():
    """LiteLLM #28247: each of N tellers added it."""
    of = purse("day", 10)
    since = period_start("day", NOW_S)
    of.spend(1, USD, NOW_S)
    for _ in range(3):
        of.told(since, 4 * USD, 40, NOW_S)
    assert (of.spent_pico_usd, of.spent_tokens) == (5 * USD, 41)
    of.told(since, 6 * USD, 60, NOW_S)
    assert (of.spent_pico_usd, of.spent_tokens) == (7 * USD, 61)


def test_what_was_spent_in_another_period_does_not_count():
    of = purse("day", 10)
    of.told(period_start("day", NOW_S) - 86_400, 4 * USD, 40, NOW_S)
    assert of.spent_pico_usd == 0
    of.told(period_start("day", NOW_S), 4 * USD, 40, NOW_S)
    of.roll(of.until)
    of.told(of.since, USD, 1, of.since)
    assert of.spent_pico_usd == USD


steps = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60)),
        st.tuples(st.just("end"), st.integers(0, 20), st.integers(0, 100), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 1.0, 40_000.0, 90_000.0, 3e6]), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@quick
@given(
    period=st.sampled_from(PERIODS),
    money=st.integers(0, 100),
    tokens=st.none() | st.integers(0, 100),
    micro=st.none() | st.integers(0, 100),
    steps=steps,
)
def test_i8_and_i10_never_more_than_the_budget_and_never_below_nothing(period, money, tokens, micro, steps):
    """Whatever comes and ends when, if each uses at most what it reserved."""
    joules = None if micro is None else micro / 1e6
    of, at, running = Purse(Budget(period, money, tokens, joules)), NOW_S, []
    for what, first, second, third in steps:
        if what == "wait":
            at += first
        elif what == "arrive" and of.fits(first, second, at, third):
            of.reserve(first, second, third)
            running.append((first, second, third))
        elif what == "end" and running:
            ends = running.pop(first % len(running))
            of.reserve(-ends[0], -ends[1], -ends[2])
            of.spend(ends[0] * second // 100, ends[1] * second // 100, at, ends[2] * second // 100)
        assert of.spent_pico_usd + of.reserved_pico_usd <= money
        assert tokens is None or of.spent_tokens + of.reserved_tokens <= tokens
        assert min(of.spent_pico_usd, of.reserved_pico_usd, of.spent_tokens, of.reserved_tokens) >= 0
        assert micro is None or of.spent_microjoules + of.reserved_microjoules <= joules * 1e6
        assert min(of.spent_microjoules, of.reserved_microjoules) >= 0
        assert of.reserved_tokens == sum(held[0] for held in running)
        assert of.reserved_microjoules == sum(held[2] for held in running)
