"""Does everything that the world names exist, and can it stand as it is drawn?"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from underlay.documents.findings import Mistake, Steps, unknown
from underlay.physics import catalogue, round_trips
from underlay.twin.kernel import Kernel
from underlay.twin.scenario import build_faults
from underlay.twin.scenario.build_models import replicas
from underlay.twin.scenario.build_world import fabric, topology
from underlay.twin.scenario.document import Scenario
from underlay.twin.scenario.world import RegionSection
from underlay.twin.world.fabric import Fabric
from underlay.twin.world.faults import KINDS, check
from underlay.twin.world.links import Links
from underlay.twin.world.mistake import ScenarioMistake


def world_mistakes(scenario: Scenario) -> Iterator[Mistake]:
    """What is wrong with places and what stands in them, and with faults that name places."""
    found = [*_servers(scenario), *_regions(scenario)]
    yield from found
    if found:
        return
    try:
        places = topology(scenario)
    except ScenarioMistake as mistake:
        yield _written(mistake)
        return
    yield from _faults(scenario, fabric(scenario, places, Links(Kernel(0))))


#: What is called otherwise where it is used.
_CALLED = {
    "cap_w": "power_cap",
    "place": "like",
    "for_s": "lasts",
    "added_s": "added",
    "crash_after_s": "crash_after",
}


def _written(mistake: ScenarioMistake) -> Mistake:
    """A mistake by the names that scenarios have for things."""
    return Mistake(tuple(_CALLED.get(str(step), step) for step in mistake.steps), mistake.message)


def _servers(scenario: Scenario) -> Iterator[Mistake]:
    seen: set[str] = set()
    for place, kind in enumerate(scenario.world.servers):
        at: Steps = ("world", "servers", place)
        if kind.accelerator not in catalogue.accelerators():
            yield Mistake((*at, "accelerator"), unknown("accelerator", kind.accelerator, catalogue.accelerators()))
        if kind.name in seen:
            yield Mistake((*at, "name"), f"another kind of server is called '{kind.name}' already")
        seen.add(kind.name)


def _regions(scenario: Scenario) -> Iterator[Mistake]:
    names = [region.name for region in scenario.world.regions]
    for place, region in enumerate(scenario.world.regions):
        at: Steps = ("world", "regions", place)
        if names.index(region.name) != place:
            yield Mistake((*at, "name"), f"another region is called '{region.name}' already")
        if region.like is not None and region.like not in round_trips.positions():
            yield Mistake((*at, "like"), unknown("region", region.like, round_trips.positions()))
        if region.sites and region.servers is not None:
            yield Mistake((*at, "servers"), "say servers or sites, not both")
        yield from _kinds(scenario, region, at)
    yield from _ways(scenario, names)


def _ways(scenario: Scenario, names: list[str]) -> Iterator[Mistake]:
    """Between which regions it is not known how long the way is."""
    told = scenario.world.links.round_trips
    for origin, goals in told.items():
        for name in (origin, *goals):
            if name not in names:
                yield Mistake(("world", "links", "round_trips", origin), unknown("region", name, names))
    known = {frozenset((origin, goal)) for origin, goals in told.items() for goal in goals}
    for place, region in enumerate(scenario.world.regions):
        others = [other for other in scenario.world.regions[:place] if region.like is None or other.like is None]
        lacking = [other.name for other in others if frozenset((region.name, other.name)) not in known]
        if lacking:
            said = (
                f"how far is it from {region.name} to {' and '.join(lacking)}? Say where they lie (like:), or write"
            )
            yield Mistake(("world", "regions", place), f"{said} links.round_trips")


def _kinds(scenario: Scenario, region: RegionSection, at: Steps) -> Iterator[Mistake]:
    """Kinds of servers that a region names."""
    kinds = [kind.name for kind in scenario.world.servers]
    named: list[tuple[Steps, str | None]] = [((*at, "server"), region.server)]
    for number, site in enumerate(region.sites):
        inside: Steps = (*at, "sites", number)
        named.append(((*inside, "server"), site.server))
        named += [((*inside, "halls", i, "server"), hall.server) for i, hall in enumerate(site.halls)]
    for steps, name in named:
        if name is not None and name not in kinds:
            yield Mistake(steps, unknown("kind of server", name, kinds))


def _faults(scenario: Scenario, links: Fabric) -> Iterator[Mistake]:
    for number, fault in enumerate(build_faults.faults(scenario)):
        at: Steps = ("faults", number)
        if fault.at >= scenario.duration:
            yield Mistake((*at, "at"), f"the run is over at {scenario.duration:g} s")
        try:
            check(fault, links)
        except ScenarioMistake as mistake:
            yield _written(mistake)
        if KINDS[fault.kind].where == "replicas" and fault.where not in links.topology.nodes:
            names = [replica.name for replica in replicas(scenario)]
            if not fnmatch.filter(names, fault.where):
                said = unknown("place or replica", fault.where, [*links.topology.nodes, *names])
                yield Mistake((*at, "where"), said)
