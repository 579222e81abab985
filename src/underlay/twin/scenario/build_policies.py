"""What policies above one region's desk are made of, as ``twin.power_caps`` takes it."""

from __future__ import annotations

from underlay.control.power_caps import Goals
from underlay.twin.scenario.document import Scenario


def cap_goals(scenario: Scenario) -> Goals:
    """What power caps have to keep: what the policy says, else what the scenario promises its callers."""
    section, promised = scenario.policies.power_caps, scenario.slo
    return Goals(section.slo_ttft or promised.ttft, section.slo_tpot or promised.tpot, section.floor)
