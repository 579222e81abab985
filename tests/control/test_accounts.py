"""Whose limits and budgets bound a request, all at once or not at all, while everything about them changes."""

import pytest
from hypothesis import given
from hypothesis import settings as pace
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace
from tests.control.builders import NOW_S, key, quick, settings

from underlay.control.accounts import Accounts, Reservation
from underlay.control.budgets import period_start
from underlay.control.events import BudgetSpent, EnergySettled
from underlay.domain.errors import BudgetExhausted, LimitReached, UnderlayError
from underlay.domain.keys import Budget, Limits
from underlay.domain.policy import Account

DAY = Budget("day", 100, 1000)
TOTAL = Budget("total", 10**9, 10**9)
NONE = Limits()
ANN = key("ann", user="ann")


def accounts(*of: Account, **more) -> Accounts:
    return Accounts(settings(accounts=of, **more))


def everywhere(limits: Limits = NONE, budgets: tuple[Budget, ...] = ()) -> tuple[Account, ...]:
    names = (("user", "ann"), ("tenant", ANN.tenant), ("model", "gemma"))
    return tuple(Account(scope, name, limits, budgets) for scope, name in names)


def replaced(old, by):
    return replace(old, replaced_by=by.id)


def test_who_has_no_bounds_is_counted_all_the_same():
    of = accounts()
    holding = of.holding(ANN, "gemma")
    assert holding is of.holding(ANN, "gemma")
    held = holding.admit(10, 20, NOW_S)
    assert not holding.capped
    of.check({ANN.id: 1}, [(ANN, "gemma", held)])
    holding.settle(held, 5, 5, NOW_S)
    of.check({}, [])


@pytest.mark.parametrize(
    ("account", "whose"),
    [
        (Account("user", "ann", Limits(concurrent=1)), "user ann's"),
        (Account("tenant", "ann's", Limits(concurrent=1)), "team ann's's"),
        (Account("model", "gemma", Limits(concurrent=1)), "model gemma's"),
    ],
)
def test_each_account_bounds_what_counts_against_it_and_says_its_name(account, whose):
    of = accounts(account)
    of.holding(ANN, "gemma").admit(1, 0, NOW_S)
    with pytest.raises(LimitReached, match=f"^{whose} limit of 1 open requests"):
        of.holding(ANN, "gemma").admit(1, 0, NOW_S)
    of.holding(key("bob", user="bob"), "embedder").admit(1, 0, NOW_S)


def test_a_team_shares_its_budget_among_its_keys_and_models():
    of = accounts(Account("tenant", "ann's", budgets=(DAY,)))
    one, other = of.holding(ANN, "gemma"), of.holding(key("zoe", user="zoe"), "gemma")
    assert one.capped
    assert not other.capped
    of.holding(ANN, "embedder").admit(1, 60, NOW_S)
    with pytest.raises(BudgetExhausted, match=r"team ann's's budget of 0.0000000001 USD per day has"):
        one.admit(1, 41, NOW_S)
    one.admit(1, 40, NOW_S)


def test_default_limits_fill_in_field_by_field():
    of = accounts(default_limits=Limits(requests_per_minute=5, concurrent=2))
    of.key_changed(key("ann", limits=Limits(concurrent=7)))
    assert of.meter("key_ann").limits == Limits(requests_per_minute=5, concurrent=7)
    of.configure(settings(default_limits=Limits(tokens_per_minute=9)))
    assert of.meter("key_ann").limits == Limits(tokens_per_minute=9, concurrent=7)
    assert accounts().meter("key_ann") is None


def test_weight_and_band_come_from_whoever_says_them_first():
    of = accounts(Account("tenant", "ann's", weight=3.0, band="batch"), Account("user", "eve", band="standard"))
    assert (of.weight("ann's"), of.weight("bob's")) == (3.0, 1.0)
    assert of.band(key("ann", band="priority")) == "priority"
    assert of.band(key("ann", user="eve")) == "standard"
    assert of.band(ANN) == "batch"
    assert of.band(key("bob")) == ""


# The list of what went wrong with LiteLLM's budgets (reliability.md 2.8), each as a test.


def test_a_thousand_at_once_do_not_all_pass_on_the_same_budget():
    """#34732, #26672: check, then increment, and N in between all pass."""
    holding = accounts(Account("user", "ann", budgets=(DAY,))).holding(ANN, "gemma")
    let_in = 0
    for _ in range(1000):
        try:
            holding.admit(1, 1, NOW_S)
        except BudgetExhausted:
            continue
        let_in += 1
    assert let_in == 100


def test_what_one_request_spent_the_very_next_one_sees():
    """#33325, #6288: each looked at its own copy, brought up to date once a minute."""
    of = accounts(Account("tenant", "ann's", budgets=(DAY,)))
    first, second = of.holding(ANN, "gemma"), of.holding(ANN, "embedder")
    first.settle(first.admit(1, 100, NOW_S), 1, 100, NOW_S)
    with pytest.raises(BudgetExhausted):
        second.admit(1, 1, NOW_S)


def test_no_reservation_leaks_on_any_way_out():
    """#27639: one that failed kept its reservation, and the budget was exhausted by nothing."""
    of = accounts(*everywhere(Limits(tokens_per_minute=1000), (DAY,)))
    holding = of.holding(ANN, "gemma")
    for _ in range(50):
        holding.settle(holding.admit(100, 100, NOW_S), 0, 0, NOW_S)
    with pytest.raises(BudgetExhausted):
        holding.admit(1, 101, NOW_S)
    of.check({}, [])
    holding.admit(1000, 100, NOW_S)


def test_after_refusals_and_refunds_all_of_a_budget_can_be_spent():
    """#36926: refusals under load when there was enough."""
    holding = accounts(Account("model", "gemma", budgets=(DAY,))).holding(ANN, "gemma")
    for _ in range(3):
        held = [holding.admit(1, 10, NOW_S) for _ in range(10)]
        with pytest.raises(BudgetExhausted):
            holding.admit(1, 1, NOW_S)
        for each in held:
            holding.settle(each, 0, 0, NOW_S)
    for _ in range(100):
        holding.settle(holding.admit(1, 1, NOW_S), 1, 1, NOW_S)
    with pytest.raises(BudgetExhausted, match="is spent"):
        holding.admit(1, 1, NOW_S)


def test_nobody_is_settled_twice():
    """#30460: counters drifted away from the ledger when an ending was told again."""
    of = accounts(Account("user", "ann", budgets=(DAY,)))
    holding = of.holding(ANN, "gemma")
    held = holding.admit(1, 10, NOW_S)
    holding.settle(held, 1, 10, NOW_S)
    with pytest.raises(KeyError):
        holding.settle(held, 1, 10, NOW_S)
    of.check({}, [])


# Longer than was reserved.


def test_an_answer_reserves_more_until_a_budget_forbids_it():
    of = accounts(Account("user", "ann", budgets=(DAY,)), Account("tenant", "ann's", budgets=(Budget("day", 55),)))
    holding = of.holding(ANN, "gemma")
    held = holding.admit(10, 10, NOW_S)
    assert holding.extend(held, 30, 40, NOW_S)
    assert not holding.extend(held, 1, 6, NOW_S)
    assert (held.tokens, held.pico_usd) == (40, 50)
    of.check({ANN.id: 1}, [(ANN, "gemma", held)])


def test_a_rate_pays_for_what_an_answer_grew_by():
    of = accounts()
    of.key_changed(key("ann", limits=Limits(tokens_per_minute=100)))
    holding, left = of.holding(key("ann"), "gemma"), of.meter("key_ann").tokens.left
    held = holding.admit(50, 0, NOW_S)
    assert holding.extend(held, 200, 0, NOW_S)
    assert left(NOW_S) == 0
    holding.settle(held, 60, 0, NOW_S)
    assert left(NOW_S) == 40


# Changes while requests run.


def test_bounds_that_come_while_requests_run_count_them():
    of = accounts()
    holding = of.holding(ANN, "gemma")
    held = holding.admit(10, 60, NOW_S)
    of.configure(settings(accounts=everywhere(Limits(concurrent=2), (DAY,))))
    of.check({ANN.id: 1}, [(ANN, "gemma", held)])
    with pytest.raises(BudgetExhausted):
        holding.admit(1, 41, NOW_S)
    holding.admit(1, 40, NOW_S)
    with pytest.raises(LimitReached):
        holding.admit(1, 0, NOW_S)
    holding.settle(held, 10, 60, NOW_S)
    of.configure(settings())
    assert not holding.capped
    holding.admit(1, 10**12, NOW_S)


def test_a_budget_that_changes_keeps_what_was_spent():
    of = accounts(Account("user", "ann", budgets=(DAY,)))
    holding = of.holding(ANN, "gemma")
    holding.settle(holding.admit(1, 90, NOW_S), 1, 90, NOW_S)
    of.configure(settings(accounts=(Account("user", "ann", budgets=(Budget("month"), Budget("day", 95))),)))
    with pytest.raises(BudgetExhausted, match=r"0.000000000005 USD left"):
        holding.admit(1, 6, NOW_S)


def test_a_key_that_gets_other_limits_is_not_given_back_what_it_took_under_the_old_ones():
    of = accounts()
    of.key_changed(key("ann", limits=Limits(tokens_per_minute=1000)))
    holding = of.holding(key("ann"), "gemma")
    old = holding.admit(900, 0, NOW_S)
    of.key_changed(key("ann", limits=Limits(tokens_per_minute=500)))
    holding.admit(400, 0, NOW_S)
    holding.settle(old, 0, 0, NOW_S)
    assert of.meter("key_ann").tokens.left(NOW_S) == 100


def test_a_key_that_moves_to_another_team_takes_its_open_requests_along():
    of = accounts(*everywhere(budgets=(DAY,)), Account("tenant", "new", budgets=(DAY,)))
    of.key_changed(ANN)
    held = of.holding(ANN, "gemma").admit(1, 70, NOW_S)
    moved = replace(ANN, tenant="new")
    of.key_changed(moved)
    of.check({moved.id: 1}, [(moved, "gemma", held)])


# Rotation.

CAPPED = key("ann", budgets=(DAY,))
NEXT = key("next", budgets=(DAY,))
THIRD = key("third", budgets=(DAY,))


@pytest.mark.parametrize("told_first", ["new", "old"])
def test_a_rotated_key_is_no_new_budget(told_first):
    of = accounts()
    of.key_changed(CAPPED)
    old = of.holding(CAPPED, "gemma")
    running = old.admit(1, 20, NOW_S)
    old.settle(old.admit(1, 30, NOW_S), 1, 30, NOW_S)
    for told in (NEXT, replaced(CAPPED, NEXT))[:: 1 if told_first == "new" else -1]:
        of.key_changed(told)
    new = of.holding(NEXT, "gemma")
    with pytest.raises(BudgetExhausted):
        new.admit(1, 51, NOW_S)
    other = new.admit(1, 50, NOW_S)
    of.check({CAPPED.id: 1, NEXT.id: 1}, [(CAPPED, "gemma", running), (NEXT, "gemma", other)])
    with pytest.raises(BudgetExhausted):
        old.admit(1, 1, NOW_S)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_a_line_of_rotated_keys_is_one_budget_in_whatever_order_they_are_told(order):
    of = accounts()
    line = [replaced(CAPPED, NEXT), replaced(NEXT, THIRD), THIRD]
    for place in order:
        of.key_changed(line[place])
        holding = of.holding(line[place], "gemma")
        holding.settle(holding.admit(1, 30, NOW_S), 1, 30, NOW_S)
    of.spent(BudgetSpent(NOW_S, "key", THIRD.id, "day", period_start("day", NOW_S), 5, 0))
    for each in line:
        with pytest.raises(BudgetExhausted, match=r"0.000000000005 USD left"):
            of.holding(each, "gemma").admit(1, 6, NOW_S)


def test_what_was_spent_before_this_run_counts_in_its_period_only():
    of = accounts(Account("tenant", "ann's", budgets=(DAY, TOTAL)))
    of.key_changed(ANN)
    for period, since in (("day", period_start("day", NOW_S)), ("total", 0.0), ("month", 0.0)):
        of.spent(BudgetSpent(NOW_S, "tenant", "ann's", period, since, 95, 7))
    of.spent(BudgetSpent(NOW_S, "tenant", "nobody", "day", 0.0, 95, 7))
    holding = of.holding(ANN, "gemma")
    with pytest.raises(BudgetExhausted):
        holding.admit(1, 6, NOW_S)
    holding.admit(1, 6, NOW_S + 86_400)


def test_a_count_that_is_off_is_found():
    of = accounts(*everywhere(Limits(concurrent=5), (DAY,)))
    holding = of.holding(ANN, "gemma")
    held = holding.admit(1, 1, NOW_S)
    running = [(ANN, "gemma", held)]
    of.check({ANN.id: 1}, running)
    with pytest.raises(AssertionError):
        of.check({ANN.id: 1}, [])
    with pytest.raises(AssertionError):
        of.check({ANN.id: 1}, [(ANN, "gemma", Reservation(1, 1))])
    with pytest.raises(AssertionError):
        of.check({}, running)
    holding.meters[0].open_requests += 1
    with pytest.raises(AssertionError, match="open requests"):
        of.check({ANN.id: 1}, running)
    holding.meters[0].open_requests -= 1
    holding.purses[2].reserve(0, 1)
    with pytest.raises(AssertionError, match="model gemma's reserved money"):
        of.check({ANN.id: 1}, running)
    holding.purses[2].reserve(0, -1, 1)
    with pytest.raises(AssertionError, match="model gemma's reserved joules"):
        of.check({ANN.id: 1}, running)


# Everything at once.

bounds = st.builds(
    Limits, st.none() | st.integers(1, 5), st.none() | st.integers(1, 200), st.none() | st.integers(1, 3)
)
caps = st.lists(
    st.builds(
        Budget,
        st.sampled_from(["day", "week", "month", "total"]),
        st.none() | st.integers(0, 200),
        st.none() | st.integers(0, 200),
        st.none() | st.sampled_from([0.0, 5e-5, 2e-4]),
    ),
    max_size=2,
).map(tuple)
some_accounts = st.lists(
    st.builds(
        Account,
        st.sampled_from(["user", "tenant", "model"]),
        st.sampled_from(["ann", "bob", "team", "gemma", "embedder"]),
        bounds,
        caps,
    ),
    max_size=4,
).map(tuple)
amounts = st.integers(0, 80)


class AccountsMachine(RuleBasedStateMachine):
    """I8, I9, I10 whatever arrives, grows, ends, fails, changes and rotates, in whatever order."""

    @initialize(of=some_accounts, default=bounds)
    def begin(self, of, default):
        self.of = accounts(*of, default_limits=default)
        self.at = NOW_S
        self.keys = {}
        self.running = []
        self.count = 0
        self.ended = []  # key id, model and ticket of those whose meter has not told
        self.within = True  # nobody used more than was reserved, and no bound came later
        for name in ("ann", "bob"):
            self.tell(key(name, user=name))

    def tell(self, made):
        self.keys[made.id] = made
        self.of.key_changed(made)

    def purses(self):
        return {id(p): p for h in self.of._all_holdings() for p in h.purses}.values()

    def a_key(self, number):
        return list(self.keys.values())[number % len(self.keys)]

    @rule(
        number=st.integers(0, 9),
        model=st.sampled_from(["gemma", "embedder"]),
        tokens=amounts,
        pico=amounts,
        micro=amounts,
    )
    def arrive(self, number, model, tokens, pico, micro):
        asking = self.a_key(number)
        holding = self.of.holding(asking, model)
        before = self.counts()
        try:
            held = holding.admit(tokens, pico, self.at, micro)
        except UnderlayError as refused:
            assert refused.status == 429
            assert self.counts() == before, "a refused request was counted somewhere"
            return
        self.running.append((asking, model, held))

    def counts(self):
        for purse in self.purses():
            purse.roll(self.at)
        meters = [m for h in self.of._all_holdings() for m in h.meters]
        lefts = [rate.left(self.at) for m in meters for rate in (m.requests, m.tokens) if rate]
        spent = [(p.spent_tokens, p.spent_pico_usd, p.reserved_tokens, p.reserved_pico_usd) for p in self.purses()]
        spent += [(p.spent_microjoules, p.reserved_microjoules) for p in self.purses()]
        return [m.open_requests for m in meters], lefts, spent

    @precondition(lambda self: self.running)
    @rule(number=st.integers(0, 9), tokens=amounts, pico=amounts, micro=amounts)
    def grow(self, number, tokens, pico, micro):
        asking, model, held = self.running[number % len(self.running)]
        self.of.holding(asking, model).extend(held, tokens, pico, self.at, micro)

    @precondition(lambda self: self.running)
    @rule(number=st.integers(0, 9), share=st.sampled_from([0, 50, 100, 100, 130]))
    def end(self, number, share):
        asking, model, held = self.running.pop(number % len(self.running))
        self.within = self.within and share <= 100
        used = held.tokens * share // 100, held.pico_usd * share // 100
        holding = self.of.holding(asking, model)
        holding.settle(held, *used, self.at)
        if held.microjoules:
            self.count += 1
            ticket = f"t{self.count}"
            holding.keep_joules(ticket, held.microjoules, self.at + 9)
            self.ended.append((asking, model, ticket, held.microjoules))

    @precondition(lambda self: self.ended)
    @rule(number=st.integers(0, 9), share=st.sampled_from([0, 50, 100, 130]), silent=st.booleans())
    def meter(self, number, share, silent):
        """It tells, of a key whose team may be another one by now, or has not told in time."""
        asking, model, ticket, micro = self.ended.pop(number % len(self.ended))
        holding = self.of.holding(self.keys[asking.id], model)
        if silent:
            holding.give_up_meter(holding.unsettled[ticket], self.at)
            return
        self.within = self.within and share <= 100
        joules = micro * share / 100 / 1e6
        event = EnergySettled(self.at, ticket, asking.id, asking.tenant, model, joules)
        assert self.of.give_joules_back(event)
        assert not self.of.give_joules_back(event)
        self.of.settled(event)

    @rule(later_s=st.sampled_from([0.5, 30.0, 50_000.0, 2e6]))
    def wait(self, later_s):
        self.at += later_s

    @rule(of=some_accounts, default=bounds)
    def configure(self, of, default):
        self.within = False
        self.of.configure(settings(accounts=of, default_limits=default))

    @rule(number=st.integers(0, 9), limits=bounds, budgets=caps, tenant=st.sampled_from(["team", "others"]))
    def change_key(self, number, limits, budgets, tenant):
        self.within = False
        was = self.a_key(number)
        self.tell(replace(was, tenant=tenant, limits=limits, budgets=budgets))
        self.running = [(self.keys[k.id], model, held) for k, model, held in self.running]

    @precondition(lambda self: len(self.keys) < 6)
    @rule(number=st.integers(0, 9))
    def rotate(self, number):
        old = self.a_key(number)
        if old.replaced_by is None:
            new = key(f"k{len(self.keys)}", user=old.user, limits=old.limits, budgets=old.budgets)
            self.tell(new)
            self.tell(replaced(old, new))

    @invariant()
    def holds(self):
        if not hasattr(self, "of"):
            return
        counted: dict[str, int] = {}
        for asking, _, _ in self.running:
            counted[asking.id] = counted.get(asking.id, 0) + 1
        self.of.check(counted, self.running)
        waiting = sorted(micro for *_, micro in self.ended)
        assert sorted(k.microjoules for h in self.of._all_holdings() for k in h.unsettled.values()) == waiting
        for purse in self.purses():
            assert min(purse.spent_tokens, purse.spent_pico_usd) >= 0
            money, tokens = purse.budget.pico_usd, purse.budget.tokens
            if self.within:
                assert money is None or purse.spent_pico_usd + purse.reserved_pico_usd <= money
                assert tokens is None or purse.spent_tokens + purse.reserved_tokens <= tokens
                joules = purse.budget.joules
                assert joules is None or purse.spent_microjoules + purse.reserved_microjoules <= joules * 1e6


AccountsMachine.TestCase.settings = pace(quick, max_examples=8, stateful_step_count=20)
TestAccountsMachine = AccountsMachine.TestCase


@quick
@given(
    scopes=st.sets(st.sampled_from(["user", "tenant", "model"])),
    steps=st.lists(st.tuples(amounts, amounts, st.booleans(), st.integers(0, 100)), max_size=30),
)
def test_i10_what_was_spent_is_the_sum_of_what_was_settled(scopes, steps):
    """Double entry: each account's purse ends with exactly what was charged, and nothing reserved."""
    of = accounts(*(account for account in everywhere(budgets=(TOTAL,)) if account.scope in scopes))
    holding, running, charged = of.holding(ANN, "gemma"), [], [0, 0]
    for tokens, pico_usd, ends, share in steps:
        running.append(holding.admit(tokens, pico_usd, NOW_S))
        if ends:
            held = running.pop(share % len(running))
            used = (held.tokens * share // 100, held.pico_usd * share // 100)
            holding.settle(held, *used, NOW_S)
            charged = [charged[0] + used[0], charged[1] + used[1]]
    for held in running:
        holding.settle(held, 0, 0, NOW_S)
    assert len(holding.purses) == len(scopes)
    for purse in holding.purses:
        assert [purse.spent_tokens, purse.spent_pico_usd] == charged
        assert (purse.reserved_tokens, purse.reserved_pico_usd) == (0, 0)
