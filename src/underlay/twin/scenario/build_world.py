"""What stands where, as ``world.topology`` takes it."""

from __future__ import annotations

from underlay.physics.prices import hour_prices
from underlay.twin.scenario.build_energy import equipment_of
from underlay.twin.scenario.document import Scenario
from underlay.twin.scenario.needs import SERVERS_PER_RACK, placed, server_type
from underlay.twin.scenario.world import HallSection, RegionSection, ServerType, SiteSection
from underlay.twin.world.fabric import Fabric, LinkRates
from underlay.twin.world.links import Links
from underlay.twin.world.storage import StartSettings
from underlay.twin.world.topology import Plan, Topology

Steps = tuple[str | int, ...]


def topology(scenario: Scenario) -> Topology:
    """All places of the scenario. Errors: ScenarioMistake, with the way to what is wrong."""
    regions = enumerate(scenario.world.regions)
    return Topology([_region(scenario, region, ("world", "regions", place)) for place, region in regions])


def usd_per_hour(kind: ServerType) -> float | None:
    """What an accelerator of such a server costs in an hour; None if it is neither said nor published."""
    if kind.usd_per_hour is not None:
        return kind.usd_per_hour
    found = hour_prices().get(kind.accelerator)
    return None if found is None else found.usd


def fabric(scenario: Scenario, places: Topology, links: Links) -> Fabric:
    """All links between the places. Errors: ScenarioMistake."""
    told = scenario.world.links
    rates = {name: getattr(told, f"{name}_gb_s") * 1e9 for name in LinkRates.__dataclass_fields__}
    ways = {(origin, goal): s for origin, goals in told.round_trips.items() for goal, s in goals.items()}
    return Fabric(places, links, LinkRates(**rates), ways)


def start_settings(scenario: Scenario) -> StartSettings:
    """How replicas start."""
    told = scenario.world.storage
    usual = StartSettings()
    return StartSettings(
        source=told.source,
        fetch_bytes_s=usual.fetch_bytes_s if told.fetch_gb_s is None else told.fetch_gb_s * 1e9,
        cache_bytes=told.cache_gb * 1e9,
        initialise_s=told.initialise or usual.initialise_s,
    )


def _region(scenario: Scenario, region: RegionSection, steps: Steps) -> Plan:
    if region.sites:
        sites = tuple(_site(scenario, site, (*steps, "sites", place)) for place, site in enumerate(region.sites))
    else:
        sites = (_only_site(scenario, region, steps),)
    return Plan(region.name, parts=sites, cap_w=region.power_cap, place=region.like or "", steps=steps)


def _only_site(scenario: Scenario, region: RegionSection, steps: Steps) -> Plan:
    """The site of a region that only says how many servers it has: a hall for each kind of them."""
    world = scenario.world
    servers = placed(region, world, scenario.models)
    halls = []
    for name, count in servers.items():
        kind = server_type(world, name)
        racks, rest = divmod(count, SERVERS_PER_RACK)
        parts = [_rack(scenario, "r", racks, SERVERS_PER_RACK, kind, None, steps)] if racks else []
        parts += [_rack(scenario, "rest", 1, rest, kind, None, steps)] if rest else []
        halls.append(Plan("hall" if len(servers) == 1 else f"hall-{name}", parts=tuple(parts), steps=steps))
    return Plan("site", parts=tuple(halls), steps=steps)


def _site(scenario: Scenario, site: SiteSection, steps: Steps) -> Plan:
    halls = tuple(
        _hall(scenario, hall, server_type(scenario.world, hall.server or site.server), (*steps, "halls", place))
        for place, hall in enumerate(site.halls)
    )
    return Plan(site.name, site.count, halls, cap_w=site.power_cap, steps=steps)


def _hall(scenario: Scenario, hall: HallSection, kind: ServerType, steps: Steps) -> Plan:
    racks = (_rack(scenario, "r", hall.racks, hall.servers_per_rack, kind, hall.rack_power_cap, steps),)
    return Plan(hall.name, hall.count, racks, cap_w=hall.power_cap, steps=steps)


def _rack(
    scenario: Scenario, name: str, count: int, servers: int, kind: ServerType, cap_w: float | None, steps: Steps
) -> Plan:
    server = Plan(
        "s",
        servers,
        accelerator=kind.accelerator,
        accelerators=kind.accelerators,
        idle_w=_idle_w(scenario, kind),
        steps=steps,
    )
    return Plan(name, count, (server,), cap_w=cap_w, steps=steps)


def _idle_w(scenario: Scenario, kind: ServerType) -> float:
    """What a server draws at its plug with nothing running."""
    inside = equipment_of(scenario, kind)
    return inside.host.idle_w + inside.accelerators * inside.idle_w * inside.host.supplied
