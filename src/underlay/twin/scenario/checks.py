"""What is wrong between parts of a scenario that are each valid: every check yields the way to its mistake."""

from __future__ import annotations

from collections.abc import Iterator

from underlay.documents import accounts
from underlay.documents.findings import Mistake, unknown
from underlay.twin.scenario.build_policies import cap_goals
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
    if scenario.report.ledger == "requests" and scenario.level == "fluid":
        message = "flows have no requests to follow: say level: requests, or ledger: sites"
        yield Mistake(("report", "ledger"), message)
    yield from _sweep(scenario)


def _policies(scenario: Scenario) -> Iterator[Mistake]:
    bands = [band.name for band in scenario.policies.bands]
    if scenario.policies.deferral != "none" and scenario.level == "fluid":
        message = "flows hold nobody back: say level: requests, or leave deferral out"
        yield Mistake(("policies", "deferral"), message)
    yield from _power_caps(scenario)
    models = [model.name for model in scenario.models]
    for steps, message in accounts.mistakes(scenario.policies.accounts, models, bands):
        yield Mistake(("policies", "accounts", *steps), message)
    if scenario.report.ledger != "requests":
        yield from _joule_budgets(scenario)


def _joule_budgets(scenario: Scenario) -> Iterator[Mistake]:
    for number, account in enumerate(scenario.policies.accounts):
        for place, budget in enumerate(account.budgets):
            if budget.joules is not None:
                message = "nobody knows what each request takes: say report.ledger: requests, or leave joules out"
                yield Mistake(("policies", "accounts", number, "budgets", place, "joules"), message)


def _power_caps(scenario: Scenario) -> Iterator[Mistake]:
    section = scenario.policies.power_caps
    if section.mode == "none":
        return
    if scenario.level == "fluid":
        message = "flows have no times to guard: say level: requests, or leave power_caps out"
        yield Mistake(("policies", "power_caps", "mode"), message)
    elif cap_goals(scenario)[:2] == (None, None):
        message = "nothing to guard: say slo_ttft or slo_tpot, or give the scenario an slo"
        yield Mistake(("policies", "power_caps"), message)


def _sweep(scenario: Scenario) -> Iterator[Mistake]:
    for setting in scenario.sweep:
        if setting.split(".")[0] not in set(Scenario.model_fields) - {"sweep", "name"}:
            yield Mistake(("sweep", setting), unknown("section", setting.split(".")[0], Scenario.model_fields))
