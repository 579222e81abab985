"""Who asks, from where, and with what standing?"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import inf
from typing import NamedTuple

import numpy as np

from .links import shared_prefix
from .section import Section, demand


class Tenant(Section, frozen=True):
    """One that calls as often as its share of all weights says; a greedy one weighs more than all others.

    ``count`` makes it that many, numbered from 1, among whom the weight is shared: evenly, or, with ``skew``, like
    1 / number ** skew (Zipf). ``prefix_tokens`` is a system prompt that all calls of a tenant begin with, on top of
    their own. ``deadline_s`` is how long its callers wait for a first token; ``model`` overrules the crowd's.
    """

    name: str
    weight: float = 1.0
    count: int = 1
    skew: float = 0.0
    band: str = ""
    model: str = ""
    prefix_tokens: int = 0
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        demand(0 < self.weight < inf, "weight must be above 0.")
        demand(self.count >= 1, "count must be at least 1.")
        demand(self.skew >= 0, "skew must not be below 0.")
        demand(self.prefix_tokens >= 0, "prefix_tokens must not be below 0.")
        demand(self.deadline_s is None or self.deadline_s > 0, "deadline_s must be above 0.")


class Region(Section, frozen=True):
    """Where callers are: a region of the world, its share of all calls, and how far its clocks are before UTC."""

    name: str
    weight: float = 1.0
    utc_offset_h: float = 0.0

    def __post_init__(self) -> None:
        demand(0 < self.weight < inf, "weight must be above 0.")
        demand(-12 <= self.utc_offset_h <= 14, "utc_offset_h lies between -12 and 14.")


class Caller(NamedTuple):
    """A tenant as calls need it."""

    tenant: str = ""
    band: str = ""
    model: str = ""
    prefix_tokens: int = 0
    links: tuple[int, ...] = ()
    deadline_s: float | None = None


class Mix:
    """Tenants to draw from; nobody in particular if there are none."""

    __slots__ = ("_bounds", "callers")

    def __init__(self, tenants: Sequence[Tenant], model: str, link_tokens: int) -> None:
        each = [(tenant, name, weight) for tenant in tenants for name, weight in _members(tenant)]
        self.callers = [
            Caller(
                name,
                tenant.band,
                tenant.model or model,
                tenant.prefix_tokens,
                shared_prefix(name, tenant.prefix_tokens, link_tokens),
                tenant.deadline_s,
            )
            for tenant, name, _ in each
        ] or [Caller(model=model)]
        self._bounds = bounds([weight for _, _, weight in each] or [1.0])

    def draw(self, count: int, dice: np.random.Generator) -> list[Caller]:
        """So many callers, by weight."""
        callers = self.callers
        if len(callers) == 1:
            return callers * count
        places = np.searchsorted(self._bounds[:-1], dice.random(count), side="right")
        return [callers[place] for place in places.tolist()]

    def at(self, lot: float) -> Caller:
        """The caller that a lot between 0 and 1 falls on."""
        return self.callers[bisect_right(self._bounds, lot, hi=len(self._bounds) - 1)]


def bands(tenants: Sequence[Tenant]) -> dict[str, str]:
    """Every tenant's name and band; nobody in particular has none."""
    return {name: tenant.band for tenant in tenants for name, _ in _members(tenant)} or {"": ""}


def shares(regions: Sequence[Region]) -> list[float]:
    """What part of all calls each region has."""
    total = sum(region.weight for region in regions)
    return [region.weight / total for region in regions]


def bounds(weights: Sequence[float]) -> list[float]:
    """Up to which lot between 0 and 1 each of these is drawn; all from the last but one up are the last's."""
    total = sum(weights)
    return [so_far / total for so_far in accumulate(weights)]


def distinct(tenants: Sequence[Tenant]) -> None:
    """Raise ``ValueError`` if two tenants have the same name."""
    names = [name for tenant in tenants for name, _ in _members(tenant)]
    demand(len(set(names)) == len(names), "two tenants have the same name.")


def _members(tenant: Tenant) -> list[tuple[str, float]]:
    """Names and weights of those whom an entry stands for."""
    if tenant.count == 1:
        return [(tenant.name, tenant.weight)]
    parts = [number**-tenant.skew for number in range(1, tenant.count + 1)]
    scale = tenant.weight / sum(parts)
    return [(f"{tenant.name}-{number}", part * scale) for number, part in enumerate(parts, start=1)]
