"""Budgets in joules in a scenario: what requests drew counts, as live; where nobody follows requests, it says so."""

import pytest

from underlay.control.budgets import Purse
from underlay.domain.joules import MICRO_PER_JOULE
from underlay.twin import scenario as scenarios
from underlay.twin import simulation
from underlay.twin.records import OUTCOMES
from underlay.twin.scenario import ScenarioError

BOUND_J = 8_000.0
SCENARIO = """
name: bounded
duration: 60 s
world: {regions: [{name: west, like: azure/eastus}]}
models: [{name: chat, model: llama-3.1-8b, replicas: 1}]
policies: {accounts: [{tenant: school, budgets: [{joules: 8kJ, per: total}]}]}
crowds:
  - arrivals: {rate_per_s: 5}
    prompt_tokens: {mean: 500, cv: 1, high: 4000}
    output_tokens: {mean: 200, cv: 1, high: 1500}
    tenants: [{name: school}, {name: office}]
"""


@pytest.fixture
def read(tmp_path):
    def reading(more):
        path = tmp_path / "s.yaml"
        path.write_text(SCENARIO + more)
        return scenarios.read(path)

    return reading


def test_who_has_used_its_joules_is_refused_and_others_are_not(read):
    ran = simulation.simulation_of(read("report: {ledger: requests}"), 1)
    ran.go(simulation.nobody_watches, simulation.never)
    desk = ran.world.platforms["west"].desk
    desk.check()
    purse: Purse = desk.accounts._purses["tenant", "school"][0]
    # What requests may take is reserved by a guess, so the last of it may be left.
    assert 0.7 * BOUND_J < purse.spent_microjoules / MICRO_PER_JOULE < 1.1 * BOUND_J
    requests = ran.result().requests
    refused = requests.column("tenant")[requests.column("outcome") == OUTCOMES.index("refused")]
    assert set(refused.tolist()) == {requests.places("tenant")["school"]}
    assert len(refused) > 20


def test_where_nobody_follows_requests_it_says_what_to_do(read):
    with pytest.raises(ScenarioError) as wrong:
        read("")
    assert "policies.accounts.0.budgets.0.joules: nobody knows what each request takes" in str(wrong.value)
    assert "say report.ledger: requests, or leave joules out" in str(wrong.value)
