"""Every joule of a run is on one account, whatever befalls it."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from underlay.twin import scenario as scenarios
from underlay.twin import simulation
from underlay.twin.experiment import Experiment
from underlay.twin.ledger.statements import GROUPS
from underlay.twin.report.exports import write_requests
from underlay.twin.report.html import page
from underlay.twin.run_ledger import BUSY_ACCOUNTS, Line, RunLedger
from underlay.twin.summary import summarise
from underlay.twin.world import energy_book as book
from underlay.twin.world.storage import Weights

TWO_REGIONS = """
name: two
duration: 3 min
world:
  regions:
    - {name: west, like: azure/eastus, market_carbon_g_per_kwh: 20}
    - {name: east, like: azure/westeurope, usd_per_kwh: 0.2}
  storage: {source: disk}
models:
  - {name: chat, model: llama-3.1-8b, replicas: 2, price: {prompt_usd_per_mtok: 0.5, completion_usd_per_mtok: 2}}
policies: {region_choice: spill}
crowds:
  - arrivals: {rate_per_s: 8}
    prompt_tokens: {mean: 800, cv: 1, high: 6000}
    output_tokens: {mean: 150, cv: 1, high: 1500}
    tenants: [{name: school}, {name: office, band: priority}]
    impatience: {tries: 3, patience: {mean: 0.04, cv: 0.5}}
faults:
  - {kind: outage, where: west, at: 40 s, lasts: 60 s}
  - {kind: crash, where: chat-east-1, at: 130 s}
report: {ledger: requests}
"""
CROWDED = """
name: crowded
duration: 60 s
world: {regions: [{name: west, like: gcp/us-central1}]}
models: [{name: chat, model: llama-3.1-8b, replicas: 1, engine: {blocks: 900, max_sequences: 64}}]
crowds:
  - arrivals: {rate_per_s: 6}
    prompt_tokens: {mean: 500, cv: 1, high: 4000}
    output_tokens: {mean: 300, cv: 1, high: 3000}
faults:
  - {kind: power, where: west/site, at: 20 s, left: 0.5}
report: {ledger: requests, places: racks}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenarios")
    found = {}
    for name, text in {"two": TWO_REGIONS, "crowded": CROWDED}.items():
        path = folder / f"{name}.yaml"
        path.write_text(text)
        ran = simulation.simulation_of(scenarios.read(path), 1)
        ran.go(simulation.nobody_watches, simulation.never)
        found[name] = (ran, ran.result())
    return found


def replicas(ran):
    return [one for platform in ran.world.platforms.values() for one in platform.replicas.values()]


@pytest.mark.parametrize("name", ["two", "crowded"])
def test_requests_are_all_that_the_replicas_drew(runs, name):
    ran, result = runs[name]
    drawn_j = sum(one.energy_joules for one in replicas(ran))
    assert sum(result.ledger.total.value(f"{account}_joules") for account in BUSY_ACCOUNTS) == pytest.approx(
        drawn_j, rel=1e-9
    )
    assert sum(result.ledger.busy_j.values()) == pytest.approx(drawn_j, rel=1e-9)
    assert all(one.engine.shares.nobodys_j == 0.0 for one in replicas(ran))


def test_each_account_has_what_belongs_there(runs):
    two, crowded = runs["two"][1].ledger.total, runs["crowded"][1].ledger.total
    assert two.value("failed_attempts_joules") > 0.0  # the outage, the crash
    assert two.value("abandoned_streams_joules") > 0.0  # callers of little patience
    assert two.value("scheduler_waste_joules") == 0.0
    assert crowded.value("scheduler_waste_joules") > 0.0  # too little memory
    assert crowded.value("failed_attempts_joules") == 0.0


@pytest.mark.parametrize(
    "account", [*(f"{name}_joules" for name in BUSY_ACCOUNTS), "host_joules", "overhead_joules"]
)
def test_a_ledger_that_drops_an_account_of_requests_is_found_out(runs, account):
    ledger = runs["two"][1].ledger if account != "scheduler_waste_joules" else runs["crowded"][1].ledger
    ledger.check()
    regions = tuple(_without(line, account) for line in ledger.groups["region"])
    with pytest.raises(AssertionError, match="on accounts"):
        replace(ledger, groups={**ledger.groups, "region": regions}).check()


@pytest.mark.parametrize("account", ["idle_provisioned_joules", "host_shared_joules", "overhead_joules"])
def test_a_ledger_that_drops_what_is_nobodys_is_found_out(runs, account):
    ledger: RunLedger = runs["two"][1].ledger
    with pytest.raises(AssertionError, match="feeder"):
        replace(ledger, nobodys=tuple(_without(line, account) for line in ledger.nobodys)).check()


def _without(line: Line, account: str) -> Line:
    return line._replace(figures={name: figure for name, figure in line.figures.items() if name != account})


@pytest.mark.parametrize("part", book.PARTS)
def test_a_book_that_drops_a_part_of_a_site_is_found_out(runs, part):
    feeders = runs["two"][0].world.facility.feeders
    feeders.check()
    kept = feeders.book.sums[part].copy()
    feeders.book.sums[part] = 0.0
    try:
        with pytest.raises(AssertionError):
            feeders.check()
    finally:
        feeders.book.sums[part] = kept


@pytest.mark.parametrize("part", range(5))
def test_a_rack_that_drops_a_part_is_found_out(runs, part):
    feeders = runs["crowded"][0].world.facility.feeders
    kept = feeders.places.rack_parts[part].copy()
    feeders.places.rack_parts[part] = 0.0
    try:
        with pytest.raises(AssertionError, match="west/site/hall"):
            feeders.check()
    finally:
        feeders.places.rack_parts[part] = kept


def test_racks_halls_and_sites_close_to_the_feeder(runs):
    result = runs["crowded"][1]
    rows = {(one.place, one.name): one.value for one in result.places}
    feeder = next(one.value for one in result.accounts if (one.place, one.name) == ("", "energy_feeder"))
    assert rows["west/site", "energy_feeder"] == pytest.approx(feeder, rel=1e-9)
    racks = {place for place, name in rows if name == "power_supply_loss"}
    fed = sum(rows[rack, "energy_fed"] for rack in racks)
    assert rows["west/site/hall", "racks"] == pytest.approx(fed, rel=1e-9)
    assert rows["west/site", "halls"] + rows["west/site", "cooling"] == pytest.approx(feeder, rel=1e-9)


@pytest.mark.parametrize("kind", GROUPS)
def test_groups_add_up_to_all(runs, kind):
    ledger = runs["two"][1].ledger
    lines = ledger.groups[kind]
    assert sum(line.requests for line in lines) == ledger.total.requests == len(runs["two"][1].requests)
    for name in ("energy_joules", "overhead_joules", "carbon_location_g", "accelerator_usd", "revenue_usd"):
        assert sum(line.value(name) for line in lines) == pytest.approx(ledger.total.value(name), rel=1e-9)


def test_grams_litres_and_money_close_too(runs):
    result = runs["two"][1]
    totals = {one.name: one.value for one in result.accounts if not one.place}
    lines = (result.ledger.total, *result.ledger.nobodys)
    for column, name, size in (
        ("carbon_location_g", "carbon", 1.0),
        ("water_on_site_ml", "water_on_site", 1e3),
        ("water_off_site_ml", "water_off_site", 1e3),
    ):
        assert sum(line.value(column) for line in lines) == pytest.approx(totals[name] * size, rel=1e-9)
    paid = sum(line.value(column) for line in lines for column in ("electricity_usd", "overhead_usd"))
    assert paid == pytest.approx(totals["electricity_cost"], rel=1e-9)
    hired = sum(one.value for one in result.accounts if one.name == "accelerators_cost")
    assert sum(line.value("accelerator_usd") for line in lines) == pytest.approx(hired, rel=1e-9)
    revenue = sum(one.value for one in result.accounts if one.name == "revenue")
    assert result.ledger.total.value("revenue_usd") == pytest.approx(revenue, rel=1e-9)


def test_figures_are_known_no_better_than_what_they_are_made_of(runs):
    ledger = runs["two"][1].ledger
    nobodys = ledger.nobodys[0].figures
    assert {name for name, figure in nobodys.items() if figure.method != "assumed"} == {
        "host_shared_joules",
        "embodied_g",
    }
    assert nobodys["accelerator_usd"].boundary != ledger.total.figures["accelerator_usd"].boundary
    network = ledger.total.figures["network_joules"]
    assert (network.method, network.uncertainty) == ("assumed", pytest.approx(25.0 * network.value))


def test_weights_in_a_store_are_told_beside_the_feeder(runs):
    totals = {one.name: one for one in runs["crowded"][1].accounts}
    seconds = runs["crowded"][1].simulated_s
    gb = Weights.of("llama-3.1-8b", "bf16").bytes / 1e9
    kept = totals["storage"].figure
    assert kept.value * 3.6e6 == pytest.approx(gb / 1e3 * 5.6 * seconds)
    assert (kept.method, kept.boundary) == ("modelled", "flash outside the host, average allocation")
    assert not any(one.name == "storage" for one in runs["two"][1].accounts)  # on every server


def test_views_of_carbon_are_told_where_they_are_known(runs):
    regions = {line.name: line for line in runs["two"][1].ledger.groups["region"]}
    west, east = regions["west"], regions["east"]
    fed_kwh = (west.value("energy_joules") + west.value("overhead_joules")) / 3.6e6
    assert west.figures["carbon_market_g"].value == pytest.approx(20 * fed_kwh)
    assert west.figures["carbon_market_g"].method == "assumed"
    assert "carbon_market_g" not in east.figures
    assert west.value("carbon_marginal_g") > west.value("carbon_market_g")
    assert "embodied_g" in west.figures  # H100


def test_who_is_followed_changes_nothing_of_the_run(runs, tmp_path):
    path = tmp_path / "crowded.yaml"
    path.write_text(CROWDED)
    plain = simulation.run(scenarios.read(path, {"report.ledger": "sites"}), 1)
    assert plain.ledger is None
    assert plain.trace_hash == runs["crowded"][1].trace_hash
    assert [one.figure for one in plain.accounts] == [one.figure for one in runs["crowded"][1].accounts]


def test_a_copy_in_the_middle_comes_to_the_same_accounts(runs, tmp_path):
    path = tmp_path / "crowded.yaml"
    path.write_text(CROWDED)
    first = simulation.simulation_of(scenarios.read(path), 1)
    first.run_to(30.0)
    copy = first.snapshot()
    copy.go(simulation.nobody_watches, simulation.never)
    expected = runs["crowded"][1].ledger
    assert copy.result().ledger.total == expected.total


def test_rows_carry_what_they_took_into_exports_and_pages(runs, tmp_path):
    result = runs["two"][1]
    path = tmp_path / "rows.csv"
    write_requests(path, [result])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(float(row["energy_joules"]) for row in rows) == pytest.approx(
        result.ledger.total.value("energy_joules")
    )
    assert {row["band"] for row in rows if float(row["energy_joules"])} == {"priority", "standard"}
    assert any(not row["carbon_market_g"] for row in rows)  # nobody stated it for the east
    summary = summarise(result)
    assert not summary.ledger.columns
    html = page(Experiment(1, {"two": [summary]}), kind="run")
    assert "By tenant." in html
    assert "abandoned" in html


def test_uncertainty_of_a_part_is_that_of_the_watts_and_of_the_split(runs):
    ledger = runs["two"][1].ledger
    whole, part = ledger.total.figures["busy_joules"], ledger.groups["tenant"][0].figures["busy_joules"]
    assert 0.0 < whole.uncertainty / whole.value < part.uncertainty / part.value
    assert ledger.total.figures["energy_joules"].uncertainty is None
    assert np.isfinite(list(ledger.fed_j.values())).all()


def test_flows_have_no_requests_to_follow(tmp_path):
    path = tmp_path / "flows.yaml"
    path.write_text("level: fluid\n" + CROWDED)
    with pytest.raises(scenarios.ScenarioError, match="no requests to follow"):
        scenarios.read(path)


def test_a_budget_in_joules_holds(tmp_path):
    path = tmp_path / "budget.yaml"
    budget = "policies: {accounts: [{tenant: school, budgets: [{joules: 20kJ, per: day}]}]}"
    text = TWO_REGIONS.replace("policies: {region_choice: spill}", budget).split("faults:", maxsplit=1)[0]
    text += "report: {ledger: requests}\n"
    one_region = text.replace("    - {name: east, like: azure/westeurope, usd_per_kwh: 0.2}\n", "")
    path.write_text(one_region)
    result = simulation.run(scenarios.read(path), 1)
    took = {line.name: line.value("busy_joules") for line in result.ledger.groups["tenant"]}
    assert 15e3 < took["school"] < 25e3
    assert took["office"] > 2 * took["school"]
    assert summarise(result).value("refused") > 0
