"""The parts of the published breakdown of a prompt, from the accounts of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from underlay.twin import scenario as scenarios
from underlay.twin import simulation
from underlay.twin.ledger.breakdown import Breakdown, breakdown, median_prompt

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "bench"))

from fidelity.breakdowns import POINTS, PUBLISHED, PUE_LEAST, PUE_MEAN, prompt  # noqa: E402


@pytest.fixture(scope="module")
def minute():
    """A minute of the scenario that ships, in a region of Google."""
    settings = {"duration": 60.0, "world.regions.east.like": "gcp/us-central1"}
    return simulation.run(scenarios.read("one-site", settings), 0)


def test_the_parts_are_all_that_the_feeder_delivered(minute):
    parts = breakdown(minute.ledger)
    assert parts.total == pytest.approx(sum(minute.ledger.fed_j.values()), rel=1e-9)
    assert min(parts) > 0.0
    assert sum(parts.shares().values()) == pytest.approx(1.0)
    assert breakdown(minute.ledger.without_rows()) == parts


def test_overhead_is_what_pue_says(minute):
    parts, totals = breakdown(minute.ledger), {one.name: one.value for one in minute.accounts if not one.place}
    assert parts.total / (parts.total - parts.overhead) == pytest.approx(
        totals["energy_feeder"] / totals["energy_it"]
    )


def test_the_default_fleet_has_the_structure_that_was_published(minute):
    found = prompt([minute])
    for part in ("accelerators", "host", "overhead"):
        assert abs(found.shares[part] - PUBLISHED[part]) <= POINTS
    assert PUE_LEAST <= found.pue <= PUE_MEAN


def test_the_median_of_everything_is_above_that_of_accelerators(minute):
    narrow_j, whole_j = median_prompt(minute.ledger)
    assert 0.0 < narrow_j < whole_j


def test_nothing_drawn_has_no_shares():
    assert Breakdown(0.0, 0.0, 0.0, 0.0).shares() == {}
