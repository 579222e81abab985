"""How dirty, how wet and how dear is a kilowatt-hour, where and when?

A provider's region has what was published for it (``data/region_energy.csv``), a country what statistics say
(``data/country_grid.csv``), the world its mean. Carbon is by location: what the grid there emits on average, no
certificates. Two sources say different things of one zone (France 16 or 53 g), so regions are comparable only
where ``source`` is the same. Off-site water is what power stations evaporate, great where reservoirs do.

Over the day a figure follows a wave with one top, assumed as a whole: carbon 10 % up at eight in the evening when
the sun is gone, price 20 % up an hour before. Its mean is the published figure, exactly. Hourly lists take its
place.

Refused here: markets, marginal carbon, and who pays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import cos, pi
from typing import Literal, NamedTuple

from underlay.physics.climate import HOUR_S, hourly
from underlay.physics.lookup import named
from underlay.physics.tables import number, rows

Method = Literal["measured", "assumed", "modelled"]

CARBON_SWING, CARBON_TOP_H = 0.10, 20.0
PRICE_SWING, PRICE_TOP_H = 0.20, 19.0


class RegionEnergy(NamedTuple):
    """What was published for a provider's region; None: nobody did. Water is on site, per kWh of IT."""

    name: str
    latitude: float | None
    longitude: float | None
    country: str
    carbon_g_kwh: float | None
    carbon_year: str
    pue: float | None
    water_l_kwh: float | None
    usd_kwh: float | None
    source: str


class CountryGrid(NamedTuple):
    """Grams and litres (off site) for each kWh that a country generates."""

    carbon_g_kwh: float
    water_l_kwh: float
    source: str


@dataclass(frozen=True, slots=True)
class Signal:
    """A figure over time. ``mean`` is that of a day; ``hourly`` (from the run's first hour on) takes its place.

    ``start_h`` is the local hour when the run begins.
    """

    mean: float
    method: Method
    source: str
    swing: float = 0.0
    top_h: float = 0.0
    start_h: float = 0.0
    hourly: Sequence[float] = ()

    def at(self, at: float) -> float:
        """The figure at ``at`` seconds into the run."""
        if self.hourly:
            return hourly(self.hourly, at)
        return self.mean * (1.0 + self.swing * cos(2 * pi * (self.start_h + at / HOUR_S - self.top_h) / 24.0))


def carbon(mean_g_kwh: float, source: str, start_h: float = 0.0, method: Method = "modelled") -> Signal:
    """Grams of CO2e per kWh over the assumed day."""
    return Signal(mean_g_kwh, method, source, CARBON_SWING, CARBON_TOP_H, start_h)


def price(mean_usd_kwh: float, source: str, start_h: float = 0.0, method: Method = "modelled") -> Signal:
    """US dollars per kWh over the assumed day."""
    return Signal(mean_usd_kwh, method, source, PRICE_SWING, PRICE_TOP_H, start_h)


def given(values: Sequence[float], source: str = "given by the hour") -> Signal:
    """A figure by the hour."""
    return Signal(sum(values) / len(values), "measured", source, hourly=tuple(values))


def region(name: str) -> RegionEnergy:
    """A region by provider and id, such as ``azure/westeurope``. Errors: NotFound, with what was perhaps meant."""
    return named(regions(), name, "region")


def country(code: str) -> tuple[CountryGrid, Method]:
    """The grid of a country by its two letters; the world's, marked ``assumed``, where there is no row of it."""
    found = countries().get(code)
    return (found, "modelled") if found is not None else (countries()["world"], "assumed")


def carbon_of(at: RegionEnergy) -> tuple[float, str, Method]:
    """Grams per kWh by location: the region's own, else its country's, else the world's."""
    if at.carbon_g_kwh is not None:
        return at.carbon_g_kwh, f"{at.source}, {at.carbon_year}", "modelled"
    grid, method = country(at.country)
    return grid.carbon_g_kwh, grid.source, method


@cache
def regions() -> Mapping[str, RegionEnergy]:
    """All regions, by provider and id."""
    places = {(row["provider"], row["region"]): row for row in rows("region_places.csv")}
    return {
        f"{row['provider']}/{row['region']}": _region(row, places.get((row["provider"], row["region"]), {}))
        for row in rows("region_energy.csv")
    }


def _region(row: Mapping[str, str], place: Mapping[str, str]) -> RegionEnergy:
    return RegionEnergy(
        name=f"{row['provider']}/{row['region']}",
        latitude=number(place.get("lat", "")),
        longitude=number(place.get("lon", "")),
        country=row["zone"].split("-", maxsplit=1)[0],
        carbon_g_kwh=number(row["carbon_g_kwh"]),
        carbon_year=row["carbon_year"],
        pue=number(row["pue"]),
        water_l_kwh=number(row["water_l_kwh"]),
        usd_kwh=number(row["usd_kwh"]),
        source=row["source"],
    )


@cache
def countries() -> Mapping[str, CountryGrid]:
    """All countries by their two letters, and ``world``."""
    return {
        row["country"]: CountryGrid(float(row["carbon_g_kwh"]), float(row["water_l_kwh"]), row["source"])
        for row in rows("country_grid.csv")
    }
