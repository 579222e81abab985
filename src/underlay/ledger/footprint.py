"""How many grams of CO2e and millilitres of water stand behind an energy, in whose view?

Carbon has three views, and none replaces another: *location*, what the grid there emits on average; *market*, what
the contracts of whoever buys the electricity say; *marginal*, what one kilowatt-hour more would have emitted. Each
keeps its source and version, as two sources differ threefold on one zone. A view that nobody published is None,
never 0: zero is a claim. The published market figures at hand are all 0, by certificates of the providers, and
hold for their electricity only; so that view is what an owner states.

    carbon = IT·PUE·grid       water off site = IT·PUE·litres of generation       water on site = IT·WUE

PUE is applied once, here: energy that has it already is refused. (EcoLogits' formula takes facility energy times
PUE.) Where nobody published a PUE, carbon and off-site water are of the servers' own electricity: a lower bound,
and the boundary of each figure says so (``FEEDER`` is what it begins with where a PUE is in it).

Embodied carbon is told apart and is no reason to send a request anywhere: it was emitted when the machine was
made. Refused here: curves over the day (``physics/grid.py`` has those; a rate is of its moment).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from re import compile as pattern

from msgspec import Struct

from underlay.domain.figures import JOULES_KWH, Figure, Method
from underlay.physics import embodied, grid
from underlay.physics.tables import rows

#: How the boundary of a figure begins that has what feeds and cools the servers in it.
FEEDER = "facility, "
#: And how it ends where nobody published how much that is.
WITHOUT_PUE = ", without power and cooling: no PUE is known"
#: How sources of the tables name the edition that was read.
_COMMIT = pattern(r"\b(?=[a-f]*\d)[0-9a-f]{7}\b")


class SiteRates(Struct, frozen=True, omit_defaults=True):
    """What is published, or stated, for a site: g/kWh and L/kWh at the feeder, ``water_on_site`` per kWh of IT."""

    pue: Figure | None = None
    carbon_location: Figure | None = None
    carbon_market: Figure | None = None
    carbon_marginal: Figure | None = None
    water_on_site: Figure | None = None
    water_off_site: Figure | None = None


class Footprint(Struct, frozen=True):
    """Grams of CO2e in three views, millilitres of water on site and off; None: nobody published what it takes."""

    carbon_location: Figure | None
    carbon_market: Figure | None
    carbon_marginal: Figure | None
    water_on_site: Figure | None
    water_off_site: Figure | None


def footprint(it: Figure, rates: SiteRates) -> Footprint:
    """The footprint of an energy of servers, in joules, overhead not in it. Errors: ValueError if it is."""
    if it.unit != "J" or any(word in it.boundary for word in ("facility", "cooling", "feeder")):
        raise ValueError(
            f"A footprint takes joules of IT, as it applies PUE itself; got {it.unit}, {it.boundary!r}."
        )
    if rates.pue is None:
        fed = it.times(1.0, boundary=it.boundary + WITHOUT_PUE)
    else:
        fed = it.by(rates.pue, unit="J", boundary=FEEDER + it.boundary)
    return Footprint(
        carbon_location=_times(fed, rates.carbon_location, "gCO2e", 1.0),
        carbon_market=_times(fed, rates.carbon_market, "gCO2e", 1.0),
        carbon_marginal=_times(fed, rates.carbon_marginal, "gCO2e", 1.0),
        water_on_site=_times(it, rates.water_on_site, "mL", 1e3),
        water_off_site=_times(fed, rates.water_off_site, "mL", 1e3),
    )


def region_rates(region: str, *, market: Figure | None = None, pue: Figure | None = None) -> SiteRates:
    """What is published for a provider's region; ``market`` and ``pue`` as the owner states them.

    Errors: NotFound for an unknown region.
    """
    at = grid.region(region)
    carbon_g, source, method = grid.carbon_of(at)
    marginal = _marginal().get(region)
    if pue is None and at.pue is not None:
        pue = _published(at.pue, "ratio", "modelled", at.source)
    return SiteRates(
        pue=pue,
        carbon_location=_published(carbon_g, "g/kWh", method, source, at.carbon_year),
        carbon_market=market,
        carbon_marginal=None if marginal is None else _published(marginal[0], "g/kWh", "modelled", marginal[1]),
        water_on_site=None
        if at.water_l_kwh is None
        else _published(at.water_l_kwh, "L/kWh", "modelled", at.source),
        water_off_site=_water(at.country),
    )


def country_rates(code: str, *, market: Figure | None = None, pue: Figure | None = None) -> SiteRates:
    """What statistics say of a country's grid, for a machine of one's own; the world's mean where they do not."""
    found, method = grid.country(code)
    return SiteRates(
        pue=pue,
        carbon_location=_published(found.carbon_g_kwh, "g/kWh", method, found.source),
        carbon_market=market,
        water_off_site=_water(code),
    )


def embodied_carbon(accelerator: str, hours: float) -> Figure | None:
    """The carbon of making an accelerator and its part of a host, for so many hours; None: nobody published it."""
    found = embodied.accelerator_hour(accelerator)
    if found is None:
        return None
    boundary = "making of accelerator and host, over its life"
    off = max(found.most_g - found.grams, found.grams - found.least_g) * hours
    return Figure(found.grams * hours, "gCO2e", "modelled", "", boundary, off, found.source)


def _times(energy: Figure, rate: Figure | None, unit: str, scale: float) -> Figure | None:
    return None if rate is None else energy.by(rate, unit=unit, scale=scale / JOULES_KWH)


def _water(code: str) -> Figure:
    found, method = grid.country(code)
    return _published(found.water_l_kwh, "L/kWh", method, found.source)


def _published(value: float, unit: str, method: Method, source: str, version: str = "") -> Figure:
    """A published figure; its edition is the commit that the source names, unless a year is told."""
    commit = _COMMIT.search(source)
    edition = version or (commit[0] if commit else "")
    return Figure(value, unit, method, source=source, version=edition)


@cache
def _marginal() -> Mapping[str, tuple[float, str]]:
    return {
        f"{row['provider']}/{row['region']}": (float(row["marginal_g_kwh"]), row["source"])
        for row in rows("region_marginal_carbon.csv")
    }
