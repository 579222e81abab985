"""Budgets in joules on the desk: reserved by what others took, held until the meter tells, given back once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import MODEL, NOW_S, Bench, billed, key, kinds, quick, the

from underlay.control.budgets import period_start
from underlay.control.caller_desk import LEASE_TOKENS, METER_S
from underlay.control.effects import Admitted, Cut, Refuse
from underlay.control.events import (
    AttemptFailed,
    BudgetSpent,
    ClientGone,
    EnergySettled,
    Finished,
    FirstToken,
    KeyChanged,
    Progress,
    SettingsChanged,
    Tick,
)
from underlay.domain.answer import Usage
from underlay.domain.joules import MICRO_PER_JOULE
from underlay.domain.keys import Budget
from underlay.domain.policy import Account

#: Of the requests that the desk learns from: 0.1 J for each token.
TAUGHT = Usage(50, 0, 50)
#: Nothing, a part, and all of what is reserved for 400 bytes and 99 tokens.
NOTHING, SHORT, ALL = Usage(), Usage(10, 0, 5), Usage(101, 0, 99)


def bench_with(joules=1000.0, period="day", *, taught=True, **more):
    """A desk with a budget in joules, which has heard of other people's requests what they took."""
    bench = Bench(slots=64, **more)
    bench.tell(KeyChanged(NOW_S, key(budgets=(Budget(period, joules=joules),))))
    if taught:
        bench.tell(KeyChanged(NOW_S, key("teacher")))
        settle(bench, "taught", 10.0, who="teacher", usage=TAUGHT)
    return bench


def settle(bench, ticket, joules, who="ann", usage=NOTHING):
    return bench.tell(
        EnergySettled(bench.at, ticket, f"key_{who}", f"{who}'s", MODEL, joules, {"busy": joules}, usage)
    )


def finish(bench, ticket="t1", usage=SHORT):
    return bench.tell(Finished(bench.at, ticket, 1, usage))


def purse(bench, who="ann"):
    (found,) = bench.desk.accounts.holding(bench.desk.keys[f"digest of {who}"], MODEL).purses
    return found


def state(bench):
    """Reserved and spent, in joules."""
    of = purse(bench)
    return of.reserved_microjoules / MICRO_PER_JOULE, of.spent_microjoules / MICRO_PER_JOULE


def test_a_request_reserves_what_others_took_by_its_tokens():
    bench = bench_with()
    bench.arrive(prompt_bytes=400, max_tokens=50, strands=3)
    assert state(bench) == (pytest.approx(0.1 * (101 + 150)), 0.0)


def test_what_was_reserved_is_held_between_its_end_and_its_meter():
    bench = bench_with()
    bench.arrive(prompt_bytes=400, max_tokens=99)
    finish(bench, usage=ALL)
    assert state(bench) == (pytest.approx(20.0), 0.0)
    settle(bench, "t1", 7.5)
    assert state(bench) == (0.0, 7.5)
    bench.tell(Tick(bench.at + METER_S))
    assert state(bench) == (0.0, 7.5)


def test_an_answer_that_was_shorter_holds_less():
    bench = bench_with()
    bench.arrive(prompt_bytes=400, max_tokens=99)
    finish(bench)
    assert state(bench) == (pytest.approx(1.5), 0.0)


def test_what_no_engine_answered_is_taken_for_next_to_nothing():
    bench = bench_with(attempts_max=1)
    bench.arrive(prompt_bytes=400, max_tokens=99)
    bench.tell(AttemptFailed(bench.at, "t1", 1, "connect"))
    bench.at += METER_S
    bench.tell(Tick(bench.at))
    assert state(bench) == (0.0, 1e-6)


@pytest.mark.parametrize("later_s", [1.0, 86_400.0])
def test_a_meter_that_tells_too_late_takes_the_place_of_the_estimate(later_s):
    bench = bench_with()
    bench.arrive(prompt_bytes=400, max_tokens=99)
    finish(bench, usage=ALL)
    bench.at += METER_S
    bench.tell(Tick(bench.at))
    bench.at += later_s
    settle(bench, "t1", 7.5)
    assert state(bench) == (0.0, 7.5)  # another day's estimate is not taken back from this day
    settle(bench, "t1", 2.5)
    assert state(bench) == (0.0, 10.0)


def test_without_a_word_of_its_meter_the_estimate_counts_once():
    bench = bench_with()
    bench.arrive(prompt_bytes=400, max_tokens=99)
    finish(bench, usage=ALL)
    bench.at += METER_S
    bench.tell(Tick(bench.at))
    assert state(bench) == (0.0, pytest.approx(20.0))
    bench.tell(Tick(bench.at + METER_S))
    assert state(bench) == (0.0, pytest.approx(20.0))


def test_a_meter_that_tells_before_the_end_counts_once():
    bench = bench_with()
    bench.arrive(prompt_bytes=400, max_tokens=99)
    settle(bench, "t1", 7.5)
    assert state(bench) == (0.0, 7.5)
    bench.tell(FirstToken(bench.at, "t1", 1, 101, 0))
    bench.tell(Progress(bench.at, "t1", 90))
    finish(bench)
    bench.at += METER_S
    bench.tell(Tick(bench.at))
    assert state(bench) == (0.0, 7.5)


@pytest.mark.parametrize("end", ["failed", "gone"])
def test_a_request_that_failed_or_was_left_took_its_joules_all_the_same(end):
    bench = bench_with(attempts_max=1)
    bench.arrive()
    if end == "failed":
        bench.tell(AttemptFailed(bench.at, "t1", 1, "reset"))
    else:
        bench.tell(ClientGone(bench.at, "t1", Usage(10, 0, 3)))
    settle(bench, "t1", 4.0)
    assert state(bench) == (0.0, 4.0)


@pytest.mark.parametrize("end", ["expired", "left the line"])
def test_a_request_that_never_ran_gives_all_back_at_once(end):
    bench = bench_with(replicas=0, wait_max_s=5.0)
    bench.arrive()
    assert state(bench)[0] > 0.0
    bench.at += 5
    bench.tell(Tick(bench.at) if end == "expired" else ClientGone(bench.at, "t1", Usage()))
    assert state(bench) == (0.0, 0.0)


def test_a_thousand_at_once_share_a_budget_for_ten():
    bench = bench_with(200.0)
    told = [kinds(bench.arrive(f"t{n}", prompt_bytes=400, max_tokens=99)) for n in range(100)]
    assert sum("Admitted" in each for each in told) == 10
    refused = the(Refuse, bench.arrive("more", prompt_bytes=400, max_tokens=99))
    assert refused.reason == "insufficient_quota"
    assert refused.message == (
        "this key's budget of 200 J per day has 200 J left, 200 J of it reserved by requests that run or wait for"
        " their meter, and this request may take 20 J; wait for one to end"
    )
    assert refused.retry_after_s == 1.0


def test_a_spent_budget_says_so_and_when_there_is_more():
    bench = bench_with(3.6e6)
    bench.arrive()
    finish(bench)
    settle(bench, "t1", 4e6)
    refused = the(Refuse, bench.arrive("t2"))
    assert refused.message == (
        f"this key's budget of 3.6 MJ (1 kWh) per day is spent; it resets at {'2026-09-22T00:00:00Z'}"
    )
    assert refused.retry_after_s == purse(bench).until - bench.at
    bench.at = purse(bench).until
    assert "Admitted" in kinds(bench.arrive("t3"))


def test_before_any_meter_has_told_next_to_nothing_is_reserved_but_a_spent_budget_refuses():
    bench = bench_with(500.0, taught=False)
    bench.arrive(max_tokens=900)
    assert state(bench)[0] == pytest.approx(1 / MICRO_PER_JOULE)
    bench.tell(BudgetSpent(bench.at, "key", "key_ann", "day", period_start("day", bench.at), 0, 0, 500.0))
    refused = the(Refuse, bench.arrive("t2"))
    assert "budget of 500 J per day is spent" in refused.message


def test_a_running_answer_reserves_more_and_ends_where_the_budget_does():
    bench = bench_with(60.0)
    bench.arrive(prompt_bytes=40, streaming=True)
    first = state(bench)[0]
    bench.tell(FirstToken(bench.at, "t1", 1, 11, 0))
    assert bench.tell(Progress(bench.at, "t1", LEASE_TOKENS)) == []
    assert state(bench)[0] > first + 0.1 * LEASE_TOKENS - 1e-6
    cut = the(Cut, bench.tell(Progress(bench.at, "t1", 560)))
    assert (cut.reason, cut.message) == ("insufficient_quota", "the budget is spent; the answer ends here")
    assert billed(bench.tell(ClientGone(bench.at, "t1", Usage(11, 0, 560))))[0] == "client_gone"
    settle(bench, "t1", 57.0)
    assert state(bench) == (0.0, 57.0)


def test_what_is_learnt_while_an_answer_runs_is_reserved_for_it_too():
    bench = bench_with(taught=False)
    bench.arrive(prompt_bytes=40, max_tokens=89)
    settle(bench, "of another", 10.0, usage=TAUGHT)
    bench.tell(FirstToken(bench.at, "t1", 1, 11, 0))
    assert state(bench)[0] == pytest.approx(0.1 * (11 + 64))


def test_other_budgets_are_not_touched_by_joules():
    bench = Bench()
    bench.tell(KeyChanged(NOW_S, key(budgets=(Budget("day", tokens=1000),))))
    bench.arrive(max_tokens=100)
    assert state(bench) == (0.0, 0.0)
    finish(bench)
    assert not bench.desk.agenda.heap
    settle(bench, "t1", 9.0)
    assert state(bench) == (0.0, 9.0)  # so that a bound in joules may be added later


def test_a_bound_that_comes_later_counts_what_was_taken_before():
    bench = Bench()
    bench.tell(KeyChanged(NOW_S, key(budgets=(Budget("day", tokens=1000),))))
    bench.arrive()
    finish(bench)
    settle(bench, "t1", 9.0)
    bench.tell(KeyChanged(NOW_S, key(budgets=(Budget("day", joules=9.0),))))
    assert the(Refuse, bench.arrive("t2")).reason == "insufficient_quota"


@pytest.mark.parametrize("gone", ["revoked", "unknown", "model"])
def test_a_settlement_of_what_is_gone_breaks_nothing(gone):
    bench = bench_with(accounts=(Account("tenant", "ann's", budgets=(Budget("day", joules=99.0),)),))
    team = bench.desk.accounts._purses["tenant", "ann's"][0]
    bench.arrive()
    if gone == "revoked":
        bench.tell(KeyChanged(bench.at, key(budgets=(Budget("day", joules=1000.0),), revoked_s=bench.at)))
        bench.tell(ClientGone(bench.at, "t1", Usage()))
    elif gone == "unknown":
        bench.tell(EnergySettled(bench.at, "t9", "key_nobody", "ann's", MODEL, 5.0))
    else:
        finish(bench)
        fewer = type(bench.desk.settings)(models=(), accounts=bench.desk.settings.accounts)
        bench.tell(SettingsChanged(bench.at, fewer))
    if gone != "unknown":
        settle(bench, "t1", 5.0)
    assert team.spent_microjoules == 5 * MICRO_PER_JOULE
    assert (team.reserved_microjoules > 0) == (gone == "unknown")


def test_a_budget_that_is_taken_away_and_given_back_in_between_holds_what_waits():
    bench = bench_with()
    bench.arrive(prompt_bytes=400, max_tokens=99)
    finish(bench, usage=ALL)
    bench.tell(KeyChanged(NOW_S, key()))
    bench.tell(KeyChanged(NOW_S, key(budgets=(Budget("day", joules=1000.0),))))
    assert state(bench)[0] == pytest.approx(20.0)
    settle(bench, "t1", 3.0)
    assert state(bench) == (0.0, 3.0)


def test_a_ticket_whose_name_comes_again_leaves_nothing_reserved():
    bench = bench_with()
    for _ in range(2):
        bench.arrive(prompt_bytes=400, max_tokens=99)
        finish(bench, usage=ALL)
    assert state(bench) == (pytest.approx(20.0), pytest.approx(20.0))  # nothing can tell whose a word would be
    settle(bench, "t1", 3.0)
    assert state(bench) == (0.0, pytest.approx(23.0))


def test_noise_of_a_meter_takes_nothing_back():
    bench = bench_with()
    settle(bench, "t1", -4.0, usage=Usage(10, 0, 10))
    assert state(bench) == (0.0, 0.0)


steps = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "arrive", "finish", "settle", "wait"]), st.integers(0, 9), st.floats(0, 30)
    ),
    max_size=50,
)


@quick
@given(steps)
def test_whatever_ends_and_is_told_when_all_that_was_taken_is_spent_once(told):
    """Spent are the joules that meters told and, where they were silent, what was kept; nothing stays reserved."""
    bench = bench_with(500.0, "total")
    due, open_, waiting = 0, {}, {}

    def end(name):
        del open_[name]
        finish(bench, name)
        kept = bench.desk.accounts.holding(bench.desk.keys["digest of ann"], MODEL).unsettled[name]
        waiting[name] = (kept.until, kept.microjoules)

    def silent():
        nonlocal due
        for name in [name for name, (until, _) in waiting.items() if until <= bench.at]:
            due += waiting.pop(name)[1]

    for number, (what, which, joules) in enumerate(told):
        name = f"t{number}"
        if what == "arrive" and "Admitted" in kinds(bench.arrive(name, max_tokens=100)):
            open_[name] = bench.desk.tickets[name].held
        elif what == "finish" and open_:
            end(list(open_)[which % len(open_)])
        elif what == "settle" and waiting:
            name = list(waiting)[which % len(waiting)]
            del waiting[name]
            settle(bench, name, joules, usage=Usage(10, 0, 5))
            due += round(joules * MICRO_PER_JOULE)
        elif what == "wait":
            bench.at += joules * 3
            bench.tell(Tick(bench.at))
            silent()
        assert purse(bench).spent_microjoules == due
    for name in list(open_):
        end(name)
    bench.at += METER_S
    bench.tell(Tick(bench.at))
    silent()
    assert (purse(bench).spent_microjoules, purse(bench).reserved_microjoules) == (due, 0)


def test_a_request_let_in_says_so():
    assert the(Admitted, bench_with().arrive()).why.startswith("key key_ann of ann's, within its limits")
