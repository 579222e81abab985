"""Whole scenarios: worlds, callers and platforms in one clock."""

from __future__ import annotations

import pytest

from underlay.twin import scenario as scenarios
from underlay.twin import simulation
from underlay.twin.records import OUTCOMES
from underlay.twin.summary import summarise

SMALL = """
name: small
duration: 60 s
world:
  regions:
    - {name: west, like: azure/eastus}
models:
  - {name: chat, model: llama-3.1-8b, replicas: 4}
crowds:
  - arrivals: {rate_per_s: 8}
    prompt_tokens: {mean: 800, cv: 1, high: 6000}
    output_tokens: {mean: 150, cv: 1, high: 1500}
"""

TWO_REGIONS = """
name: two
duration: 10 min
world:
  regions:
    - {name: west, like: azure/eastus}
    - {name: east, like: azure/westeurope}
  storage: {source: disk}
models:
  - {name: chat, model: llama-3.1-8b, replicas: 2}
policies: {region_choice: spill}
crowds:
  - arrivals: {rate_per_s: 6}
    prompt_tokens: {mean: 800, cv: 1, high: 6000}
    output_tokens: {mean: 150, cv: 1, high: 1500}
    impatience: {tries: 4}
faults:
  - {kind: outage, where: west, at: 2 min, lasts: 2 min}
"""


@pytest.fixture
def read(tmp_path):
    def made(text, **settings):
        path = tmp_path / "scenario.yaml"
        path.write_text(text)
        return scenarios.read(path, settings)

    return made


def outcomes(result):
    counts = [0] * len(OUTCOMES)
    for outcome in result.requests.column("outcome"):
        counts[outcome] += 1
    return {name: count for name, count in zip(OUTCOMES, counts, strict=True) if count}


def test_equal_seeds_give_equal_hashes_and_others_do_not(read):
    scenario = read(SMALL)
    first, again, other = (simulation.run(scenario, seed) for seed in (1, 1, 2))
    assert first.trace_hash == again.trace_hash != other.trace_hash
    assert first.accounts == again.accounts


def test_every_call_is_in_the_records_and_the_books_of_every_desk_hold_after_every_event(read):
    result = simulation.run(read(SMALL, duration=20.0), 3, check=True)
    assert outcomes(result) == {"finished": len(result.requests)}
    assert 100 < len(result.requests) < 230
    assert not result.partial


def test_the_energy_of_all_parts_is_that_of_the_feeder(read):
    result = simulation.run(read(SMALL), 1)
    everywhere = {account.name: account.value for account in result.accounts if not account.place}
    parts = ("accelerators_busy", "accelerators_idle", "host", "power_chain_loss", "cooling")
    assert sum(everywhere[part] for part in parts) == pytest.approx(everywhere["energy_feeder"], rel=1e-9)
    assert all(everywhere[part] > 0 for part in parts)


def test_a_stopped_run_is_partial_and_says_how_far_it_came(read):
    seen = []

    def progress(simulated_s, duration_s, requests):
        seen.append((simulated_s, duration_s, requests))

    result = simulation.run(read(SMALL), 1, progress=progress, stop=lambda: len(seen) == 100)
    assert result.partial
    assert result.simulated_s == pytest.approx(15.0)
    assert seen[-1][1] == 60.0
    assert outcomes(result).get("open", 0) > 0


def test_with_one_region_lost_the_other_answers_and_callers_come_back(read):
    result = simulation.run(read(TWO_REGIONS), 1)
    requests = result.requests
    west, east = (requests.names["region"].index(name) for name in ("west", "east"))
    arrived, served = requests.column("arrived_s"), requests.column("served_in")
    meanwhile = (arrived > 130) & (arrived < 240)
    assert set(served[meanwhile]) == {east}
    assert (requests.column("outcome")[meanwhile] == 0).all()
    assert west in set(served[arrived > 400])
    broken = requests.column("outcome") == OUTCOMES.index("failed")
    assert 0 < broken.sum() < 30  # what was being answered in the west when it went
    assert (arrived[broken] < 125).all()
    assert any("outage" in text for _, text in result.happenings)
    assert summarise(result).value("retries") >= broken.sum() * 0.9


def test_what_a_cap_takes_away_in_power_is_missing_in_speed(read):
    free = simulation.run(read(SMALL), 1)
    watts = max(free.series.values["west/site.power_w"])
    capped = simulation.run(read(SMALL + "faults:\n  - {kind: power, where: west/site, at: 1 s, left: 0.6}\n"), 1)
    assert max(capped.series.values["west/site.power_w"][3:]) < watts
    slower, quick = summarise(capped), summarise(free)
    assert slower.value("tpot_mean") > quick.value("tpot_mean")  # by little: decoding waits for memory
    assert slower.value("ttft_mean") > 1.015 * quick.value("ttft_mean")  # reading prompts goes with the clock


def test_a_far_region_is_slower_to_the_first_token_by_its_way(read):
    text = TWO_REGIONS.split("faults:", maxsplit=1)[0].replace("replicas: 2", "replicas: {west: 0, east: 2}")
    result = simulation.run(read(text), 1)
    requests = result.requests
    home = requests.column("region") == requests.names["region"].index("east")
    far = requests.column("region") == requests.names["region"].index("west")
    ttft = requests.column("ttft_s")
    assert ttft[far].min() - ttft[home].min() == pytest.approx(0.08, abs=0.03)


FAULTS = {
    "shortage": "{kind: shortage, where: west, at: 10 s, lasts: 20 s}",
    "outage": "{kind: outage, where: west/site/hall/rest/s2, at: 10 s, lasts: 20 s}",
    "power": "{kind: power, where: west/site/hall, at: 10 s, lasts: 20 s, left: 0}",
    "cooling": "{kind: cooling, where: west/site, at: 10 s, lasts: 50 s, left: 0}",
    "congestion": "{kind: congestion, where: west/wan, at: 10 s, lasts: 20 s, added: 200 ms, loss: 0.02}",
    "cut off": "{kind: congestion, where: west/wan, at: 10 s, lasts: 20 s, left: 0}",
    "deployment": "{kind: deployment, where: west, share: 0.5, at: 10 s, lasts: 20 s, slower: 1.5, failing: 0.3}",
    "crashing": "{kind: deployment, where: west, share: 0.5, at: 10 s, lasts: 40 s, crash_after: 5 s}",
    "slow": "{kind: slow, where: chat-west-1, at: 10 s, lasts: 20 s, slower: 3}",
    "stuck": "{kind: stuck, where: chat-west-1, at: 10 s, lasts: 20 s}",
    "crash": "{kind: crash, where: 'chat-west-*', share: 0.5, at: 10 s}",
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_whatever_befalls_a_world_every_call_ends_once_and_it_is_told(read, fault):
    text = SMALL.replace("replicas: 4", "replicas: 3, parallelism: tp4").replace("rate_per_s: 8", "rate_per_s: 4")
    text += f"faults:\n  - {fault}\n"
    checked = simulation.run(read(text, **{"duration": 40.0, "world.storage.source": "disk"}), 5, check=True)
    requests = checked.requests
    calls = set(zip(requests.column("arrived_s"), requests.column("prompt_tokens"), strict=True))
    assert len(calls) == len(requests) > 80
    assert "open" not in outcomes(checked)
    assert checked.happenings


def test_a_replica_without_hardware_moves_to_free_accelerators_after_a_while(read):
    text = SMALL.replace("replicas: 4", "replicas: 2, parallelism: tp8")
    text = text.replace("like: azure/eastus", "like: azure/eastus, servers: 3")
    text += "faults:\n  - {kind: outage, where: 'west/site/hall/rest/s1', at: 20 s, lasts: 1 h}\n"
    settings = {"duration": 300.0, "world.storage.source": "disk", "crowds.0.arrivals.rate_per_s": 1}
    waiting, moving = (
        simulation.run(read(text, **settings, **more), 1) for more in ({}, {"world.spare_after": "60 s"})
    )
    assert not [told for _, told in waiting.happenings if "moved" in told]
    assert len([told for _, told in moving.happenings if "moved" in told]) == 1
    busy = [
        len(set(run.requests.column("replica")[run.requests.column("arrived_s") > 240]))
        for run in (waiting, moving)
    ]
    assert busy == [1, 2]


def test_a_site_without_cooling_shuts_itself_down_and_is_switched_on_again(read):
    text = SMALL + "faults:\n  - {kind: cooling, where: west/site, at: 10 s, lasts: 60 min, left: 0}\n"
    settings = {"duration": 9000.0, "crowds.0.arrivals.rate_per_s": 0.1, "world.storage.source": "disk"}
    result = simulation.run(read(text, **settings), 2)
    requests = result.requests
    arrived, outcome = requests.column("arrived_s"), requests.column("outcome")
    inlet = result.series.values["west/site.inlet_c"]
    assert max(inlet) > 38.0
    assert any("inlet" in text for _, text in result.happenings)
    assert (outcome[(arrived > 3000) & (arrived < 4400)] != 0).all()
    assert (outcome[arrived > 4800] == 0).all()


def test_hardware_that_fails_by_itself_is_seen_in_the_happenings(read):
    settings = {"world.failures.enabled": True, "world.failures.factor": 1e6, "duration": 120.0}
    result = simulation.run(read(SMALL, **settings), 1)
    assert len(result.happenings) >= 2
    again = simulation.run(read(SMALL, **settings), 1)
    assert again.trace_hash == result.trace_hash
