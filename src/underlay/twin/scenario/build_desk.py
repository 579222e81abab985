"""The settings of a region's desk, as ``control.desk`` takes them."""

from __future__ import annotations

from underlay.documents import accounts, desk
from underlay.domain.money import Price
from underlay.domain.policy import DeskSettings, ModelPolicy
from underlay.twin.scenario.document import Scenario


def desk_settings(scenario: Scenario, seed: int | None = None) -> DeskSettings:
    """What every region's desk goes by.

    ``seed`` (none: the scenario's) loads its dice, unless the policies have a seed of their own.
    """
    policies = scenario.policies
    if "seed" not in policies.model_fields_set:
        policies = policies.model_copy(update={"seed": scenario.seed if seed is None else seed})
    models = [
        ModelPolicy(model.name, model.context_tokens, Price(**model.price.model_dump()))
        for model in scenario.models
    ]
    return desk.desk_settings(policies, models, accounts.accounts(policies.accounts), policies.limits)
