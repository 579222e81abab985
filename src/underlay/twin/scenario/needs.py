"""How many accelerators does a scenario ask for in each region, and how many servers hold them?

Sizes only: which replica stands on which server is ``world.placement``'s to say. It finds room for all of this if
the largest replicas are placed first, as every server of a kind has as many accelerators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from underlay.domain.errors import BadRequest
from underlay.physics.catalogue import Parallelism
from underlay.twin.scenario.served import EACH, ModelSection
from underlay.twin.scenario.world import RegionSection, ServerType, WorldSection

#: The racks of a region that only says how many servers it has.
SERVERS_PER_RACK = 4


def replicas_in(model: ModelSection, region: str) -> int:
    """How many replicas of a model stand in a region."""
    return model.replicas.get(region, model.replicas.get(EACH, 0))


def accelerators_of(model: ModelSection) -> int:
    """How many accelerators one replica takes; 1 for a parallelism that does not exist, which is told elsewhere."""
    try:
        split = Parallelism.parse(model.parallelism)
    except BadRequest:
        return 1
    return max(split.tensor, split.expert)


def server_type(world: WorldSection, name: str | None) -> ServerType:
    """The kind of server with a name; the first without one, or if there is none so called."""
    return next((kind for kind in world.servers if kind.name == name), world.servers[0])


def accelerator_in(model: ModelSection, region: RegionSection, world: WorldSection) -> str:
    """What a model's replicas run on in a region: what it asks for, else what stands there."""
    if model.accelerator is not None:
        return model.accelerator
    site = region.sites[0] if region.sites else None
    named = (site.halls[0].server or site.server) if site is not None else region.server
    return server_type(world, named).accelerator


def asked(models: tuple[ModelSection, ...], region: RegionSection, world: WorldSection) -> dict[str, Counter[int]]:
    """For each accelerator: how many replicas of which size stand in a region."""
    sizes: dict[str, Counter[int]] = {}
    for model in models:
        count = replicas_in(model, region.name)
        if count:
            kind = accelerator_in(model, region, world)
            sizes.setdefault(kind, Counter())[accelerators_of(model)] += count
    return sizes


def servers_for(sizes: Mapping[int, int], accelerators: int) -> int:
    """How many servers with so many accelerators hold replicas of these sizes, the largest first."""
    free: Counter[int] = Counter()
    servers = 0
    for size in sorted(sizes, reverse=True):
        left = sizes[size]
        for room in sorted(free):
            while left and room >= size and free[room]:
                each = room // size
                used = min(free[room], -(-left // each))
                full = min(used, left // each)
                free[room] -= used
                free[room - each * size] += full
                if used > full:
                    free[room - (left - full * each) * size] += used - full
                left = max(0, left - used * each)
        if left and size <= accelerators:
            each = accelerators // size
            full, rest = divmod(left, each)
            servers += full + bool(rest)
            free[accelerators - each * size] += full
            if rest:
                free[accelerators - rest * size] += 1
    return servers


def placed(region: RegionSection, world: WorldSection, models: tuple[ModelSection, ...]) -> dict[str, int]:
    """How many servers of each kind stand in a region."""
    servers: dict[str, int] = {}
    if region.sites:
        for site in region.sites:
            for hall in site.halls:
                name = server_type(world, hall.server or site.server).name
                servers[name] = servers.get(name, 0) + site.count * hall.count * hall.racks * hall.servers_per_rack
        return servers
    if region.servers is not None:
        return {server_type(world, region.server).name: region.servers}
    for accelerator, sizes in asked(models, region, world).items():
        named = server_type(world, region.server)
        fitting = [kind for kind in (named, *world.servers) if kind.accelerator == accelerator]
        if fitting:
            kind = fitting[0]
            servers[kind.name] = servers.get(kind.name, 0) + servers_for(sizes, kind.accelerators)
    return servers or {server_type(world, region.server).name: 1}
