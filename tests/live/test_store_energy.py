"""The store's energy: whatever is booked, settled, told twice or cut off by a crash, it is what the meters counted."""

import sqlite3
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.live.records import charge, journey, writing

from underlay.domain.energy import Booked, RequestEnergy
from underlay.domain.figures import Figure
from underlay.live.store import Spent, Store
from underlay.live.store_energy import HOUR_S
from underlay.live.store_schema import _BUDGETS, _FIRST, MICRO
from underlay.live.store_sums import Group

DAY_S = 86_400.0
METER = "nvml:0"


def settled(number, accounts, *, at_s=DAY_S, method="measured", **more):
    energy = RequestEnergy("settled", sum(accounts.values()), 0.5, method, METER, "device", accounts, **more)
    return msgspec.structs.replace(journey(number, at_s), energy=energy)


def booked(accounts, *, at_s=DAY_S, region="here", meter=METER, method="measured"):
    return Booked(at_s, at_s + 1.0, region, meter, method, sum(accounts.values()), accounts)


def ledger(store, by: Group = "tenant", **period):
    found = store.energy_ledger(by, **period)
    assert found.difference_microjoules == 0
    return found


def nobodys(found):
    return {nobody.account: nobody.microjoules for nobody in found.nobodys}


# One after the other.


def test_requests_and_what_is_nobodys_are_the_meters_sum(tmp_path):
    with writing(tmp_path) as writer, Store(tmp_path) as store:
        assert writer.submit_energy(booked({"idle_provisioned": 3.0, "open": 7.0}), [])
        assert writer.flush()
        found = ledger(store)
        assert nobodys(found) == {"idle_provisioned": 3 * MICRO, "open": 7 * MICRO}
        assert (found.groups, found.total.microjoules, found.metered_microjoules) == ([], 0, 10 * MICRO)
        settles = booked({"busy": 6.0, "host": 1.0, "unexplained": 0.25, "open": -7.0})
        writer.submit_energy(settles, [settled(1, {"busy": 6.0, "host": 1.0})])
        writer.flush()
        found = ledger(store)
        assert nobodys(found) == {"idle_provisioned": 3 * MICRO, "unexplained": MICRO // 4}
        (acme,) = found.groups
        assert (acme.group, acme.requests, acme.microjoules) == ("acme", 1, 7 * MICRO)
        assert acme.accounts == {"busy": 6 * MICRO, "host": MICRO}
        assert found.meters[0].microjoules == found.metered_microjoules == 10_250_000


def test_a_request_told_again_counts_once(tmp_path):
    told = settled(1, {"busy": 6.0})
    with writing(tmp_path) as writer, Store(tmp_path) as store:
        writer.submit_energy(booked({"busy": 6.0}), [told])
        writer.submit_energy(booked({"idle_provisioned": 1.0}), [told, told])
        writer.flush()
        found = ledger(store)
        assert (found.total.requests, found.total.microjoules) == (1, 6 * MICRO)
        assert nobodys(found) == {"idle_provisioned": MICRO}
        assert [row.joules for row in store.spent_since(0.0)] == [6.0]


def test_what_a_crash_leaves_open_is_unsettled_and_stays_in_the_sum(tmp_path):
    with writing(tmp_path) as writer:
        writer.submit_energy(booked({"open": 5.0}), [])
        writer.submit_energy(booked({"open": 2.0}, at_s=DAY_S + HOUR_S), [])
    with Store(tmp_path) as store:
        assert nobodys(ledger(store)) == {"open": 7 * MICRO}
        assert nobodys(ledger(store, running=False)) == {"unsettled": 7 * MICRO}
        with writing(tmp_path) as writer:
            writer.submit_energy(booked({"busy": 1.0, "open": 3.0}, at_s=3 * DAY_S), [settled(1, {"busy": 1.0})])
        assert nobodys(ledger(store)) == {"open": 3 * MICRO, "unsettled": 7 * MICRO}
        assert nobodys(ledger(store, running=False)) == {"unsettled": 10 * MICRO}
        by_day = {(one.group, one.account): one.microjoules for one in ledger(store, "day").nobodys}
        assert by_day["1970-01-02", "unsettled"] == 7 * MICRO


def test_a_request_across_midnight_is_of_the_day_on_which_it_arrived(tmp_path):
    last_s = 2 * DAY_S - 1.0
    with writing(tmp_path) as writer, Store(tmp_path) as store:
        writer.submit_charge(charge(1, at_s=last_s))
        writer.submit_energy(booked({"open": 4.0}, at_s=last_s), [])
        later = booked({"busy": 10.0, "open": -4.0, "idle_provisioned": 1.0}, at_s=last_s + 1.0)
        writer.submit_energy(later, [settled(1, {"busy": 10.0}, at_s=last_s)])
        writer.flush()
        before, after = ledger(store, until_s=2 * DAY_S), ledger(store, since_s=2 * DAY_S)
        assert (before.total.microjoules, nobodys(before)) == (10 * MICRO, {"carried_over": -6 * MICRO})
        assert after.total.requests == 0
        assert nobodys(after) == {"carried_over": 6 * MICRO, "idle_provisioned": MICRO}
        assert before.metered_microjoules == 4 * MICRO
        assert nobodys(ledger(store)) == {"idle_provisioned": MICRO}
        amid = ledger(store, since_s=last_s + 0.5)  # within an hour: the meters' hour begins at midnight
        assert (amid.total.requests, amid.metered_microjoules) == (0, 7 * MICRO)


def test_what_no_request_row_has_is_nobodys(tmp_path):
    with writing(tmp_path) as writer, Store(tmp_path) as store:
        writer.submit_energy(booked({"busy": 6.0, "failed_attempts": 2.0}), [settled(1, {"busy": 5.0})])
        writer.flush()
        assert nobodys(ledger(store)) == {"busy": MICRO, "failed_attempts": 2 * MICRO}


def test_meters_that_counted_more_than_the_accounts_are_told_as_a_difference(tmp_path):
    with writing(tmp_path) as writer, Store(tmp_path) as store:
        wrong = msgspec.structs.replace(booked({"idle_provisioned": 6.0}), metered_joules=8.0)
        writer.submit_energy(wrong, [])
        writer.flush()
        assert store.energy_ledger("tenant").difference_microjoules == 2 * MICRO


def test_unknown_stays_unknown_in_a_sum(tmp_path):
    grams = {"carbon": {"location": Figure(2.0, "gCO2e", "modelled")}}
    cost = {"cost": {"electricity": Figure(1e-6, "USD", "assumed"), "accelerator": Figure(2e-6, "USD", "assumed")}}
    knows = settled(1, {"busy": 1.0}, **grams, **cost, beside={"network": Figure(0.5, "J", "modelled")})
    less = settled(2, {"busy": 1.0}, method="modelled", cost={"electricity": Figure(1e-6, "USD", "assumed")})
    none = msgspec.structs.replace(journey(3), energy=RequestEnergy("settled", unmetered_s=2.0))
    with writing(tmp_path) as writer, Store(tmp_path) as store:
        writer.submit_energy(booked({"busy": 1.0}), [knows, none])
        writer.flush()
        (acme,) = ledger(store).groups
        assert (acme.requests, acme.method) == (1, "measured")
        assert acme.figures == {"uncertainty_joules": 0.5, "network_joules": 0.5, "carbon_location_g": 2.0}
        assert (acme.cost_pico_usd, acme.cost_lacks) == (
            {"accelerator": 2 * 10**6, "electricity": 10**6},
            ("overhead",),
        )
        writer.submit_energy(booked({"busy": 1.0}), [less])
        writer.flush()
        (acme,) = ledger(store).groups
        assert (acme.figures, acme.method) == ({"uncertainty_joules": 1.0}, "modelled")
        assert acme.cost_pico_usd == {"accelerator": 2 * 10**6, "electricity": 2 * 10**6}
        assert acme.cost_lacks == ("accelerator", "overhead")


def test_overhead_is_beside_the_meters(tmp_path):
    with writing(tmp_path) as writer, Store(tmp_path) as store:
        writer.submit_energy(booked({"busy": 4.0}), [settled(1, {"busy": 4.0, "overhead": 1.0})])
        writer.flush()
        found = ledger(store)
        assert (found.total.microjoules, found.total.figures["overhead_joules"]) == (4 * MICRO, 1.0)


def test_joules_are_spent_with_tokens_and_money_by_day(tmp_path):
    with writing(tmp_path) as writer, Store(tmp_path) as store:
        writer.submit_charge(charge(1, at_s=DAY_S))
        writer.submit_energy(booked({"busy": 9.5}), [settled(1, {"busy": 2.5}), settled(2, {"busy": 7.0})])
        writer.flush()
        assert store.spent_since(0.0) == [Spent("key_1", "acme", "m", 13, 5, 9.5)]
        assert store.spent_since(2 * DAY_S) == []


def test_sums_stay_exact_beyond_sixty_four_bits(tmp_path):
    huge = 9e12
    with writing(tmp_path) as writer, Store(tmp_path) as store:
        for number in range(4):
            one = settled(number, {"busy": huge}, at_s=DAY_S * number)
            writer.submit_energy(booked({"busy": huge}, at_s=DAY_S * number), [one])
        writer.flush()
        assert ledger(store).total.microjoules == ledger(store).metered_microjoules == 4 * 9 * 10**18


# Anything.

JOULES = st.floats(0.0, 1e5) | st.sampled_from([0.0, 1e-7, 0.1, 1 / 3])


@st.composite
def lives(draw):
    """What platforms do to one store, one after the other: windows that take joules and settle requests.

    What is open when one ends is settled by nobody.
    """
    found, told, number, at_s = [], [], 0, DAY_S + draw(st.floats(0.0, DAY_S))
    for _ in range(draw(st.integers(1, 3))):
        windows, waiting = [], []
        for _ in range(draw(st.integers(0, 5))):
            at_s += draw(st.sampled_from([1.0, 1800.0, 40_000.0]))
            for _ in range(draw(st.integers(0, 3))):
                number += 1
                parts = {"busy": draw(JOULES), "host": draw(JOULES)}
                waiting.append(settled(number, parts, at_s=at_s - draw(st.sampled_from([0.0, 30.0, 7000.0]))))
                told.append(waiting[-1])
            settles = draw(st.integers(0, len(waiting)))
            over, waiting = waiting[:settles], waiting[settles:]
            windows.append((window(draw, at_s, over, waiting), over))
        found.append(windows)
        at_s += draw(st.sampled_from([10.0, DAY_S]))
    return found


def window(draw, at_s, over, waiting):
    accounts = {"idle_provisioned": draw(JOULES), "unexplained": draw(JOULES)}
    for one in over:
        for account, joules in one.energy.accounts.items():
            accounts[account] = accounts.get(account, 0.0) + joules
    accounts["open"] = draw(JOULES) * len(waiting) - sum(one.energy.joules for one in over)
    region, meter = draw(st.sampled_from([("here", METER), ("here", "rapl:0"), ("there", METER)]))
    return booked(accounts, at_s=at_s, region=region, meter=meter)


def sums(found):
    return found.total.microjoules + sum(one.microjoules for one in found.nobodys)


@settings(max_examples=60, deadline=None)
@given(told=lives(), edge_s=st.floats(DAY_S, 4 * DAY_S), again=st.booleans())
def test_any_life_with_any_crash_sums_to_the_meters(told, edge_s, again):
    with tempfile.TemporaryDirectory() as folder:
        for windows in told:
            with writing(Path(folder), pause_s=0.0) as writer:
                for one, journeys in windows:
                    writer.submit_energy(one, journeys)
                    if again:
                        writer.submit_energy(booked({}), journeys)
        metered = sum(one.metered_joules for windows in told for one, _ in windows)
        requests = [one for windows in told for _, over in windows for one in over]
        with Store(Path(folder)) as store:
            for by in ("tenant", "region", "day", "cell"):
                for running in (True, False):
                    found = ledger(store, by, running=running)
                    assert found.metered_microjoules == pytest.approx(metered * MICRO, abs=len(told) * 5 + 1)
                    assert sums(found) == found.metered_microjoules
                    assert sum(one.microjoules for one in found.groups) == found.total.microjoules
                    assert found.total.requests == len(requests)
                    parts = [ledger(store, by, **period, running=running)
                             for period in ({"until_s": edge_s}, {"since_s": edge_s})]  # fmt: skip
                    assert sum(map(sums, parts)) == sums(found)
                    assert by != "tenant" or "carried_over" not in nobodys(found)


@pytest.mark.parametrize(("account", "joules"), [("idle_provisioned", 3), ("unexplained", 2), ("open", 1)])
def test_an_account_that_is_dropped_is_seen(tmp_path, account, joules):
    with writing(tmp_path) as writer, Store(tmp_path) as store:
        accounts = {"idle_provisioned": 3.0, "unexplained": 2.0, "busy": 4.0, "open": 1.0}
        writer.submit_energy(booked(accounts), [settled(1, {"busy": 4.0})])
        writer.flush()
        store._connection.execute("DELETE FROM metered_energy WHERE account = ?", (account,))
        assert store.energy_ledger("tenant").difference_microjoules == joules * MICRO


# Files of earlier versions.


def test_a_file_of_the_second_version_is_brought_up_to_date_with_all_that_is_in_it(tmp_path):
    with sqlite3.connect(tmp_path / "underlay.db", isolation_level=None) as old:
        for statement in (*_FIRST, *_BUDGETS):
            old.execute(statement)
        values = ("req_1", DAY_S, "acme", "key_1", "m", "finished", 10, 4, 3, 7)
        old.execute("INSERT INTO charges VALUES (?,?,?,?,?,?,?,?,?,?)", values)
    old.close()
    with writing(tmp_path) as writer, Store(tmp_path) as store:
        assert store.spent_since(0.0) == [Spent("key_1", "acme", "m", 13, 7)]
        assert ledger(store).meters == []
        writer.submit_energy(booked({"busy": 2.0}), [settled(2, {"busy": 2.0})])
        writer.flush()
        assert store.spent_since(0.0) == [Spent("key_1", "acme", "m", 13, 7, 2.0)]
        assert [row.group for row in store.ledger_sums("region")] == [""]
