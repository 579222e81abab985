"""What befalls the world, as ``world.faults`` takes it."""

from __future__ import annotations

from math import inf

from underlay.twin.scenario.document import Scenario
from underlay.twin.scenario.faults import FaultSection
from underlay.twin.world.faults import Fault

#: What is no setting of a kind but of every fault.
_COMMON = frozenset({"kind", "at", "lasts", "where"})
#: Settings that are times have their unit in their name there.
_CALLED = {"added": "added_s", "crash_after": "crash_after_s"}


def faults(scenario: Scenario) -> list[Fault]:
    """All of them, in the order they are written in."""
    return [fault(section, ("faults", place)) for place, section in enumerate(scenario.faults)]


def fault(section: FaultSection, steps: tuple[str | int, ...]) -> Fault:
    """One of them; ``steps`` lead to it."""
    told = {name: getattr(section, name) for name in type(section).model_fields if name not in _COMMON}
    settings = {_CALLED.get(name, name): value for name, value in told.items() if value is not None}
    lasts = inf if section.lasts is None else section.lasts
    return Fault(section.kind, section.at, section.where, lasts, settings, steps)
