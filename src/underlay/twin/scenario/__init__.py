"""One YAML file says what a run depends on: world, models, crowds, policies, faults, promises."""

from underlay.twin.scenario.document import Scenario
from underlay.twin.scenario.reading import (
    ScenarioError,
    Variant,
    find,
    grid,
    read,
    schema,
    shipped,
    variants,
    with_settings,
)

__all__ = [
    "Scenario",
    "ScenarioError",
    "Variant",
    "find",
    "grid",
    "read",
    "schema",
    "shipped",
    "variants",
    "with_settings",
]
