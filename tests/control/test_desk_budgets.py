"""Budgets on the desk: set aside at admission, more while the answer grows, cut at the end of it, given back."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import MODEL, NOW_S, Bench, billed, key, kinds, quick, the

from underlay.control.budgets import period_start
from underlay.control.caller_desk import LEASE_TOKENS, MARGIN_TOKENS
from underlay.control.effects import Cut, Refuse
from underlay.control.events import (
    AttemptFailed,
    BudgetSpent,
    ClientGone,
    Finished,
    FirstToken,
    KeyChanged,
    Progress,
    Tick,
)
from underlay.domain.answer import Usage
from underlay.domain.keys import Budget, Limits
from underlay.domain.policy import Account


def bench_with(tokens=None, pico_usd=None, period="day", **more):
    bench = Bench(slots=64, **more)
    bench.tell(KeyChanged(NOW_S, key(budgets=(Budget(period, pico_usd, tokens),))))
    return bench


def purse(bench, name="ann"):
    (found,) = bench.desk.accounts.holding(bench.desk.keys[f"digest of {name}"], MODEL).purses
    return found


def progress(bench, tokens, ticket="t1"):
    return bench.tell(Progress(bench.at, ticket, tokens))


def test_a_request_sets_aside_its_prompt_and_all_it_asked_for():
    bench = bench_with(tokens=10_000)
    bench.arrive(prompt_bytes=400, max_tokens=50, strands=3)
    assert purse(bench).reserved_tokens == 101 + 150


def test_what_is_set_aside_goes_by_what_engines_made_of_prompts_before():
    bench = bench_with(tokens=10_000)
    bench.arrive("teacher", prompt_bytes=400, max_tokens=0)
    bench.tell(FirstToken(bench.at, "teacher", 1, 300, 0))
    bench.tell(Finished(bench.at, "teacher", 1, Usage(300, 0, 0)))
    bench.arrive(prompt_bytes=400, max_tokens=50)
    assert purse(bench).reserved_tokens == 301 + 50


def test_limits_of_tokens_go_by_it_too():
    bench = Bench(limits=Limits(tokens_per_minute=1000), slots=64)
    bench.arrive("teacher", prompt_bytes=400, max_tokens=1)
    bench.tell(FirstToken(bench.at, "teacher", 1, 300, 0))
    bench.tell(ClientGone(bench.at, "teacher", Usage()))
    bench.at += 60
    bench.arrive(prompt_bytes=400, max_tokens=33, strands=3)  # 301 and 99
    assert the(Refuse, bench.arrive("t2", prompt_bytes=400, max_tokens=300)).reason == "rate_limit_exceeded"
    assert "Dispatch" in kinds(bench.arrive("t2", prompt_bytes=400, max_tokens=299))


def test_without_a_limit_it_sets_aside_one_lease_for_each_answer():
    bench = bench_with(tokens=10_000)
    bench.arrive(prompt_bytes=400, strands=2)
    assert purse(bench).reserved_tokens == 101 + 2 * LEASE_TOKENS


def test_where_answers_are_longer_than_a_lease_it_sets_aside_as_much_as_they_have_been():
    """Those let in should not all be cut in the middle, as many more than there is money for would be."""
    bench = bench_with(tokens=100_000)
    for number in range(100):
        bench.arrive(f"teacher {number}", max_tokens=1)
        bench.tell(Finished(bench.at, f"teacher {number}", 1, Usage(10, 0, 700)))
    bench.arrive()
    assert purse(bench).reserved_tokens == pytest.approx(11 + 697, abs=2)


def test_money_is_set_aside_by_the_models_price():
    bench = bench_with(pico_usd=10**12)
    bench.arrive(prompt_bytes=400, max_tokens=50)
    assert purse(bench).reserved_pico_usd == 101 * 150_000 + 50 * 600_000


def test_the_end_puts_what_was_used_in_the_place_of_what_was_set_aside():
    bench = bench_with(tokens=1000)
    bench.arrive(max_tokens=500)
    bench.tell(Finished(bench.at, "t1", 1, Usage(10, 4, 20)))
    assert (purse(bench).reserved_tokens, purse(bench).spent_tokens) == (0, 30)


@pytest.mark.parametrize("end", ["failed", "expired", "left the line", "refused"])
def test_what_gave_nothing_is_given_back_whole(end):
    bench = bench_with(tokens=1000, wait_max_s=5.0)
    if end == "failed":
        bench.arrive()
        bench.tell(AttemptFailed(bench.at, "t1", 1, "rejected"))
    else:
        bench.arrive("wide", strands=8)  # an idle replica of 64 takes it
        bench.tell(Finished(bench.at, "wide", 1, Usage()))
        bench.desk.replicas["r1"].capacity = 0
        bench.desk.of_model(MODEL).pool.changed(bench.desk.replicas["r1"])
        bench.arrive("runs", max_tokens=9)
        bench.arrive("t1", max_tokens=9)
        if end == "expired":
            bench.tell(Tick(bench.at + 5))
        elif end == "left the line":
            bench.tell(ClientGone(bench.at, "t1", Usage()))
        else:
            bench.arrive("t2", max_tokens=999)
            bench.tell(ClientGone(bench.at, "t1", Usage()))
        bench.tell(ClientGone(bench.at, "runs", Usage()))
    assert (purse(bench).reserved_tokens, purse(bench).spent_tokens) == (0, 0)


def test_an_answer_that_outgrows_its_lease_gets_another_before_it_is_used_up():
    bench = bench_with(tokens=10_000)
    bench.arrive(prompt_bytes=40)  # 11 tokens of prompt, by estimate
    bench.tell(FirstToken(bench.at, "t1", 1, 10, 0))
    held = purse(bench).reserved_tokens
    assert progress(bench, LEASE_TOKENS - MARGIN_TOKENS) == []
    assert purse(bench).reserved_tokens == held
    progress(bench, LEASE_TOKENS - MARGIN_TOKENS + 2)
    assert purse(bench).reserved_tokens == held + LEASE_TOKENS + 1


def test_where_the_budget_ends_the_answer_is_cut_once_and_billed():
    bench = bench_with(tokens=400)
    bench.arrive()
    bench.tell(FirstToken(bench.at, "t1", 1, 10, 0))
    assert progress(bench, 200) == []  # another whole lease would be too much; a smaller part is left
    cut = the(Cut, progress(bench, 340))
    assert cut.reason == "insufficient_quota"
    assert progress(bench, 350) == []
    effects = bench.tell(ClientGone(bench.at, "t1", Usage(10, 0, 360)))
    assert billed(effects)[:2] == ("client_gone", Usage(10, 0, 360))
    assert purse(bench).spent_tokens == 370


def test_an_answer_with_a_limit_of_its_own_has_all_it_needs_and_is_never_cut():
    bench = bench_with(tokens=311)
    bench.arrive(max_tokens=300)
    bench.tell(FirstToken(bench.at, "t1", 1, 11, 0))
    for made in (100, 250, 299, 300):
        assert progress(bench, made) == []
    assert billed(bench.tell(Finished(bench.at, "t1", 1, Usage(11, 0, 300))))[0] == "finished"


def test_a_prompt_longer_than_its_estimate_is_set_aside_when_it_is_known():
    bench = bench_with(tokens=1000)
    bench.arrive(prompt_bytes=40, max_tokens=10)
    bench.tell(FirstToken(bench.at, "t1", 1, 300, 0))
    assert purse(bench).reserved_tokens >= 310


def test_a_cut_stream_whose_replica_fails_is_not_begun_again():
    bench = bench_with(tokens=400)
    bench.see("r2")
    bench.arrive(streaming=True)
    bench.tell(FirstToken(bench.at, "t1", 1, 10, 0))
    assert kinds(progress(bench, 380)) == ["Cut"]
    assert "Dispatch" not in kinds(bench.tell(AttemptFailed(bench.at, "t1", 1, "reset", 200)))


def test_i8_a_thousand_at_once_get_no_more_than_there_is():
    each = 11 + 50
    bench = Bench(slots=2000, waiting_max=2000)
    bench.checking = False  # after each of a thousand it is quadratic; once at the end is enough
    bench.tell(KeyChanged(NOW_S, key(budgets=(Budget("day", tokens=100 * each),))))
    effects = [bench.arrive(f"t{number}", max_tokens=50)[0] for number in range(1000)]
    assert kinds(effects).count("Admitted") == 100
    refused = [effect for effect in effects if type(effect) is Refuse]
    assert {effect.reason for effect in refused} == {"insufficient_quota"}
    bench.desk.check()


@quick
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 120)), max_size=40))
def test_i8_what_is_spent_and_set_aside_passes_the_budget_by_less_than_a_margin(steps):
    """What is made between two reports is at most half of the margin; beyond it nothing is made unpaid for."""
    bench = bench_with(tokens=1500)
    made = {}
    for number, (which, more) in enumerate(steps):
        name = f"t{which}"
        if name not in made:
            if kinds(bench.arrive(f"{name} {number}"))[0] == "Admitted":
                made[name] = (f"{name} {number}", 0)
                bench.tell(FirstToken(bench.at, f"{name} {number}", 1, 11, 0))
            continue
        ticket, tokens = made[name]
        tokens += min(more, MARGIN_TOKENS // 2)
        made[name] = (ticket, tokens)
        if any(type(effect) is Cut for effect in progress(bench, tokens, ticket)):
            bench.tell(ClientGone(bench.at, ticket, Usage(11, 0, tokens + MARGIN_TOKENS // 2)))
            del made[name]
        elif more % 7 == 0:
            bench.tell(Finished(bench.at, ticket, 1, Usage(11, 0, tokens)))
            del made[name]
        assert purse(bench).spent_tokens + purse(bench).reserved_tokens <= 1500 + MARGIN_TOKENS


def test_what_the_books_say_was_spent_before_counts():
    bench = bench_with(tokens=1000)
    bench.tell(BudgetSpent(NOW_S, "key", "key_ann", "day", period_start("day", NOW_S), 0, 990))
    refuse = the(Refuse, bench.arrive(max_tokens=10))
    assert refuse.reason == "insufficient_quota"
    assert 0.0 < refuse.retry_after_s <= 86_400.0


def test_the_budget_of_a_team_holds_for_all_its_keys():
    team = Account("tenant", "ann's", budgets=(Budget("total", tokens=100),))
    bench = Bench(accounts=(team,))
    assert kinds(bench.arrive("t1", max_tokens=50))[0] == "Admitted"
    assert "team ann's's budget" in the(Refuse, bench.arrive("t2", max_tokens=50)).message


def test_a_request_that_its_budget_refuses_is_counted_by_no_limit():
    bench = Bench()
    one = Limits(requests_per_minute=1)
    bench.tell(KeyChanged(NOW_S, key(limits=one, budgets=(Budget("day", tokens=100),))))
    assert the(Refuse, bench.arrive("t1", max_tokens=900)).reason == "insufficient_quota"
    assert kinds(bench.arrive("t2", max_tokens=20))[0] == "Admitted"


def test_i10_costs_are_exact():
    """Whole pico-dollars, no rounding, however many."""
    bench = bench_with(pico_usd=10**12)
    for number in range(50):
        bench.arrive(f"t{number}", max_tokens=7)
        bench.tell(Finished(bench.at, f"t{number}", 1, Usage(11, 3, 7)))
    each = Decimal("0.15") * 8 + Decimal("0.075") * 3 + Decimal("0.60") * 7
    assert purse(bench).spent_pico_usd == 50 * int(each * 10**6)
