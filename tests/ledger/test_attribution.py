"""Whatever comes in, a window closes; and who pays what is fair in the four ways that can be tested."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.ledger.builders import (
    IDLE_W,
    MODEL,
    TRUTH,
    decode,
    idle,
    joules,
    marginal_j,
    paid,
    prefill,
    step,
    window,
)

from underlay.ledger.attribution import DEVICE_ACCOUNTS, Window, attribute
from underlay.ledger.policies import POLICIES
from underlay.ledger.step_energy import Coefficients, StepModel
from underlay.ledger.steps import Step, Work

PURPOSES = ("answer", "recompute", "failed", "abandoned")
policies = st.sampled_from(list(POLICIES))
amounts = st.floats(0.0, 1e12, allow_subnormal=False)


@st.composite
def works(draw):
    return Work(
        draw(st.sampled_from("abcde")),
        prefill_tokens=draw(st.integers(0, 10**6)),
        prefill_flop=draw(st.floats(0.0, 1e21)),
        decode_tokens=draw(st.integers(0, 10**5)),
        kv_bytes=draw(st.floats(0.0, 1e15)),
        purpose=draw(st.sampled_from(PURPOSES)),
    )


@st.composite
def any_steps(draw):
    begin_s = draw(st.floats(-3.0, 3.0))
    took_s = draw(st.one_of(st.just(0.0), st.floats(1e-6, 4.0)))
    return Step(
        begin_s,
        begin_s + took_s,
        tuple(draw(st.lists(works(), min_size=1, max_size=4))),
        steps=draw(st.floats(0.5, 100.0)),
    )


@given(
    amounts, st.floats(0.0, 1e4), st.lists(any_steps(), max_size=5), st.tuples(*[st.floats(0.0, 1e6)] * 4), policies
)
@settings(max_examples=150, deadline=None)
def test_whatever_comes_in_the_meter_is_the_sum_of_accounts(value, watts, log, numbers, policy) -> None:
    model = StepModel(Coefficients(*numbers), "modelled", 0.1)
    accounts = attribute(Window(0.0, 1.0, joules(value), idle(watts)), log, model, policy)
    accounts.check()
    assert sum(accounts.totals().values()) == pytest.approx(value, rel=1e-9, abs=0.0)
    assert tuple(accounts.totals()) == DEVICE_ACCOUNTS


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_ten_thousand_random_windows_close(seed) -> None:
    dice = random.Random(seed)
    for _ in range(100):
        log = []
        for _ in range(dice.randint(0, 3)):
            begin_s = dice.uniform(-0.5, 1.2)
            made = [dice.choice((decode, prefill))(dice.choice("abc"), dice.randint(1, 5000), purpose=dice.choice(PURPOSES))
                    for _ in range(dice.randint(1, 4))]  # fmt: skip
            log.append(Step(begin_s, begin_s + dice.choice((0.0, dice.expovariate(3.0))), tuple(made)))
        value = dice.choice((0.0, dice.uniform(0, 20), dice.expovariate(0.01), 10 ** dice.uniform(-9, 9)))
        accounts = attribute(window(value), log, MODEL, dice.choice(list(POLICIES)))
        accounts.check()
        assert abs(sum(accounts.totals().values()) - value) <= 1e-9 * value


def test_a_dropped_account_turns_the_check_red() -> None:
    log = [
        step(decode("a"), prefill("b"), decode("c", purpose="recompute"), end_s=0.2),
        step(decode("d", purpose="failed"), decode("e", purpose="abandoned"), begin_s=0.2, end_s=0.5),
        step(prefill("", purpose="warming"), begin_s=0.4, end_s=0.5),
        step(Work("f"), begin_s=0.5, end_s=0.5),
    ]
    accounts = attribute(window(100.0), log, MODEL)
    accounts.check()
    assert {entry.account for entry in accounts.entries} == set(DEVICE_ACCOUNTS)
    for name in DEVICE_ACCOUNTS:
        left = tuple(entry for entry in accounts.entries if entry.account != name)
        with pytest.raises(AssertionError, match="dropped"):
            msgspec.structs.replace(accounts, entries=left).check()
        # Even if whoever drops it forgets to have made it: its joules are missed, or its place.
        hidden = msgspec.structs.replace(accounts, entries=left, entries_made=len(left))
        with pytest.raises(AssertionError):
            hidden.check()


def test_joules_below_zero_and_strange_accounts_are_no_way_to_close() -> None:
    accounts = attribute(window(100.0), [step(decode("a"), end_s=0.5)], MODEL)
    first, second, last = accounts.entries
    less = msgspec.structs.replace
    with pytest.raises(AssertionError, match="below 0"):
        less(
            accounts,
            entries=(less(first, joules=-1.0), less(second, joules=second.joules + first.joules + 1), last),
        ).check()
    with pytest.raises(AssertionError, match="no such account"):
        less(accounts, entries=(first, less(second, account="other"), last)).check()


def test_idle_time_is_apart_and_never_more_than_the_meter() -> None:
    half = [step(decode("a"), end_s=0.5)]
    assert attribute(window(100.0), half, MODEL).totals()["idle_provisioned"] == pytest.approx(IDLE_W / 2)
    low = attribute(window(30.0), half, MODEL)
    assert low.totals()["idle_provisioned"] == 30.0
    assert paid(low, "a") == 0.0
    zero = attribute(window(0.0), half, MODEL)
    assert sum(zero.totals().values()) == 0.0
    assert zero.rescale == 0.0


def test_what_was_drawn_with_no_step_is_nobodys() -> None:
    accounts = attribute(window(100.0), [], MODEL)
    assert accounts.totals()["idle_provisioned"] == IDLE_W
    assert accounts.totals()["unexplained"] == 20.0
    assert accounts.rescale is None
    assert accounts.model_error is None


def test_a_step_across_an_edge_counts_by_its_time_within() -> None:
    across = step(decode("a"), begin_s=0.75, end_s=1.75)
    first = attribute(window(100.0), [across], MODEL)
    second = attribute(window(100.0, 1.0, 2.0), [across], MODEL)
    assert (first.busy_s, second.busy_s) == (pytest.approx(0.25), pytest.approx(0.75))
    assert first.rescale * 0.25 * (3.3 + marginal_j(across.works[0])) == pytest.approx(first.busy_j)


@given(
    st.lists(st.tuples(st.integers(1, 4000), st.booleans()), min_size=1, max_size=5),
    st.lists(st.integers(1, 4000), min_size=1, max_size=5),
    policies,
)
@quick
def test_additivity_two_ledgers_of_a_split_log_are_the_ledger_of_the_whole(first, second, policy) -> None:
    a = step(*(decode(f"r{n}", c) if d else prefill(f"r{n}", c) for n, (c, d) in enumerate(first)), end_s=0.4)
    b = step(*(decode(f"r{n}", c) for n, c in enumerate(second)), begin_s=0.4, end_s=1.0)
    whole = attribute(window(500.0), [a, b], MODEL, policy)
    weights = [sum(POLICIES[policy](log, TRUTH)) for log in (a, b)]
    for request in {entry.request for entry in whole.entries} - {""}:
        parts = 0.0
        for log, weight, begin_s, end_s in ((a, weights[0], 0.0, 0.4), (b, weights[1], 0.4, 1.0)):
            value = 500.0 * weight / sum(weights)
            parts += paid(attribute(window(value, begin_s, end_s), [log], MODEL, policy), request)
        assert paid(whole, request) == pytest.approx(parts)


@given(st.integers(1, 8), st.integers(1, 4000), policies, st.integers(1, 2000))
@quick
def test_symmetry_who_does_the_same_pays_the_same(twins, context, policy, other) -> None:
    log = [step(*(decode(f"r{n}", context) for n in range(twins)), prefill("other", other))]
    accounts = attribute(window(300.0), log, MODEL, policy)
    assert len({round(paid(accounts, f"r{n}"), 9) for n in range(twins)}) == 1


@given(policies)
@quick
def test_dummy_who_waits_pays_no_busy_energy(policy) -> None:
    log = [step(decode("a"), prefill("b"), begin_s=0.0, end_s=0.5), step(decode("waits"), begin_s=1.0, end_s=1.5)]
    accounts = attribute(window(300.0), log, MODEL, policy)
    assert paid(accounts, "waits") == 0.0
    assert paid(accounts, "a") > 0.0


@given(
    st.integers(1, 4000),
    st.integers(0, 4000),
    st.integers(1, 64),
    st.integers(0, 64),
    st.sampled_from(("shapley", "marginal_only", "token_share")),
)
@quick
def test_monotonicity_more_tokens_are_never_cheaper(context, longer, tokens, more, policy) -> None:
    others = (decode("x", 700), prefill("y", 300))
    small = attribute(window(300.0), [step(decode("a", context, tokens), *others)], MODEL, policy)
    great = attribute(window(300.0), [step(decode("a", context + longer, tokens + more), *others)], MODEL, policy)
    assert paid(great, "a") >= paid(small, "a") * (1 - 1e-12)


def test_within_a_step_the_fixed_part_is_shared_and_the_rest_goes_to_its_cause() -> None:
    one, two = decode("a", 100), prefill("b", 1000)
    total = 3.3 + marginal_j(one) + marginal_j(two)
    accounts = attribute(window(total), [step(one, two)], MODEL)
    assert paid(accounts, "a") == pytest.approx(1.65 + marginal_j(one))
    assert paid(accounts, "b") == pytest.approx(1.65 + marginal_j(two))
    assert accounts.rescale == pytest.approx(1.0)
    # A request with two works in a step is one request, and a part of it may be waste.
    twice = attribute(window(total), [step(one, prefill("b", 500), prefill("b", 500, purpose="recompute"))], MODEL)
    assert paid(twice, "a") > 1.65
    assert twice.totals()["scheduler_waste"] == pytest.approx(paid(twice, "b") / 2)


def test_what_was_computed_in_vain_is_on_accounts_of_its_own_and_says_whose_it_was() -> None:
    log = [step(*(decode(f"for {purpose}", purpose=purpose) for purpose in PURPOSES))]
    accounts = attribute(window(100.0), log, MODEL)
    assert {entry.account: entry.request for entry in accounts.entries if entry.request} == {
        "busy": "for answer",
        "scheduler_waste": "for recompute",
        "failed_attempts": "for failed",
        "abandoned_streams": "for abandoned",
    }


def test_a_token_read_is_not_a_token_decoded_unless_one_asks_for_that() -> None:
    log = [step(decode("writes", 1000), prefill("reads", 1))]
    fair = attribute(window(100.0), log, MODEL)
    counted = attribute(window(100.0), log, MODEL, "token_share")
    assert paid(fair, "writes") > paid(fair, "reads")
    assert paid(counted, "writes") == paid(counted, "reads") == 50.0


def test_no_share_is_called_measured_and_each_says_what_it_may_be_off_by() -> None:
    log = [step(decode("a"), decode("b"))]
    accounts = attribute(window(300.0, off=70.0), log, MODEL)
    shares = [entry for entry in accounts.entries if entry.request]
    assert {entry.method for entry in shares} == {"calibrated"}
    assert sum(entry.reading_j for entry in shares) == pytest.approx(70.0)
    assert shares[0].split_j == pytest.approx(2 * 0.05 * 0.5 * 150.0)
    alone = attribute(window(300.0, off=70.0), [step(decode("a"))], MODEL).entries[1]
    assert (alone.reading_j, alone.split_j) == (70.0, 0.0)
    by_model = Window(0.0, 1.0, msgspec.structs.replace(joules(9.0), method="assumed"), idle(off=None))
    entry = attribute(by_model, log, MODEL).entries[1]
    assert entry.method == "assumed"
    assert entry.figure("gpu0").uncertainty is None


def test_accounts_are_json() -> None:
    accounts = attribute(window(100.0), [step(decode("a"), coarse=True)], MODEL)
    again = msgspec.json.decode(msgspec.json.encode(accounts), type=type(accounts))
    assert again == accounts
    assert again.coarse
