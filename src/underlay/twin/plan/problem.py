"""A plan as numbers: what is chosen, what bounds it, what is made least; small ones can be counted out by hand.

Watts are linear in what is chosen: a server draws ``base_w``, each replica that is on ``on_w`` more, each request
``joules``. They are watts of IT; a region multiplies them by its ``pue``. Prices are for accelerators by the hour
(whole servers, busy or not) and ``per_kwh`` at the feeder, in whatever is made least.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of replica: the load that it carries, and what it draws beyond its idle server."""

    name: str
    accelerator: str
    accelerators: int
    capacity_per_s: float
    on_w: float
    joules: float

    @property
    def full_w(self) -> float:
        """What it draws at most, beyond its idle server."""
        return self.on_w + self.joules * self.capacity_per_s


@dataclass(frozen=True, slots=True)
class Server:
    """A server full of one accelerator; ``per_hour`` is its price in what is made least."""

    accelerators: int
    base_w: float
    per_hour: float


@dataclass(frozen=True, slots=True)
class Region:
    """A region; ``power_cap_w`` is at the feeder, with all its replicas fully loaded."""

    name: str
    pue: float
    per_kwh: float
    power_cap_w: float = inf
    share_max: float = 1.0
    accelerators_max: float = inf


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be solved. ``rtt_s``, ``reach`` and ``reach_lost`` are by client and region.

    Loads are of all clients together, in requests per second: replicas are there for ``peak_per_s``, and energy is
    that of ``mean_per_s``, which goes where the peak goes. ``survives_region`` asks that without any one region
    the others carry the whole peak; ``one_kind`` forbids unlike replicas in one region, ``allowed`` all
    but these pairs of region and kind (none: no others); ``available`` bounds accelerators over all regions.
    """

    regions: tuple[Region, ...]
    kinds: tuple[Kind, ...]
    servers: Mapping[str, Server]
    peak_per_s: float
    mean_per_s: float
    shares: tuple[float, ...]
    rtt_s: tuple[tuple[float, ...], ...]
    reach: tuple[tuple[bool, ...], ...]
    reach_lost: tuple[tuple[bool, ...], ...]
    available: Mapping[str, int] = field(default_factory=dict)
    regions_min: int = 1
    survives_region: bool = False
    one_kind: bool = False
    allowed: frozenset[tuple[int, int]] = frozenset()

    def loads(self) -> Iterator[tuple[int, float]]:
        """Clients and their peak load."""
        for client, share in enumerate(self.shares):
            yield client, share * self.peak_per_s

    def most(self, region: int, kind: int) -> float:
        """More replicas than that are never needed: they carry the load of all who may ever be served there."""
        if self.allowed and (region, kind) not in self.allowed:
            return 0.0
        asks = sum(load for c, load in self.loads() if self.reach[c][region] or self.reach_lost[c][region])
        return ceil(asks / self.kinds[kind].capacity_per_s) + 1.0

    def kw_per_request(self, region: int, kind: int) -> float:
        """Mean feeder kW for each request per second at the peak."""
        joules = self.kinds[kind].joules * self.mean_per_s / self.peak_per_s
        return joules * self.regions[region].pue * 1e-3


def least_kinds(kinds: Sequence[Kind]) -> tuple[list[Kind], list[tuple[Kind, Kind]]]:
    """Without kinds that are never needed: pairs of such a kind and the one that always takes its place.

    A kind is not needed if whole replicas of another one on as many of the same accelerators carry at least as much
    and draw no more, at every load. That is exact: nothing that could be in a best plan is lost.
    """
    kept: list[Kind] = []
    beaten: list[tuple[Kind, Kind]] = []
    for kind in sorted(kinds, key=lambda each: (each.accelerators, -each.capacity_per_s, each.name)):
        better = next((other for other in kept if _beats(other, kind)), None)
        if better is None:
            kept.append(kind)
        else:
            beaten.append((kind, better))
    return kept, beaten


def _beats(other: Kind, kind: Kind) -> bool:
    if other.accelerator != kind.accelerator or kind.accelerators % other.accelerators:
        return False
    times = kind.accelerators // other.accelerators
    carries = times * other.capacity_per_s >= kind.capacity_per_s
    return carries and times * other.on_w <= kind.on_w and other.joules <= kind.joules
