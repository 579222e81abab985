"""What was spent before this run, from the ledger to the desk's purses."""

import pytest
from msgspec.structs import replace
from tests.live.records import charge, journey, writing

from underlay.control.accounts import Accounts
from underlay.control.budgets import period_start
from underlay.control.events import BudgetSpent
from underlay.domain.energy import Booked, RequestEnergy
from underlay.domain.errors import BudgetExhausted
from underlay.domain.keys import Budget, Key
from underlay.domain.policy import Account, DeskSettings
from underlay.live.spent import Used, first_of_line, spent, used
from underlay.live.store import Store

NOW_S = 1_790_000_000.0  # a Monday in September 2026
DAY_S = 86_400.0
TODAY_S = period_start("day", NOW_S)
DAY, WEEK, MONTH, TOTAL = (Budget(period, 10**9, 10**9) for period in ("day", "week", "month", "total"))


def key(name, **more):
    return Key(id=name, digest=f"digest of {name}", tenant="acme", **more)


@pytest.fixture
def store(tmp_path):
    rows = [
        charge(1, key_id="k1", at_s=NOW_S - 1, cost=1),
        charge(2, key_id="k1", at_s=TODAY_S - 1, cost=10),
        charge(3, key_id="k2", at_s=TODAY_S - 15 * DAY_S, cost=100),
        charge(4, key_id="k2", at_s=TODAY_S - 300 * DAY_S, cost=1000),
        charge(5, key_id="k3", at_s=NOW_S, tenant="other", model="x", cost=10_000),
    ]
    with writing(tmp_path) as writer, Store(tmp_path) as opened:
        for row in rows:
            writer.submit_charge(row)
        writer.flush()
        yield opened


def told(events):
    return {(e.scope, e.name, e.period): (e.pico_usd, e.tokens) for e in events}


def test_each_budget_is_told_what_was_spent_in_its_current_period(store):
    keys = [key("k1", user="ann", budgets=(DAY, TOTAL)), key("k2", user="ann"), key("k3")]
    settings = DeskSettings(
        accounts=(
            Account("user", "ann", budgets=(MONTH,)),
            Account("tenant", "acme", budgets=(WEEK, TOTAL)),
            Account("model", "x", budgets=(DAY,)),
            Account("model", "m"),
        )
    )
    events = spent(store, keys, settings, NOW_S)
    assert told(events) == {
        ("key", "k1", "day"): (1, 13),
        ("key", "k1", "total"): (11, 26),
        ("user", "ann", "month"): (111, 39),
        ("tenant", "acme", "week"): (1, 13),
        ("tenant", "acme", "total"): (1111, 52),
        ("model", "x", "day"): (10_000, 13),
    }
    assert all(event.since == period_start(event.period, NOW_S) and event.at == NOW_S for event in events)


def test_joules_that_meters_told_are_told_whatever_became_of_the_request(tmp_path):
    energy = RequestEnergy("settled", 7.0, 0.5, "measured", "nvml:0", "device", {"busy": 7.0})
    over = replace(journey(1, NOW_S), outcome="failed", energy=energy)
    with writing(tmp_path) as writer, Store(tmp_path) as opened:
        writer.submit_energy(Booked(NOW_S, NOW_S + 1, "", "nvml:0", "measured", 7.0, {"busy": 7.0}), [over])
        writer.flush()
        (event,) = spent(opened, [key("key_1", budgets=(Budget("day", joules=9.0),))], DeskSettings(), NOW_S)
    assert (event.joules, event.tokens, event.pico_usd) == (7.0, 0, 0)


def test_who_spent_nothing_and_who_has_no_budget_is_not_told(store):
    assert spent(store, [key("k1"), key("k9", budgets=(DAY,))], DeskSettings(), NOW_S) == []


def test_a_rotated_key_takes_what_was_spent_along(store):
    keys = [key("k1", budgets=(TOTAL,), replaced_by="k2"), key("k2", budgets=(TOTAL,))]
    assert told(spent(store, keys, DeskSettings(), NOW_S)) == {("key", "k1", "total"): (1111, 52)}
    of = Accounts(DeskSettings())
    for each in keys:
        of.key_changed(replace(each, budgets=(Budget("total", 1200),)))
    for event in spent(store, keys, DeskSettings(), NOW_S):
        of.spent(event)
    with pytest.raises(BudgetExhausted):
        of.holding(keys[1], "m").admit(1, 90, NOW_S)
    of.holding(keys[1], "m").admit(1, 89, NOW_S)


def test_lines_of_rotations_are_found_in_any_order():
    line = [key("a", replaced_by="b"), key("b", replaced_by="c"), key("c"), key("d")]
    expected = {"a": "a", "b": "a", "c": "a", "d": "d"}
    assert first_of_line(line) == expected
    assert first_of_line(line[::-1]) == expected
    assert first_of_line([key("a", replaced_by="b"), key("b", replaced_by="a")])  # never written; it must end


def test_a_charge_that_is_settled_late_is_counted(store, tmp_path):
    """What a crash left in the journal is entered at the next start, with the time at which it ended."""
    with writing(tmp_path) as writer:
        writer.submit_charge(charge(1, key_id="k1", at_s=NOW_S - 1, cost=1))  # had been entered before the crash
        writer.submit_charge(charge(6, key_id="k1", at_s=TODAY_S, cost=5))
    assert used(store, [], ["day"], NOW_S)["key", "k1", "day"] == Used(6, 26)


def test_more_than_an_event_can_carry_is_told_as_the_most_it_can(tmp_path):
    with writing(tmp_path) as writer, Store(tmp_path) as store:
        for number in range(3):
            writer.submit_charge(charge(number, key_id="k1", at_s=NOW_S, cost=2**62))
        writer.flush()
        (event,) = spent(store, [key("k1", budgets=(TOTAL,))], DeskSettings(), NOW_S)
    assert event == BudgetSpent(NOW_S, "key", "k1", "total", 0.0, 2**63 - 1, 39)
