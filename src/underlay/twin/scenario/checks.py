"""What is wrong between parts of a scenario that are each valid: every check yields the way to its mistake."""

from __future__ import annotations

from collections.abc import Iterator

from underlay.documents import accounts
from underlay.documents.findings import Mistake, unknown
from underlay.twin.scenario.check_crowds import crowd_mistakes
from underlay.twin.scenario.check_models import model_mistakes
from underlay.twin.scenario.check_world import world_mistakes
from underlay.twin.scenario.document import Scenario


def mistakes(scenario: Scenario) -> Iterator[Mistake]:
    """All of them."""
    wrong = [*world_mistakes(scenario)]
    yield from wrong
    yield from model_mistakes(scenario)
    yield from crowd_mistakes(scenario, world_stands=not wrong)
    yield from _policies(scenario)
    yield from _sweep(scenario)


def _policies(scenario: Scenario) -> Iterator[Mistake]:
    bands = [band.name for band in scenario.policies.bands]
    models = [model.name for model in scenario.models]
    for steps, message in accounts.mistakes(scenario.policies.accounts, models, bands):
        yield Mistake(("policies", "accounts", *steps), message)


def _sweep(scenario: Scenario) -> Iterator[Mistake]:
    for setting in scenario.sweep:
        if setting.split(".")[0] not in set(Scenario.model_fields) - {"sweep", "name"}:
            yield Mistake(("sweep", setting), unknown("section", setting.split(".")[0], Scenario.model_fields))
