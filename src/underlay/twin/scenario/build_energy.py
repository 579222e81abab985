"""What servers draw and what their sites are fed by, as ``world.facility`` takes it."""

from __future__ import annotations

from collections.abc import Iterator

from underlay.domain.errors import BadRequest
from underlay.physics import catalogue, host_power, power, profiles
from underlay.physics.climate import Clock
from underlay.physics.host_power import HostPower
from underlay.physics.power import PowerCurve
from underlay.physics.step_power import StepPower
from underlay.twin.scenario.document import Scenario
from underlay.twin.scenario.needs import accelerator_in, accelerators_of
from underlay.twin.scenario.world import ServerType
from underlay.twin.world.servers import Equipment
from underlay.twin.world.site_supply import SiteSupply, supply
from underlay.twin.world.topology import Node, Topology


def equipment(scenario: Scenario, places: Topology) -> list[Equipment]:
    """What is in each server, in the topology's order; accelerators whose power nobody published draw nothing."""
    kinds = {(kind.accelerator, kind.accelerators): equipment_of(scenario, kind) for kind in scenario.world.servers}
    return [kinds[server.accelerator, server.accelerators] for server in places.servers]


def unknown_power(scenario: Scenario) -> Iterator[str]:
    """What to tell the reader of accelerators that nobody published the power of."""
    for kind in scenario.world.servers:
        try:
            power.rated_power_w(catalogue.accelerator(kind.accelerator))
        except BadRequest as error:
            yield f"Energy of {kind.accelerator} is not accounted: {error.message}"


def supplies(scenario: Scenario, places: Topology, equipped: list[Equipment]) -> dict[str, SiteSupply]:
    """What every site is fed and cooled by, by its path."""
    found: dict[str, SiteSupply] = {}
    for node, section in zip(places.regions, scenario.world.regions, strict=True):
        for site in node.children:
            found[site.path] = supply(
                section.like or "",
                _peak_w(site, equipped),
                Clock(scenario.world.day_of_year, scenario.world.start_utc_h),
                pue=section.pue,
                carbon_g_kwh=section.carbon_g_per_kwh,
                usd_kwh=section.usd_per_kwh,
                ups=scenario.world.ups,
            )
    return found


def _peak_w(site: Node, equipped: list[Equipment]) -> float:
    return sum(equipped[server].peak_w for server in site.servers)


def equipment_of(scenario: Scenario, kind: ServerType) -> Equipment:
    """What is in one server of a kind; an accelerator whose power nobody published draws nothing.

    Idle power is as it was metered with a profile of a model that runs there, if it was.
    """
    on = catalogue.accelerator(kind.accelerator)
    try:
        rated_w, idle_w = power.rated_power_w(on), power.idle_power_w(on)[0]
    except BadRequest:
        rated_w = idle_w = 0.0
    metered_w = _metered_idle_w(scenario, kind.accelerator)
    idle_w = idle_w if metered_w is None else metered_w
    rated_w = max(rated_w, idle_w)
    return Equipment(kind.accelerators, idle_w, rated_w, _host(scenario, kind))


def curve(metered: StepPower, accelerator: str, accelerators: int) -> PowerCurve:
    """What a replica draws by its profile, with the published idle power where the meters did not see it."""
    try:
        idle_w = power.idle_power_w(catalogue.accelerator(accelerator))[0] * accelerators
    except BadRequest:
        return metered.curve(accelerators, None)
    return metered.curve(accelerators, idle_w)


def _metered_idle_w(scenario: Scenario, accelerator: str) -> float | None:
    """Idle watts of one accelerator, by the first profile that says so of a model that runs on it."""
    for model in scenario.models:
        kinds = {accelerator_in(model, region, scenario.world) for region in scenario.world.regions}
        if model.profile is None or accelerator not in kinds:
            continue
        try:
            metered = profiles.read(model.profile).power
        except BadRequest:  # told where models are checked
            continue
        if metered is not None and metered.idle_w is not None:
            return metered.idle_w / accelerators_of(model)
    return None


def _host(scenario: Scenario, kind: ServerType) -> HostPower:
    if kind.host_power_w is not None:
        return host_power.stated(kind.host_power_w)
    return host_power.host(cooling=scenario.world.cooling)
