"""``underlay ledger``: its joules are the meters', its money is what was charged, and FOCUS readers get both."""

import csv
import io
import json
from decimal import Decimal

import msgspec
import pytest
from tests.live.records import charge, journey, writing

from underlay.domain.energy import Booked, RequestEnergy
from underlay.domain.figures import Figure
from underlay.live.store import Store

NOON_S = 1_700_049_600.0  # 2023-11-15 12:00 UTC
MANDATORY = {
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd",
    "ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity",
    "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName",
}  # fmt: skip
MAY_BE_NULL = {
    "BillingAccountName", "ChargeClass", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType",
    "SubAccountId", "SubAccountName", "Tags",
}  # fmt: skip


def settled(number, joules, *, at_s=NOON_S, tenant="acme", model="m", method="measured", carbon_g=2.0):
    energy = RequestEnergy(
        "settled",
        joules,
        0.1,
        method,
        "nvml:0",
        "device",
        {"busy": joules},
        carbon={"location": Figure(carbon_g, "gCO2e", "modelled")},
        cost={"electricity": Figure(1e-6, "USD", "assumed"), "accelerator": Figure(2e-6, "USD", "assumed")},
    )
    return msgspec.structs.replace(journey(number, at_s), tenant=tenant, model=model, energy=energy)


@pytest.fixture
def metered(data_dir):
    """Two tenants on two days; one request was not metered, idle time is nobody's, and something is open."""
    day_s = 86_400.0
    with writing(data_dir) as writer:
        writer.submit_charge(charge(1, at_s=NOON_S, cost=10_000_000))
        writer.submit_charge(charge(2, at_s=NOON_S, cost=1, tenant="umbrella"))
        writer.submit_charge(charge(3, at_s=NOON_S + day_s, cost=3, model="x"))
        writer.submit_charge(charge(4, at_s=NOON_S + day_s, cost=7))
        first = {"busy": 1.1 + 2.2, "idle_provisioned": 10.1, "unexplained": 0.3, "open": 5.0}
        journeys = [settled(1, 1.1), settled(2, 2.2, tenant="umbrella", method="modelled")]
        writer.submit_energy(Booked(NOON_S, NOON_S + 1, "here", "nvml:0", "measured", sum(first.values()), first),
                             journeys)  # fmt: skip
        later_s = NOON_S + day_s
        second = {"busy": 4.4, "host_shared": 0.7, "open": -4.0}
        writer.submit_energy(Booked(later_s, later_s + 1, "there", "rapl:0", "measured", 1.1, second),
                             [settled(3, 4.4, at_s=later_s, model="x")])  # fmt: skip
    return data_dir


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def added(rows, column):
    return sum(Decimal(row[column]) for row in rows if row[column])


@pytest.mark.parametrize("by", ["tenant", "key", "model", "region", "day"])
def test_the_energy_column_sums_to_the_meters(underlay, metered, by):
    rows = rows_of(underlay("ledger", "--by", by, "--csv").stdout)
    said = json.loads(underlay("ledger", "--by", by, "--json").stdout)
    assert said["meters"] == [
        {"meter": "nvml:0", "method": "measured", "joules": 18.7},
        {"meter": "rapl:0", "method": "measured", "joules": 1.1},
    ]
    assert (said["metered_joules"], said["difference_joules"]) == (19.8, 0.0)
    assert added(rows, "energy_joules") == Decimal("19.8")
    assert added(rows, "cost_usd") == Decimal(said["total"]["cost_usd"]) == Decimal("0.000010000011")
    told = sum(row["energy_joules"] or 0.0 for row in said["rows"] + said["nobodys"])
    assert told == pytest.approx(19.8, rel=1e-12)


def test_a_period_sums_to_its_own_meters(underlay, metered):
    for edges in (["--until", "2023-11-16"], ["--since", "2023-11-16"], ["--since", "2023-11-17"]):
        said = json.loads(underlay("ledger", *edges, "--json").stdout)
        rows = rows_of(underlay("ledger", *edges, "--csv").stdout)
        assert added(rows, "energy_joules") == pytest.approx(Decimal(str(said["metered_joules"] or 0.0)))
        assert not said["difference_joules"]


def test_what_is_known_and_what_is_not(underlay, metered):
    said = json.loads(underlay("ledger", "--json").stdout)
    acme, umbrella = said["rows"]
    assert (acme["tenant"], acme["requests"], acme["unmetered_requests"]) == ("acme", 3, 1)
    assert (acme["energy_joules"], acme["energy_method"], acme["energy_accounts"]) == (
        5.5,
        "measured",
        {"busy": 5.5},
    )
    assert umbrella["energy_method"] == "modelled"
    assert (acme["carbon_location_g"], acme["carbon_market_g"], acme["overhead_joules"]) == (4.0, None, None)
    assert (acme["own_cost_usd"], acme["own_cost_lacks"]) == ("0.000006", "overhead")
    assert (acme["cost_usd"], acme["margin_usd"]) == ("0.00001000001", None)
    (row, *_) = rows_of(underlay("ledger", "--csv").stdout)
    assert (row["carbon_market_g"], row["energy_accounts"]) == ("", "busy=5.5")
    assert [one["account"] for one in said["nobodys"]] == [
        "host_shared", "idle_provisioned", "unexplained", "unsettled"
    ]  # fmt: skip


def test_a_margin_is_of_metered_requests_and_of_all_their_cost(underlay, metered):
    with Store(metered) as store:
        store._connection.execute("UPDATE request_energy SET overhead_pico_usd = 0")
    acme, umbrella = json.loads(underlay("ledger", "--json").stdout)["rows"]
    assert (acme["cost_usd"], acme["own_cost_usd"]) == ("0.00001000001", "0.000006")
    assert acme["margin_usd"] == "0.000004000003"
    assert (
        rows_of(underlay("ledger", "--csv").stdout)[1]["margin_usd"] == umbrella["margin_usd"] == "-0.000002999999"
    )


def test_the_table_is_short_and_adds_up(underlay, metered):
    lines = underlay("ledger", "--by", "region").stdout.splitlines()
    assert lines[0].endswith("energy joules  energy method  carbon location g  own cost usd")
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "", "here", "there", "here (idle_provisioned)", "here (unexplained)", "here (unsettled)",
        "there (host_shared)", "there (unsettled)", "total",
    ]  # fmt: skip
    assert "19.8" in lines[-1]


def test_focus_is_the_same_ledger(underlay, metered, tmp_path):
    path = tmp_path / "november.csv"
    told = underlay("ledger", "--focus", str(path))
    assert told.stdout.endswith("november.csv: 9 rows of FOCUS 1.2, 0.000010000011 USD billed\n")
    rows = rows_of(path.read_text())
    names = list(rows[0])
    custom = [name for name in names if name.startswith("x_")]
    assert set(names) >= MANDATORY
    assert names == [*sorted(set(names) - set(custom)), *custom]
    with Store(metered) as store:
        billed = Decimal(store.totals().cost_pico_usd).scaleb(-12)
    for cost in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
        assert added(rows, cost) == billed
    assert added(rows, "x_EnergyJoules") == Decimal("19.8")
    for row in rows:
        assert {name for name in names if not row[name] and not name.startswith("x_")} <= MAY_BE_NULL
        assert row["ChargePeriodStart"] < row["ChargePeriodEnd"]
        assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == (
            "2023-11-01T00:00:00Z",
            "2023-12-01T00:00:00Z",
        )
    acme = next(row for row in rows if row["ResourceId"] == "x")
    assert (acme["SubAccountId"], acme["RegionId"], acme["ConsumedQuantity"], acme["ConsumedUnit"]) == (
        "acme", "there", "13", "Tokens"
    )  # fmt: skip
    assert (acme["ChargePeriodStart"], acme["x_CarbonLocationGrams"], acme["x_CarbonMarketGrams"]) == (
        "2023-11-16T00:00:00Z", "2", ""
    )  # fmt: skip
    assert json.loads(acme["Tags"]) == {"tenant": "acme", "model": "x"}
    unmetered = next(row for row in rows if row["x_UnmeteredRequests"] == "1")
    assert (unmetered["RegionId"], unmetered["x_EnergyJoules"], unmetered["BilledCost"]) == (
        "",
        "",
        "0.000000000007",
    )
    idle = next(row for row in rows if row["x_Account"] == "idle_provisioned")
    assert (idle["BilledCost"], idle["SubAccountId"], idle["ConsumedUnit"]) == ("0", "", "Joules")


def test_focus_says_what_it_cannot_do(underlay, metered, tmp_path):
    failed = underlay("ledger", "--focus", str(tmp_path / "none" / "file.csv"))
    assert (failed.exit_code, "cannot be written" in failed.stderr) == (1, True)
    assert underlay("ledger", "--focus", "f.csv", "--csv").exit_code == 2
    said = json.loads(underlay("ledger", "--focus", str(tmp_path / "f.csv"), "--json").stdout)
    assert (said["rows"], said["version"], said["billed_usd"]) == (9, "1.2", "0.000010000011")


def test_a_fault_in_the_accounts_is_told(underlay, metered):
    with Store(metered) as store:
        store._connection.execute("DELETE FROM metered_energy WHERE account = 'idle_provisioned'")
    said = underlay("ledger", "--json")
    assert json.loads(said.stdout)["difference_joules"] == 10.1
    assert "10.1 J more than the accounts have" in said.stderr
