"""Counters of service and the slots kept free."""

from collections import Counter
from math import exp

import pytest
from hypothesis import given
from hypothesis import settings as pace
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.control.builders import quick

from underlay.control.fairness import INPUT_WEIGHT, OUTPUT_WEIGHT, RECENT_S, Counters, Holdback

TENANTS = ("ann", "bob", "cyd")


def counters(**weights):
    return Counters(lambda tenant: weights.get(tenant, 1.0))


def serve_least(counters, tenants, costs):
    """Serve who has received least, again and again; the weighted tokens each got."""
    got = dict.fromkeys(tenants, 0.0)
    for cost in costs:
        tenant = min(tenants, key=counters.value)
        counters.charge(tenant, cost)
        got[tenant] += cost
    return got


def test_a_token_of_an_answer_counts_as_two_of_a_prompt():
    assert (INPUT_WEIGHT, OUTPUT_WEIGHT) == (1.0, 2.0)


@quick
@given(st.lists(st.floats(1, 500), min_size=1, max_size=200), st.tuples(*[st.floats(0, 1000)] * 3))
def test_backlogged_tenants_get_the_same_within_two_requests(costs, before):
    """The bound of the paper, whatever they had received before they all came to wait."""
    count = counters()
    for tenant, tokens in zip(TENANTS, before, strict=True):
        count.arrive(tenant)
        count.charge(tenant, tokens)
        count.depart(tenant)
    for tenant in TENANTS:
        count.arrive(tenant)
    start = {tenant: count.value(tenant) for tenant in TENANTS}
    got = serve_least(count, TENANTS, costs)
    gap = max(start.values()) - min(start.values())
    assert max(got.values()) - min(got.values()) <= 2 * max(costs) + gap
    assert gap <= max(before)


def test_weights_are_parts():
    got = serve_least(counters(ann=3.0), ("ann", "bob"), [10.0] * 400)
    assert got["ann"] == pytest.approx(3 * got["bob"], rel=0.02)


def test_one_that_was_away_returns_level_with_the_least_served():
    count = counters()
    count.arrive("ann")
    count.charge("ann", 5000.0)
    count.arrive("cyd")
    count.charge("cyd", 100.0)
    count.arrive("bob")
    assert count.value("bob") == 5000.0  # cyd came when ann alone was active
    assert count.value("cyd") == 5100.0


def test_after_all_left_one_returns_level_with_the_last():
    count = counters()
    count.arrive("ann")
    count.charge("ann", 5000.0)
    count.depart("ann")
    count.arrive("bob")
    assert count.value("bob") == 5000.0


def test_a_request_that_runs_hoards_no_credit():
    """bob always has one request running and asks for no more; his burst must not outrun ann for ever."""
    count = counters()
    count.arrive("ann")
    for _ in range(100):
        count.charge("ann", 1000.0)
        count.arrive("bob")
        count.charge("bob", 10.0)
        count.depart("bob")
    count.arrive("bob")
    got = serve_least(count, ("ann", "bob"), [1000.0] * 100)
    assert abs(got["ann"] - got["bob"]) <= 2000.0


def test_a_debt_is_kept_while_away():
    count = counters()
    count.arrive("ann")
    count.arrive("bob")
    count.charge("bob", 900.0)
    count.depart("bob")
    count.arrive("bob")
    assert count.value("bob") == 900.0


def test_weights_can_change():
    weights = {"ann": 1.0}
    count = Counters(lambda tenant: weights[tenant])
    count.charge("ann", 100.0)
    weights["ann"] = 2.0
    count.reweigh()
    count.charge("ann", 100.0)
    assert count.value("ann") == 150.0


class CountersMachine(RuleBasedStateMachine):
    """Against the paper's listing with plain dictionaries."""

    def __init__(self):
        super().__init__()
        self.count = counters(bob=2.0)
        self.values = dict.fromkeys(TENANTS, 0.0)
        self.waiting = dict.fromkeys(TENANTS, 0)
        self.last = None
        self.told = []
        self.count.watch(self.told.append)

    @rule(tenant=st.sampled_from(TENANTS))
    def arrive(self, tenant):
        if self.waiting[tenant] == 0:
            active = [self.values[each] for each in TENANTS if self.waiting[each]]
            floor = min(active) if active else self.values.get(self.last, float("-inf"))
            self.values[tenant] = max(self.values[tenant], floor)
        self.waiting[tenant] += 1
        self.count.arrive(tenant)

    @rule(tenant=st.sampled_from(TENANTS))
    def depart(self, tenant):
        if self.waiting[tenant]:
            self.waiting[tenant] -= 1
            if self.waiting[tenant] == 0:
                self.last = tenant
            self.count.depart(tenant)

    @rule(tenant=st.sampled_from(TENANTS), tokens=st.integers(-8, 16))
    def charge(self, tenant, tokens):
        self.values[tenant] += tokens / (2.0 if tenant == "bob" else 1.0)
        self.told.clear()
        self.count.charge(tenant, float(tokens))
        assert self.told == ([tenant] if tokens < 0 else [])

    @invariant()
    def same(self):
        assert {tenant: self.count.value(tenant) for tenant in TENANTS} == self.values


TestCounters = CountersMachine.TestCase
TestCounters.settings = pace(quick, stateful_step_count=15)


# Slots kept free. Whoever is to be kept out has had too much for long here, where nothing else is said.


def holdback(share=0.1, **weights):
    return Holdback(share, lambda tenant: weights.get(tenant, 1.0))


def held(slots=8, share=0.1, others=("bob",), **weights):
    """Alone, ann took every slot; then others come and go, and her strands end. How many may she have again?"""
    kept = holdback(share, **weights)
    kept.began("ann", slots, 0.0)
    for other in others:
        kept.began(other, 1, 100.0)
        kept.ended(other, 1, 100.0)
    for strands in range(slots, 0, -1):
        kept.ended("ann", 1, 100.0)
        if not kept.keeps_out("ann", slots - strands + 1, slots, 100.0):
            return kept, strands
    return kept, 0


def running(slots, **strands):
    """Tenants that have had so many strands for long, and how many slots that leaves."""
    kept = holdback()
    for tenant, count in strands.items():
        kept.began(tenant, count, 0.0)
    return kept, slots - sum(strands.values())


def test_alone_a_tenant_takes_all():
    assert held(others=())[1] == 8


def test_while_another_is_about_it_leaves_a_slot():
    kept, may_have = held()
    assert may_have == 7
    assert not kept.keeps_out("bob", 1, 8, 100.0)


def test_some_time_later_it_takes_that_too():
    kept, _ = held()
    kept.began("ann", 1, 100.0)
    assert kept.keeps_out("ann", 1, 8, 100.0 + RECENT_S - 0.1)
    assert not kept.keeps_out("ann", 1, 8, 100.0 + RECENT_S)


def test_one_whose_strands_run_is_about_however_long():
    kept = holdback()
    kept.began("ann", 6, 0.0)
    kept.began("bob", 1, 3.0)
    assert kept.keeps_out("ann", 1, 8, 1000.0)
    kept.ended("bob", 1, 1000.0)
    assert kept.keeps_out("ann", 1, 8, 1000.0 + RECENT_S - 1)
    assert not kept.keeps_out("ann", 1, 8, 1000.0 + RECENT_S)


def test_nobody_is_kept_from_its_fair_part():
    kept, free = running(8, ann=5, bob=2)
    assert kept.keeps_out("ann", free, 8, 60.0)
    assert not kept.keeps_out("bob", free, 8, 60.0)


def test_a_part_is_not_more_than_a_part():
    kept, free = running(8, ann=4, bob=3)
    assert not kept.keeps_out("ann", free, 8, 60.0)


def test_a_burst_of_a_modest_tenant_is_not_kept_out():
    kept, _ = running(20, ann=2, bob=6)
    kept.began("ann", 10, 60.0)
    assert not kept.keeps_out("ann", 2, 20, 60.0)
    assert not kept.keeps_out("ann", 2, 20, 70.0)
    assert kept.keeps_out("ann", 2, 20, 100.0), "for so long it is no burst"


def test_one_that_has_had_too_much_and_has_it_no_more_is_not_kept_out():
    kept, _ = running(20, ann=14, bob=4)
    assert kept.keeps_out("ann", 2, 20, 60.0)
    kept.ended("ann", 5, 60.0)
    kept.began("bob", 5, 60.0)
    assert not kept.keeps_out("ann", 2, 20, 60.0)


def test_one_that_comes_back_to_its_part_is_soon_not_kept_out():
    kept, _ = running(20, ann=14, bob=4)
    kept.ended("ann", 4, 60.0)  # ten is its part, and not too much
    assert kept.keeps_out("ann", 2, 20, 61.0)
    until = kept.kept_until(2, 20, 61.0)
    assert 61.0 < until < 90.0
    assert kept.keeps_out("ann", 2, 20, until - 0.05)
    assert not kept.keeps_out("ann", 2, 20, until)


@pytest.mark.parametrize(("bobs", "left"), [(0, 10), (1, 10), (16, 10), (17, 11), (25, 13), (30, 14)])
def test_more_is_kept_free_while_others_have_many_in_flight(bobs, left):
    """The square root of what they have, two and a half times: as many more may come before as many end."""
    kept = holdback()
    kept.began("ann", 100 - bobs - left, 0.0)
    kept.began("bob", bobs + 1, 59.0)
    kept.ended("bob", 1, 59.0)
    assert kept.keeps_out("ann", left, 100, 60.0)
    assert not kept.keeps_out("ann", left + 1, 100, 60.0)


def test_also_where_more_is_kept_it_is_known_until_when():
    """Forty-five are too many of a hundred for one of three, and not for one of two."""
    kept, free = running(100, ann=45, bob=42)
    kept.began("cyd", 1, 60.0)
    kept.ended("cyd", 1, 60.0)
    assert kept.keeps_out("ann", free, 100, 60.0)
    assert kept.kept_until(free, 100, 60.0) == 60.0 + RECENT_S
    assert not kept.keeps_out("ann", free, 100, 60.0 + RECENT_S)


def test_what_others_use_that_are_not_counted_here_is_no_reason_to_keep_more():
    """Ninety slots run, most of them in less urgent bands: of those in ann's band, bob has but one."""
    kept, _ = running(100, ann=60, bob=1)
    assert kept.keeps_out("ann", 10, 100, 60.0)
    assert not kept.keeps_out("ann", 11, 100, 60.0)


def test_without_a_share_nothing_is_kept():
    kept = holdback(share=0.0)
    kept.began("ann", 90, 0.0)
    kept.began("bob", 9, 0.0)
    assert not kept.keeps_out("ann", 1, 100, 60.0)


def test_a_fair_part_goes_by_weight():
    assert held(slots=100, share=0.5)[1] == 50
    assert held(slots=100, share=0.5, ann=3.0)[1] == 75
    assert held(slots=100, share=0.5, bob=4.0)[1] == 50  # what is not kept back is anybody's


@pytest.mark.parametrize(("slots", "left"), [(1, 0), (2, 0), (3, 0), (4, 1), (10, 1), (11, 2), (100, 10)])
def test_small_pools_keep_nothing_back(slots, left):
    assert slots - held(slots=slots)[1] == left


WEIGHTS = {"ann": 0.3, "bob": 0.7, "cyd": 0.7}
happenings_of_tenants = st.lists(st.tuples(st.sampled_from(TENANTS), st.floats(0, 20), st.booleans()), max_size=60)


def mean_of(changes, at):
    """Strands in flight in the fading mean: each change counts by how long ago it was."""
    return sum(change * (1.0 - exp((when - at) / 10.0)) for when, change in changes)


@quick
@given(happenings_of_tenants)
def test_who_is_about_and_has_too_much_is_reckoned_exactly(happenings):
    kept, at = holdback(**WEIGHTS), 0.0
    strands, seen = dict.fromkeys(TENANTS, 0), {}
    changes = {tenant: [] for tenant in TENANTS}
    for tenant, later_s, begins in happenings:
        at += later_s
        if not begins and not strands[tenant]:
            continue
        (kept.began if begins else kept.ended)(tenant, 1, at)
        strands[tenant] += 1 if begins else -1
        changes[tenant].append((at, 1 if begins else -1))
        seen[tenant] = at
        about = {each for each in seen if strands[each] or seen[each] + RECENT_S > at}
        for each in TENANTS:
            fair = 8 * WEIGHTS[each] / sum(WEIGHTS[other] for other in about)
            mean = mean_of(changes[each], at)
            if abs(strands[each] - fair) < 1e-6 or abs(mean - 1.1 * fair) < 0.15 * (1 + len(changes[each])):
                continue  # too close to tell: what was long ago may be forgotten altogether
            expected = len(about) > 1 and strands[each] > 0 and strands[each] >= fair and mean > 1.1 * fair
            assert kept.keeps_out(each, 1, 8, at) == expected


@quick
@given(happenings_of_tenants, st.integers(1, 4))
def test_what_is_kept_is_looked_at_again_no_later_than_it_is_free(happenings, free_slots):
    """Nothing else need happen for that, so nobody else would."""
    kept, at = holdback(**WEIGHTS), 0.0
    strands = dict.fromkeys(TENANTS, 0)
    for tenant, later_s, begins in happenings:
        at += later_s
        if begins or strands[tenant]:
            (kept.began if begins else kept.ended)(tenant, 1, at)
            strands[tenant] += 1 if begins else -1
        out = [each for each in TENANTS if kept.keeps_out(each, free_slots, 16, at)]
        if out:
            until = kept.kept_until(free_slots, 16, at)
            assert until > at
    for _ in range(20):  # from here on nothing else happens
        out = [each for each in TENANTS if kept.keeps_out(each, free_slots, 16, at)]
        if not out:
            return
        until = kept.kept_until(free_slots, 16, at)
        just_before = max(at, until - 0.02)
        assert out == [each for each in out if kept.keeps_out(each, free_slots, 16, just_before)]
        at = until
    assert sum(count > 0 for count in strands.values()) > 1, "kept for nobody"


@quick
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.floats(0, 5)), max_size=30))
def test_a_copy_has_seen_the_same_and_goes_its_own_way(happenings):
    holdback, at, running = Holdback(0.2, lambda _: 1.0), 0.0, Counter()
    for tenant, strands, later_s in happenings:
        at += later_s
        if running[tenant] >= strands:
            holdback.ended(tenant, strands, at)
            running[tenant] -= strands
        else:
            holdback.began(tenant, strands, at)
            running[tenant] += strands
    copy = holdback.copy()
    for each in "abc":
        assert copy.keeps_out(each, 1, 12, at) == holdback.keeps_out(each, 1, 12, at)
    copy.began("a", 1, at)
    for tenant, strands in running.items():
        holdback.ended(tenant, strands, at)
    assert not holdback.keeps_out("a", 1, 12, at)
