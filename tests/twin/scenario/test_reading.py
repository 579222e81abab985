"""Scenarios are found, read wholly or not at all, changed and varied."""

import copy
import pickle

import pytest

from underlay.twin import scenario as scenarios
from underlay.twin.scenario import ScenarioError, Variant, grid, read, schema, shipped, variants, with_settings


def test_a_few_lines_are_a_whole_scenario(scenario):
    made = scenario()
    assert (made.name, made.duration, made.level) == ("s", 600.0, "requests")
    assert [region.name for region in made.world.regions] == ["home"]
    assert made.models[0].replicas == {"each": 1}
    assert made.slo.ttft == 2.0


def test_every_mistake_comes_at_once_with_its_line(written):
    with pytest.raises(ScenarioError) as caught:
        read(written("duration: 10 minutes\nsede: 3\nmodels:\n  - {replicas: many}\n  - {model: x}\n"))
    assert caught.value.render() == (
        "s.yaml:1:11: duration: expected a length of time such as 500 ms, 90 s, 10 min or 24 h,"
        " not the text '10 minutes'\n    duration: 10 minutes\n              ^^^^^^^^^^\n"
        "s.yaml:2:1: sede: unknown key; did you mean 'seed'?\n    sede: 3\n    ^^^^\n"
        "s.yaml:4:16: models.0.replicas: expected a whole number or {region: number}, not the text 'many'\n"
        "      - {replicas: many}\n                   ^^^^"
    )


def test_mistakes_between_sections_are_found_once_each_section_is_right(refused):
    assert refused(
        """\
        world: {regions: [{name: west, servers: 1}]}
        models: [{model: llama-3.1-8b, replicas: {wst: 2}}, {name: b, model: llama-3.1-9b}]
        policies: {accounts: [{tenant: a, band: best}]}
        """
    ) == [
        ("s.yaml:2:48", "models.0.replicas.wst", "no region is called 'wst'; did you mean 'west'?"),
        ("s.yaml:2:70", "models.1.model", "no model is called 'llama-3.1-9b'; did you mean 'llama-3.1-8b'?"),
        (
            "s.yaml:3:41",
            "policies.accounts.0.band",
            "no band is called 'best'; there is: priority, standard, batch",
        ),
    ]


def test_scenarios_are_found_by_name_or_path(tmp_path):
    assert read("one-site").name == "one-site"
    with pytest.raises(ScenarioError, match="no scenario is called 'one-sit'; did you mean 'one-site'"):
        read("one-sit")
    with pytest.raises(ScenarioError, match="cannot be read: No such file"):
        read(tmp_path / "none.yaml")


def test_settings_are_changed_by_dotted_name_and_checked_again(scenario):
    made = scenario("models: [{name: chat}, {name: code, model: qwen3-8b}]\n")
    changed = with_settings(
        made, {"policies.routing": "random", "models.code.replicas": "3", "models.0.replicas": 2, "duration": "1 h"}
    )
    assert changed.policies.routing == "random"
    assert [model.replicas["each"] for model in changed.models] == [2, 3]
    assert changed.duration == 3600.0
    assert made.policies.routing == "sticky"
    with pytest.raises(ScenarioError) as caught:
        with_settings(changed, {"models.code.model": "qwen3-9b"})
    assert caught.value.render() == (
        "models.code.model=qwen3-9b: models.1.model: no model is called 'qwen3-9b'; did you mean 'qwen3-8b'?"
    )
    with pytest.raises(ScenarioError, match="unknown key; did you mean 'policies'"):
        with_settings(made, {"policy.routing": "random"})


def test_a_scenario_made_in_code_can_be_changed_too():
    made = scenarios.Scenario(crowds=[{"arrivals": {"rate_per_s": 2.0}, "output_tokens": 5, "prompt_tokens": 9}])
    assert with_settings(made, {"crowds.0.arrivals.rate_per_s": 3}).crowds[0].arrivals.rate_per_s == 3


def test_a_scenario_goes_to_other_processes_and_comes_back(scenario):
    made = scenario()
    again = pickle.loads(pickle.dumps(made))
    assert again.model_dump() == made.model_dump() == copy.deepcopy(made).model_dump()
    assert with_settings(again, {"seed": 5}).seed == 5


def test_a_sweep_is_every_combination(scenario):
    made = scenario("sweep: {policies.routing: [sticky, random], models.chat.replicas: [1, 2]}\n")
    assert [variant.name for variant in variants(made)] == [
        "policies.routing=sticky, models.chat.replicas=1",
        "policies.routing=sticky, models.chat.replicas=2",
        "policies.routing=random, models.chat.replicas=1",
        "policies.routing=random, models.chat.replicas=2",
    ]
    assert variants(scenario()) == [Variant("", {})]
    assert grid({"a": [True]}) == [Variant("a=true", {"a": True})]


def test_every_value_of_a_sweep_is_tried_when_it_is_read(refused):
    assert refused("sweep: {polices.x: [1]}\n") == [
        ("s.yaml:1:20", "sweep.polices.x", "no section is called 'polices'; did you mean 'policies'?")
    ]
    found = refused("sweep:\n  policies.routing: [sticky, rando]\n  models.0.parallelism: [tp3]\n")
    assert [(where, setting) for where, setting, _ in found] == [
        ("s.yaml:2:30", "sweep.policies.routing.1"),
        ("s.yaml:3:26", "sweep.models.0.parallelism.0"),
    ]
    assert found[1][2] == "32 heads of llama-3.1-8b cannot be split by 3"


@pytest.mark.parametrize("name", shipped())
def test_what_comes_along_can_be_read(name):
    made = read(name)
    assert made.name == name
    assert made.about


def test_the_schema_forbids_what_the_reader_forbids():
    found = schema()
    assert found["additionalProperties"] is False
    assert found["required"] == ["crowds"]
