"""What does a watt cost in a region, in money and carbon, and how far are callers from it?

Feeder watts are IT watts times the PUE: published where there is one, else the plant of ``physics.cooling`` over a
year of the assumed climate, behind the power chain of ``physics.power_chain``. Money for electricity is known of
few regions; elsewhere the middle of those is taken, marked assumed, and told. Every figure carries its method and
its source; what is given counts as measured. Refused here: accelerators and loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf
from statistics import median
from typing import NamedTuple

from underlay.physics import grid, round_trips
from underlay.physics.climate import Climate
from underlay.physics.cooling import CoolingPlant
from underlay.physics.grid import RegionEnergy
from underlay.physics.power_chain import chain
from underlay.physics.round_trips import LAST_MILE_S
from underlay.physics.tables import rows
from underlay.twin.plan.question import Candidate, Client, Question

#: At which part of their rating supplies run.
_USUAL_LOAD = 0.7


class Known(NamedTuple):
    """A figure, how it is known, from where, and between which ends it may lie."""

    value: float
    method: str
    source: str
    least: float
    most: float

    @classmethod
    def only(cls, value: float, method: str, source: str) -> Known:
        """A figure of one source, which nothing is known to differ from."""
        return cls(value, method, source, value, value)


@dataclass(frozen=True, slots=True)
class Place:
    """A region as a plan sees it. ``carbon`` in grams and ``price`` in US dollars for each kWh at the feeder."""

    asked: Candidate
    pue: Known
    carbon: Known
    price: Known

    @property
    def name(self) -> str:
        """Such as ``azure/westeurope``."""
        return self.asked.name


class Ways(NamedTuple):
    """Round trips in seconds from each client (rows) to each region; the last mile is not in them."""

    clients: tuple[str, ...]
    shares: tuple[float, ...]
    rtt_s: tuple[tuple[float, ...], ...]
    method: str

    def caller_s(self, client: int, region: int) -> float:
        """What a caller's first token waits for on the way there and back."""
        return LAST_MILE_S + self.rtt_s[client][region]


def places(question: Question) -> tuple[Place, ...]:
    """All candidate regions. Errors: NotFound, with what was perhaps meant."""
    return tuple(_place(candidate, question.usd_kwh) for candidate in question.regions)


def ways(question: Question) -> Ways:
    """How far callers are. Errors: NotFound, with what was perhaps meant."""
    if not question.clients:
        return Ways(("anywhere",), (1.0,), (tuple(0.0 for _ in question.regions),), "assumed")
    trips = [[_trip(client, region.name) for region in question.regions] for client in question.clients]
    methods = [trip.method for row in trips for trip in row]
    method = "assumed" if "assumed" in methods else "modelled" if "modelled" in methods else "measured"
    rtt_s = tuple(tuple(trip.seconds for trip in row) for row in trips)
    return Ways(tuple(client.place for client in question.clients), question.shares, rtt_s, method)


def reach(found: Ways, rtt_max_s: float) -> tuple[tuple[bool, ...], ...]:
    """Which client may be served by which region."""
    return tuple(tuple(seconds <= rtt_max_s for seconds in row) for row in found.rtt_s)


def _trip(client: Client, region: str) -> round_trips.RoundTrip:
    found = round_trips.round_trip(client.place, region)
    if client.place == region:
        round_trips.position(region)  # it must exist
        return round_trips.RoundTrip(0.0, "modelled")
    return found


def _place(candidate: Candidate, usd_kwh: float | None) -> Place:
    at = grid.region(candidate.name)
    return Place(candidate, _pue(candidate, at), _carbon(candidate, at), _price(candidate, at, usd_kwh))


def _pue(candidate: Candidate, at: RegionEnergy) -> Known:
    if candidate.pue is not None:
        return Known.only(candidate.pue, "measured", "given")
    if at.pue is not None:
        return Known.only(at.pue, "modelled", f"PUE published, {at.source}")
    climate = Climate(at.latitude or 0.0, at.longitude or 0.0)
    value = chain().fed_share(_USUAL_LOAD) * (1.0 + CoolingPlant(1.0).yearly_share(_USUAL_LOAD, climate))
    return Known.only(value, "assumed", "no PUE published: plant over a year of the climate at its latitude")


def _carbon(candidate: Candidate, at: RegionEnergy) -> Known:
    """The region's own figure; it may be off, either way, as far as statistics of the same zone lie apart from it.

    Where its zone is a part of a country only, statistics of the country say nothing about it.
    """
    if candidate.carbon_g_kwh is not None:
        return Known.only(candidate.carbon_g_kwh, "measured", "given")
    value, source, method = grid.carbon_of(at)
    country, how = grid.country(at.country)
    if how == "assumed" or _zones()[at.name] != at.country or not value:
        return Known.only(value, method, source)
    factor = max(country.carbon_g_kwh / value, value / country.carbon_g_kwh)
    return Known(value, method, source, value / factor, value * factor)


@cache
def _zones() -> Mapping[str, str]:
    """The zone of the grid that each region lies in: a country, or a part of one (``US-NW-BPAT``)."""
    return {f"{row['provider']}/{row['region']}": row["zone"] for row in rows("region_energy.csv")}


def _price(candidate: Candidate, at: RegionEnergy, usd_kwh: float | None) -> Known:
    given = candidate.usd_kwh if candidate.usd_kwh is not None else usd_kwh
    if given is not None:
        return Known.only(given, "measured", "given")
    if at.usd_kwh is not None:
        return Known.only(at.usd_kwh, "modelled", at.source)
    known = published_usd_kwh()
    said = f"no price published: the middle of {len(known)} regions that have one; say it with usd_kwh"
    return Known(median(known), "assumed", said, known[0], known[-1])


def published_usd_kwh() -> Sequence[float]:
    """The prices of electricity that are known of any region, the lowest first."""
    return sorted(region.usd_kwh for region in grid.regions().values() if region.usd_kwh is not None)


def farthest_s(found: Ways, allowed: tuple[tuple[bool, ...], ...]) -> float:
    """The longest way of any caller that may be used; infinite where none may."""
    used = [
        found.caller_s(client, region)
        for client, row in enumerate(allowed)
        for region, may in enumerate(row)
        if may
    ]
    return max(used, default=inf)
