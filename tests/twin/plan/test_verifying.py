from dataclasses import replace

import pytest
from tests.twin.plan.builders import demand, nobody_watches, question

from underlay.twin import scenario
from underlay.twin.plan import scene, verifying
from underlay.twin.plan.planner import plan
from underlay.twin.plan.question import Candidate, Client

MADE = plan(
    question(
        (Candidate("azure/westeurope", 0.1, 300.0, 1.15), "azure/northeurope"),
        clients=(Client("azure/westeurope", 2), Client("azure/uksouth", 1)),
        survives_region=True,
        demand=demand(20.0, 40.0, cv=2.0),
    ),
    nobody_watches,
)


def test_a_plan_is_a_scenario_that_anybody_can_run(tmp_path):
    file = tmp_path / "plan.yaml"
    file.write_text(scene.text(MADE))
    read = scenario.read(file)
    assert sum(sum(model.replicas.values()) for model in read.models) == MADE.total.replicas
    assert sum(crowd.arrivals.rate_per_s for crowd in read.crowds) == pytest.approx(40.0)
    assert {region.like for region in read.world.regions} == {
        "azure/westeurope",
        "azure/northeurope",
        "azure/uksouth",
    }
    assert read.world.regions[0].pue == 1.15
    assert all(crowd.arrivals.process.cv < 2.0 for crowd in read.crowds)  # a part bursts less than the whole


def test_the_twin_sees_what_the_plan_says(monkeypatch):
    monkeypatch.setattr(scene, "_SPAN_S", (60.0, 60.0))
    told = []
    found = verifying.verify(MADE, lambda *so_far: told.append(so_far), lambda: False)
    assert found.kept
    assert not found.partial
    assert told
    assert found.requests == pytest.approx(40.0 * 60, rel=0.15)
    named = {(each.pool, each.name): each for each in found.compared}
    assert abs(named["", "it_w"].off) < 0.05
    assert abs(named["", "peak_w"].off) < 0.15
    assert abs(named["", "accelerators_usd_per_hour"].off) < 1e-6
    for pool in MADE.pools:
        name = scene.pool_name(MADE, pool)
        assert abs(named[name, "tpot_p50"].off) < 0.15
        assert named[name, "ttft_p99"].off > -0.3  # a desk that balances does better than one replica by itself


def test_a_run_that_is_stopped_says_so(monkeypatch):
    monkeypatch.setattr(scene, "_SPAN_S", (60.0, 60.0))
    found = verifying.verify(MADE, lambda *_: None, lambda: True)
    assert found.partial


def test_without_clients_callers_are_near_who_serves_them():
    made = plan(question(), nobody_watches)
    tree = scene.tree(made)
    assert [crowd["region"] for crowd in tree["crowds"]] == ["azure-westus2"]
    assert tree["crowds"][0]["arrivals"]["process"] == "poisson"
    assert scene.scenario_of(replace(made)).models[0].replicas == {"azure-westus2": made.total.replicas}
