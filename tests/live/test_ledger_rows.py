"""The ledger's rows: requests with their own joules, and groups that sum to the meters."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from tests.live.records import charge, writing
from tests.live.test_store_energy import DAY_S, booked, settled

from underlay.domain.figures import Figure
from underlay.domain.views import LedgerEnergy
from underlay.live.ledger_rows import ledger_rows
from underlay.live.store import Store
from underlay.live.views import LiveViews

MILLION = 10**6


@pytest.fixture
def store(tmp_path):
    cost = {part: Figure(1e-6, "USD", "assumed") for part in ("accelerator", "electricity", "overhead")}
    with writing(tmp_path) as writer, Store(tmp_path) as opened:
        writer.submit_charge(charge(1, at_s=DAY_S, cost=5 * MILLION))
        writer.submit_charge(charge(2, at_s=DAY_S, cost=1))
        told = settled(1, {"busy": 6.0}, cost=cost, carbon={"location": Figure(2.0, "gCO2e", "modelled")})
        writer.submit_energy(booked({"busy": 6.0, "idle_provisioned": 3.0, "open": 1.0}), [told])
        writer.flush()
        yield opened


def test_each_request_has_its_own_joules_or_none(store):
    unmetered, metered = sorted(ledger_rows(store, "request"), key=lambda row: row.energy is not None)
    assert (unmetered.request_id, unmetered.energy) == ("req_2", None)
    assert metered.energy == LedgerEnergy(
        6.0,
        "measured",
        1,
        {"busy": 6.0},
        {"uncertainty_joules": 0.5, "carbon_location_g": 2.0},
        {"accelerator": "0.000001", "electricity": "0.000001", "overhead": "0.000001"},
        "0.000002",
    )


@pytest.mark.parametrize(
    ("group", "named"),
    [
        ("tenant", {"tenant": "acme"}),
        ("key", {"key_id": "key_1"}),
        ("model", {"model": "m"}),
        ("day", {"day": "1970-01-02"}),
    ],
)
def test_a_groups_rows_sum_to_the_meters(store, group, named):
    (row, *nobodys) = ledger_rows(store, group)
    assert {field: getattr(row, field) for field in named} == named
    assert (row.cost_pico_usd, row.usage.prompt_tokens, row.energy.requests) == (5 * MILLION + 1, 20, 1)
    assert [(one.account, one.energy.joules, one.day) for one in nobodys] == [
        ("idle_provisioned", 3.0, named.get("day", "")),
        ("open", 1.0, named.get("day", "")),
    ]
    assert sum(one.energy.joules for one in (row, *nobodys)) == 10.0


def test_an_empty_store_has_no_rows(tmp_path):
    with Store(tmp_path) as empty:
        assert [ledger_rows(empty, group) for group in ("request", "tenant", "region")] == [[], [], []]


def test_rows_are_sent_as_they_are(store):
    rows = ledger_rows(store, "region")
    assert msgspec.json.decode(msgspec.json.encode(rows), type=list[type(rows[0])]) == rows
    assert [(row.region, row.account) for row in rows] == [
        ("", ""), ("here", ""), ("here", "idle_provisioned"), ("here", "open")
    ]  # fmt: skip


def test_the_console_sums_while_others_use_the_store(store, tmp_path):
    nothing = dict.fromkeys(("driver", "fleet", "writer", "metrics", "session_key"))
    views = LiveViews(version="0", pid=1, data_dir=tmp_path, store=store, cards=[], **nothing)
    with store.transaction(), ThreadPoolExecutor(1) as console:
        rows = console.submit(views.ledger, "tenant").result(timeout=20)
    assert rows == ledger_rows(store, "tenant")


@pytest.mark.parametrize("group", ["request", "day"])
def test_a_request_that_waited_for_hours_has_its_joules_beside_its_charge(tmp_path, group):
    waited = msgspec.structs.replace(settled(1, {"busy": 6.0}), at_s=DAY_S - 3600.0, duration_ms=2 * 3600e3)
    with writing(tmp_path) as writer, Store(tmp_path) as opened:
        writer.submit_charge(charge(1, at_s=DAY_S + 3600.0))
        writer.submit_energy(booked({"busy": 6.0}), [waited])
        writer.flush()
        rows = [row for row in ledger_rows(opened, group) if not row.account]
        assert [row.energy.joules for row in rows] == [6.0]
