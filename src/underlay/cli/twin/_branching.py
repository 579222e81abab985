"""Variants that part in the middle of a run: one past, several policies from there on."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from underlay.twin.experiment import Variant
    from underlay.twin.records import RunResult
    from underlay.twin.simulation import Simulation
    from underlay.twin.trials import Progress, Stop

Settings = tuple[tuple[str, Any], ...]

#: Policies that lie above a desk, which no desk can be told to change.
_ABOVE = (
    "region_choice",
    "region_rtt_max",
    "deferral",
    "deferral_margin_s",
    "deferral_moves",
    "carbon_usd_per_tonne",
    "power_caps",
)


def may_change(setting: str) -> bool:
    """Whether desks can be told that it is otherwise from now on."""
    section, _, name = setting.partition(".")
    return section == "policies" and name.split(".")[0] not in _ABOVE


def branched(
    variant: Variant,
    seed: int,
    progress: Progress,
    stop: Stop,
    *,
    check: bool,
    file: str,
    shared: Settings,
    from_s: float,
) -> RunResult:
    """One run of a variant, from the state of the scenario at ``from_s``; other processes call it by name."""
    from underlay.twin.scenario import read
    from underlay.twin.scenario.build_desk import desk_settings

    simulation = _until(file, shared, seed, from_s, check).snapshot()
    simulation.change_settings(desk_settings(read(variant.file, dict(variant.changes)), seed))
    simulation.go(progress, stop)
    result = simulation.result()
    result.variant = variant.name
    return result


@lru_cache(maxsize=1)
def _until(file: str, shared: Settings, seed: int, from_s: float, check: bool) -> Simulation:
    """The scenario without any variant at that time: the past that all variants have."""
    from underlay.twin.scenario import read
    from underlay.twin.simulation import simulation_of

    simulation = simulation_of(read(file, dict(shared)), seed, check=check)
    simulation.run_to(from_s)
    return simulation
