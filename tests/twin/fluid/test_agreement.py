"""Flows and requests in one small world; larger ones, with faults and days, are compared by the bench."""

import pytest
from tests.twin.fluid.worlds import world

from underlay.twin import simulation
from underlay.twin.summary import summarise


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    scenario = world(tmp_path_factory.mktemp("both"))
    return [
        summarise(simulation.run(scenario.model_copy(update={"level": level}), 1))
        for level in ("requests", "fluid")
    ]


def test_flows_agree_with_requests(both):
    requests, flows = both
    for figure in ("requests", "finished", "throughput", "output_token_rate"):
        assert flows.value(figure) == pytest.approx(requests.value(figure), rel=0.02), figure
    for figure in ("ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99", "e2e_p50", "e2e_p99"):
        assert flows.value(figure) == pytest.approx(requests.value(figure), rel=0.1), figure


def test_flows_draw_the_same_energy(both):
    requests, flows = both
    for figure in (
        "energy_feeder",
        "energy_it",
        "carbon",
        "accelerators_busy",
        "pue",
        "revenue",
        "accelerators_cost",
    ):
        assert flows.value(figure) == pytest.approx(requests.value(figure), rel=0.03), figure


def test_the_same_samples_are_taken(both):
    requests, flows = both
    assert flows.series.values.keys() == requests.series.values.keys()
    assert flows.series.times_s[:6] == requests.series.times_s[:6]
