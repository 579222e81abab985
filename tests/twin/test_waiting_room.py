"""Calls that can wait, in whole runs: the same calls with and without a policy for them."""

from __future__ import annotations

import numpy as np
import pytest

from underlay.twin import scenario as scenarios
from underlay.twin import simulation
from underlay.twin.scenario import ScenarioError
from underlay.twin.summary import summarise

#: Local noon is when "dirty" begins; carbon is least at eight in the morning there, seven hours later in "clean".
TEXT = """
name: two
duration: 3 h
world:
  start_utc_h: 6
  regions:
    - {name: dirty, like: gcp/us-central1, utc_offset_h: 0, carbon_g_per_kwh: 500}
    - {name: clean, like: gcp/europe-north1, utc_offset_h: 0, carbon_g_per_kwh: 50}
  storage: {source: disk}
models:
  - {name: chat, model: llama-3.1-8b, replicas: 1, engine: {max_sequences: 32}}
crowds:
  - name: people
    region: dirty
    arrivals: {rate_per_s: 0.15}
    prompt_tokens: {mean: 400, cv: 1, high: 4000}
    output_tokens: {mean: 100, cv: 1, high: 800}
  - name: jobs
    region: dirty
    arrivals: {rate_per_s: 0.1}
    prompt_tokens: {mean: 400, cv: 1, high: 4000}
    output_tokens: {mean: 100, cv: 1, high: 800}
    tenants: [{name: jobs, band: batch}]
    deferrable: {within: 2 h}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "two.yaml"
    path.write_text(TEXT)
    done = {}

    def made(check=False, **policies):
        key = tuple(policies.items())
        if key not in done or check:
            settings = {f"policies.{name}": value for name, value in policies.items()}
            done[key] = simulation.run(scenarios.read(path, settings), 3, check=check)
        return done[key]

    made.path = path
    return made


def jobs(result):
    columns = {
        name: result.requests.column(name) for name in ("arrived_s", "held_s", "e2e_s", "served_in", "within_s")
    }
    can_wait = ~np.isnan(columns["within_s"])
    found = {name: column[can_wait] for name, column in columns.items()}
    order = np.argsort(found["arrived_s"])
    return {name: column[order] for name, column in found.items()}


def carbon(result):
    return summarise(result).value("carbon")


def test_every_variant_meets_the_same_calls(run):
    arrived = [
        jobs(run(**policies))["arrived_s"]
        for policies in ({}, {"deferral": "carbon"}, {"deferral": "carbon", "deferral_moves": "region"})
    ]
    assert len(arrived[0]) > 800
    assert all((arrived[0] == other).all() for other in arrived[1:])


def test_without_a_policy_nobody_is_put_off(run):
    summary = summarise(run())
    assert (summary.value("held_mean"), summary.value("moved_share")) == (0.0, 0.0)
    assert summary.value("deferrable") == len(jobs(run())["held_s"])


def test_by_region_alone_they_go_at_once_to_the_cleanest(run):
    moved = run(deferral="carbon", deferral_moves="region")
    summary = summarise(moved)
    assert summary.value("moved_share") == 1.0
    assert jobs(moved)["held_s"].max() == 0.0
    assert summary.value("deferrable_in_time") == 1.0
    assert carbon(moved) < carbon(run())


def test_by_time_alone_they_stay_and_wait_for_the_better_hour(run):
    waited = run(deferral="carbon", deferral_moves="time")
    summary, found = summarise(waited), jobs(waited)
    assert summary.value("moved_share") == 0.0
    start_s = found["arrived_s"] + found["held_s"]
    early = found["arrived_s"] < 3600.0
    assert (start_s[early] >= 3600.0).mean() > 0.95  # seven o'clock, which half past seven stands for, is better
    assert summary.value("deferrable_in_time") == 1.0


def test_nobody_is_put_off_beyond_the_end_of_the_run_and_all_are_answered(run):
    result = run(deferral="carbon")
    assert summarise(result).value("finished") == summarise(result).value("requests")
    found = jobs(result)
    assert (found["arrived_s"] + found["e2e_s"]).max() <= 3 * 3600.0 + 60.0


def test_those_who_cannot_wait_are_served_as_without_it(run):
    before, after = summarise(run()), summarise(run(deferral="carbon"))
    assert after.value("slo_attainment") >= before.value("slo_attainment") - 0.005
    assert after.value("ttft_p99") <= before.value("ttft_p99") * 1.2
    assert after.value("requests") == before.value("requests")


def test_latencies_are_those_of_the_others_alone(run):
    held = summarise(run(deferral="carbon", deferral_moves="time"))
    assert held.value("held_p90") > 1800.0
    assert held.value("ttft_p99") < 10.0


def test_equal_seeds_give_equal_runs_and_every_desk_adds_up(run):
    assert run(deferral="carbon").trace_hash == run(check=True, deferral="carbon").trace_hash


def test_the_price_counts_where_it_is_asked_for(run):
    priced = run(deferral="price", deferral_moves="time")
    assert summarise(priced).value("held_mean") > 0.0  # that of gcp/us-central1 is known


def test_flows_hold_nobody_back(run):
    with pytest.raises(ScenarioError, match="hold nobody back"):
        scenarios.read(run.path, {"policies.deferral": "carbon", "level": "fluid"})


def test_a_copy_of_a_run_goes_on_alike(run):
    scenario = scenarios.read(run.path, {"policies.deferral": "carbon", "duration": "1 h"})
    whole = simulation.simulation_of(scenario, 3)
    whole.run_to(1800.0)
    copy = whole.snapshot()
    for each in (whole, copy):
        each.go(simulation.nobody_watches, simulation.never)
    assert whole.result().trace_hash == copy.result().trace_hash
