"""Counters of service and the slots kept free."""

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


def held(slots=8, share=0.1, others=("bob",), **weights):
    """A holdback with others about; how many slots ann gets when she takes all she may."""
    holdback = Holdback(share, lambda tenant: weights.get(tenant, 1.0))
    for other in others:
        holdback.began(other, 1, 0.0)
        holdback.ended(other, 1, 1.0)
    return holdback, fill(holdback, slots, at=2.0)


def fill(holdback, slots, at, tenant="ann", taken=0):
    took = 0
    while taken + took < slots and not holdback.keeps_out(tenant, slots - taken - took, slots, at):
        holdback.began(tenant, 1, at)
        took += 1
    return took


def test_alone_a_tenant_takes_all():
    assert held(others=())[1] == 8


def test_while_another_is_about_it_leaves_a_slot():
    holdback, took = held()
    assert took == 7
    assert not holdback.keeps_out("bob", 1, 8, 2.0)


def test_some_time_later_it_takes_that_too():
    holdback, _ = held()
    assert fill(holdback, 8, at=1.0 + RECENT_S - 0.1, taken=7) == 0
    assert fill(holdback, 8, at=1.0 + RECENT_S, taken=7) == 1


def test_one_whose_strands_run_is_about_however_long():
    holdback, _ = held(others=())
    holdback.ended("ann", 2, 3.0)
    holdback.began("bob", 1, 3.0)
    assert holdback.keeps_out("ann", 1, 8, 1000.0)
    holdback.ended("bob", 1, 1000.0)
    assert holdback.keeps_out("ann", 1, 8, 1000.0 + RECENT_S - 1)
    assert not holdback.keeps_out("ann", 1, 8, 1000.0 + RECENT_S)


def test_nobody_is_kept_from_its_fair_part():
    holdback = Holdback(0.5, lambda tenant: 1.0)
    holdback.began("ann", 5, 0.0)
    holdback.began("bob", 2, 0.0)
    assert holdback.keeps_out("ann", 1, 8, 0.0)
    assert not holdback.keeps_out("bob", 1, 8, 0.0)
    holdback.began("bob", 2, 0.0)
    assert holdback.keeps_out("bob", 1, 8, 0.0)


def test_a_fair_part_goes_by_weight():
    assert held(slots=100, share=0.5)[1] == 50
    assert held(slots=100, share=0.5, ann=3.0)[1] == 75
    assert held(slots=100, share=0.5, bob=4.0)[1] == 50  # what is not kept back is anybody's


@pytest.mark.parametrize(("slots", "left"), [(1, 0), (2, 0), (3, 0), (4, 1), (10, 1), (11, 2), (100, 10)])
def test_small_pools_keep_nothing_back(slots, left):
    assert slots - held(slots=slots)[1] == left


@quick
@given(st.lists(st.tuples(st.sampled_from(TENANTS), st.floats(0, 20), st.booleans()), max_size=60))
def test_who_is_about_is_counted_exactly(happenings):
    holdback, at = Holdback(0.1, lambda tenant: {"ann": 0.3}.get(tenant, 0.7)), 0.0
    strands, seen = dict.fromkeys(TENANTS, 0), {}
    for tenant, later_s, begins in happenings:
        at += later_s
        if begins:
            holdback.began(tenant, 1, at)
        elif strands[tenant]:
            holdback.ended(tenant, 1, at)
        else:
            continue
        strands[tenant] += 1 if begins else -1
        seen[tenant] = at
        about = {each for each in seen if strands[each] or seen[each] + RECENT_S > at}
        for each in TENANTS:
            weight = {"ann": 0.3}.get(each, 0.7)
            total = sum({"ann": 0.3}.get(other, 0.7) for other in about)
            fair = 8 * weight / total
            if abs(strands[each] - fair) > 1e-6:
                expected = strands[each] > 0 and len(about) > 1 and strands[each] >= fair
                assert holdback.keeps_out(each, 1, 8, at) == expected
