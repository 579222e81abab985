"""Caps in the twin: energy falls, the service is kept, a surge frees the clocks, and nobody is capped unasked."""

from __future__ import annotations

import pytest

from underlay.control import power_caps
from underlay.domain.errors import Conflict
from underlay.physics import power
from underlay.physics.profiles import find as profile
from underlay.twin import scenario as scenarios
from underlay.twin import simulation
from underlay.twin.assembly import Assembly
from underlay.twin.engine import PagedRules
from underlay.twin.modelled import Modelled
from underlay.twin.scenario import ScenarioError
from underlay.twin.summary import summarise

DAY = """
name: small
duration: 20 min
world:
  regions:
    - {name: west, like: azure/eastus}
models:
  - {name: chat, model: llama-3.1-70b, parallelism: tp4}
crowds:
  - arrivals: {rate_per_s: 1}
    prompt_tokens: {mean: 1500, cv: 1, high: 8000}
    output_tokens: {mean: 150, cv: 1, high: 1500}
slo: {ttft: 3 s, tpot: 100 ms}
policies: {power_caps: {mode: slo}}
"""


@pytest.fixture
def read(tmp_path):
    def made(text=DAY, **settings):
        path = tmp_path / "scenario.yaml"
        path.write_text(text)
        return scenarios.read(path, settings)

    return made


def said(result) -> list[str]:
    return [text for _, text in result.happenings if text.startswith("power cap of")]


def test_caps_save_energy_and_keep_what_was_promised(read):
    capped, plain = (simulation.run(read(**{"policies.power_caps.mode": mode}), 1) for mode in ("slo", "none"))
    (less, more) = summarise(capped), summarise(plain)
    assert less.value("energy_accelerators") < 0.95 * more.value("energy_accelerators")
    assert less.value("slo_attainment") == more.value("slo_attainment") == 1.0
    assert less.value("requests") == more.value("requests")
    assert less.value("ttft_p50") > more.value("ttft_p50")
    assert said(capped)[0].startswith("power cap of chat in west: 95% of the rated power (665 W): tightened")
    assert not said(plain)
    watts = capped.series.values
    assert min(watts["west.chat.cap_w"]) == 350
    late = [drawn for drawn, cap in zip(watts["west.chat.accelerator_w"], watts["west.chat.cap_w"], strict=True)][
        80:
    ]
    assert max(late) <= 351
    assert "west.chat.cap_w" not in plain.series.values


def test_equal_seeds_give_equal_plans_and_a_copy_goes_on_alike(read):
    scenario = read(duration=400)
    first = simulation.simulation_of(scenario, 3)
    first.run_to(200.0)
    copy = first.snapshot()
    results = []
    for each in (first, copy):
        each.go(simulation.nobody_watches, simulation.never)
        results.append(each.result())
    assert results[0].trace_hash == results[1].trace_hash == simulation.run(scenario, 3).trace_hash
    assert said(results[0])


def test_a_surge_frees_the_clocks_at_once(read):
    scenario = read(**{"crowds.0.arrivals.over_time": [{"kind": "surge", "at": 900, "lasts": 200, "factor": 15}]})
    happenings = simulation.run(scenario, 1).happenings
    freed = [at for at, text in happenings if "given up at once" in text]
    assert freed
    assert 900 < freed[0] < 960


def test_objectives_of_its_own_go_before_those_of_the_scenario(read):
    strict = read(**{"policies.power_caps.slo_ttft": 0.2})
    assert not said(simulation.run(strict, 1))


def test_work_that_can_wait_is_not_guarded(read):
    waiting = DAY.replace("    output_tokens:", "    deferrable: {within: 1 h}\n    output_tokens:")
    assert not said(simulation.run(read(waiting), 1))  # nobody's times matter: nothing to judge by


def test_an_older_plan_is_refused(read):
    world = Assembly(read(), 1)
    world.kernel.run(100.0)
    with pytest.raises(Conflict, match="too late"):
        world.power_caps.execute(100.0, power_caps.FIRST)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "fluid"}, "level: requests"),
        ({"slo.ttft": None, "slo.tpot": None}, "nothing to guard"),
        ({"policies.power_caps.floor": 0}, "more than 0"),
    ],
)
def test_what_cannot_be_guarded_is_said(read, settings, message):
    with pytest.raises(ScenarioError) as caught:
        read(**settings)
    assert message in str(caught.value)


def replica(curve) -> Modelled:
    found = profile("h100-sxm", "llama-3.1-70b", "tp4", "bf16")
    made = Modelled("r", "chat", PagedRules(10_000), found.coefficients, curve)
    made.begin()
    return made


def test_a_cap_slows_only_what_is_over_it_and_stays_when_the_engine_is_started_again():
    curve = power.find("h100-sxm", "llama-3.1-70b", 4, "bf16")
    made = replica(curve)
    usual = made.engine.times
    assert made.set_cap(0.0, 0.7 * curve.limit_w)
    assert not made.set_cap(0.0, 0.7 * curve.limit_w)
    assert made.engine.times.decode_step_s(8, 8000) == pytest.approx(usual.decode_step_s(8, 8000))
    assert made.engine.times.prefill_s(2048) == pytest.approx(1.3 * usual.prefill_s(2048), rel=0.01)
    made.end()
    made.begin()
    assert made.engine.times.prefill_s(2048) == pytest.approx(1.3 * usual.prefill_s(2048), rel=0.01)
    made.set_cap(0.0, float("inf"))
    assert made.engine.times == usual


def test_without_a_known_power_there_is_no_cap():
    made = replica(None)
    assert not made.set_cap(0.0, 100.0)
