import numpy as np
import pytest
from tests.twin.fluid.worlds import CROWD, world

from underlay.twin import simulation
from underlay.twin.records import OUTCOMES
from underlay.twin.summary import summarise
from underlay.twin.world.mistake import ScenarioMistake

FAILED = OUTCOMES.index("failed")

pytestmark = pytest.mark.usefixtures("coarse")


def test_equal_seeds_give_equal_runs(tmp_path):
    scenario = world(tmp_path, duration="30 s")
    first, second, other = (simulation.run(scenario, seed) for seed in (4, 4, 5))
    assert first.trace_hash == second.trace_hash
    assert summarise(first).figures == summarise(second).figures
    assert other.trace_hash != first.trace_hash


def test_rows_stand_for_everybody(tmp_path):
    result = simulation.run(world(tmp_path, **{"crowds.0.arrivals.rate_per_s": 60}), 1)
    weights = result.requests.weights()
    assert weights.sum() == pytest.approx(60 * 120, rel=1e-6)
    assert weights.min() >= 0.9
    assert (np.diff(result.requests.column("arrived_s")) >= 0).all()


def test_it_says_what_it_rests_on(tmp_path):
    result = simulation.run(world(tmp_path, duration="30 s"), 1)
    assert any("pools of 3 replicas" in warning for warning in result.warnings)


def test_a_region_is_lost_and_comes_back(tmp_path):
    faults = "faults: [{kind: outage, at: 40, lasts: 30, where: west}]"
    scenario = world(tmp_path, faults, duration="150 s", **{"world.storage.source": "disk"})
    result = simulation.run(scenario, 1)
    requests = result.requests
    at, where, outcome = (requests.column(name) for name in ("arrived_s", "served_in", "outcome"))
    west = requests.place("region", "west")
    during = (at > 45) & (at < 69)
    assert (where[during] != west).all()
    assert ((outcome == FAILED) & (at > 38) & (at < 45)).any()
    replicas = dict(zip(result.series.times_s, result.series.values["west.replicas"], strict=True))
    assert replicas[20.0] == 3
    assert replicas[60.0] == 0
    assert replicas[result.series.times_s[-1]] == 3
    assert [text for _, text in result.happenings][:2] == ["outage at west", "end of outage at west"]
    assert ((where == west) & (at > 130)).any()


OVERLOAD = """
  - arrivals: {rate_per_s: 240, process: even}
    prompt_tokens: 300
    output_tokens: {mean: 60, cv: 0.5, high: 400}
    impatience: {tries: 3}
"""


@pytest.fixture(scope="module")
def overload(tmp_path_factory, coarse):
    settings = {
        "policies.waiting_max": 100,
        "models.chat.engine.max_sequences": 12,
        "models.chat.replicas": 2,
        "duration": "40 s",
    }
    scenario = world(tmp_path_factory.mktemp("overload"), crowds=OVERLOAD, **settings)
    return [simulation.run(scenario.model_copy(update={"level": level}), 1) for level in ("requests", "fluid")]


def test_of_too_many_calls_some_are_refused_and_the_reader_is_warned(overload):
    there, here = (summarise(result) for result in overload)
    assert here.value("refused") > 0.1 * here.value("requests")
    assert here.value("throughput") == pytest.approx(there.value("throughput"), rel=0.05)
    assert here.value("ttft_p50") == pytest.approx(there.value("ttft_p50"), rel=0.2)
    assert any("more calls than it can serve" in warning for warning in here.warnings)


def test_who_was_refused_tries_again(overload):
    there, here = (summarise(result) for result in overload)
    assert here.value("requests") == pytest.approx(240 * 40 + here.value("retries"), rel=1e-6)
    assert here.value("retries") == pytest.approx(there.value("retries"), rel=0.1)


def test_slow_replicas_make_answers_slower(tmp_path):
    faults = "faults: [{kind: slow, at: 0, lasts: 60, where: west, slower: 3}]"
    result = simulation.run(world(tmp_path, faults), 1)
    requests = result.requests
    tpot_s, at = requests.tpot_s(), requests.column("arrived_s")
    here = requests.column("served_in") == requests.place("region", "west")
    slow, quick = (np.nanmedian(tpot_s[here & part]) for part in ((at > 5) & (at < 50), at > 70))
    assert slow == pytest.approx(3.0 * quick, rel=0.25)


def test_a_run_can_be_stopped(tmp_path):
    seen = []

    def stop():
        return len(seen) > 3

    result = simulation.run(world(tmp_path), 1, progress=lambda *told: seen.append(told), stop=stop)
    assert result.partial
    assert result.simulated_s < 120.0
    assert summarise(result).value("open") > 0.0
    assert [told[0] for told in seen] == sorted(told[0] for told in seen)


def test_recorded_and_conversing_callers_flow_too(tmp_path):
    crowds = """
  - trace: {name: azure-2023-conv, mean_rate_per_s: 20}
  - name: talk
    arrivals: {rate_per_s: 2}
    sessions: {turns: 3, think: 1, question_tokens: 600, answer_tokens: 50}
"""
    result = simulation.run(world(tmp_path, crowds=crowds, duration="60 s"), 1)
    summary = summarise(result)
    assert summary.value("throughput") > 10
    assert summary.value("cached_share") > 0
    assert {group.name for group in summary.groups["tenant"]} >= {"talk"}
    assert any("Recorded calls" in warning for warning in result.warnings)


def test_a_model_that_nobody_calls_stands_idle(tmp_path):
    more = """
  - arrivals: {rate_per_s: 0}
    model: spare
    prompt_tokens: 10
    output_tokens: 5
"""
    scenario = world(tmp_path, crowds=CROWD + more, models="{name: spare, model: llama-3.1-8b}", duration="20 s")
    summary = summarise(simulation.run(scenario, 1))
    assert summary.value("finished") == pytest.approx(800, rel=0.01)
    assert summary.value("accelerators_idle") > 0


def test_prompts_that_never_fit_are_a_mistake(tmp_path):
    crowds = "\n  - arrivals: {rate_per_s: 1}\n    prompt_tokens: 9000\n    output_tokens: 5"
    with pytest.raises(ScenarioMistake, match="context"):
        simulation.run(world(tmp_path, crowds=crowds), 1)


def test_answers_of_one_token_flow_too(tmp_path):
    crowds = "\n  - arrivals: {rate_per_s: 40}\n    prompt_tokens: 300\n    output_tokens: 1"
    scenario = world(tmp_path, crowds=crowds, duration="20 s")
    here, there = (
        summarise(simulation.run(scenario.model_copy(update={"level": level}), 1))
        for level in ("fluid", "requests")
    )
    for figure in ("throughput", "ttft_p50", "e2e_p50"):
        assert here.value(figure) == pytest.approx(there.value(figure), rel=0.05), figure
