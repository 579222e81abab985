"""Where this machine stands, and what follows for a joule: grams, millilitres and money, by the hour of the day.

What an owner states wins over what is published for the region, that over the country's statistics; where neither
region nor country is named, the world's mean is taken, marked ``assumed``, as is the middle of all published
prices of electricity. A PUE is nobody's mean: it is stated, or published for the region, or not known.

An accelerator-hour costs what is stated, else what it was bought for over its life, else the middle of published
list prices of that accelerator. Processors have none of these, and so no such cost.

Refused here: whose joules they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from statistics import median

from msgspec import structs

from underlay.domain.figures import Figure
from underlay.ledger.costs import CostRates, amortised, listed
from underlay.ledger.footprint import SiteRates, country_rates, embodied_carbon, region_rates
from underlay.live.settings import SiteSettings
from underlay.physics import grid

STATED = "stated in the settings"
_DAY_S, _HOUR_S = 86_400.0, 3600.0


class Site:
    """The rates of one place, at an hour of the day (UTC, 0 to 23)."""

    def __init__(self, settings: SiteSettings) -> None:
        self._settings = settings
        self.accelerators = settings.accelerators
        published = _published(settings)
        self.pue = published.pue
        self._rates = [_at_hour(published, settings, hour) for hour in range(24)]
        self._costs = [CostRates(_accelerator_hour(settings), _electricity(settings, hour)) for hour in range(24)]

    @property
    def name(self) -> str:
        """What the ledger calls this place: its own name, or else its region's."""
        settings = self._settings
        unnamed = settings.name == SiteSettings.model_fields["name"].default
        return settings.region if unnamed and settings.region else settings.name

    def rates(self, hour: int) -> SiteRates:
        """What grid and site make of an energy at this hour."""
        return self._rates[hour]

    def costs(self, hour: int) -> CostRates:
        """What accelerators and electricity cost at this hour."""
        return self._costs[hour]

    def embodied(self, hours: float) -> Figure | None:
        """The carbon of making what is used for so many accelerator-hours; None: nobody published it."""
        accelerator = self._settings.accelerator
        return None if accelerator is None else embodied_carbon(accelerator, hours)

    def describe(self, hour: int) -> dict[str, Figure | None]:
        """Every rate by its name, as it holds at this hour."""
        rates, costs = self.rates(hour), self.costs(hour)
        money = {"electricity": costs.electricity_kwh, "accelerator": costs.accelerator_hour}
        return {**structs.asdict(rates), **money}


def hour_of(unix_s: float) -> int:
    """The hour of the day, UTC."""
    return int(unix_s % _DAY_S // _HOUR_S)


def _published(settings: SiteSettings) -> SiteRates:
    stated = _stated(settings.pue, "ratio")
    market = _stated(settings.market_carbon_g_per_kwh, "g/kWh")
    if settings.region is not None:
        return region_rates(settings.region, market=market, pue=stated)
    return country_rates(settings.country or "", market=market, pue=stated)


def _at_hour(published: SiteRates, settings: SiteSettings, hour: int) -> SiteRates:
    by_hour = settings.carbon_by_hour
    stated = _stated(settings.carbon_g_per_kwh if by_hour is None else by_hour[hour], "g/kWh")
    return published if stated is None else structs.replace(published, carbon_location=stated)


def _electricity(settings: SiteSettings, hour: int) -> Figure | None:
    stated = settings.usd_per_kwh if settings.usd_by_hour is None else settings.usd_by_hour[hour]
    if stated is not None:
        return _stated(stated, "USD/kWh")
    if settings.region is None:
        return _usual_price() if settings.country is None else None
    at = grid.region(settings.region)
    return None if at.usd_kwh is None else Figure(at.usd_kwh, "USD/kWh", "modelled", source=at.source)


def _accelerator_hour(settings: SiteSettings) -> Figure | None:
    if settings.usd_per_accelerator_hour is not None:
        return _stated(settings.usd_per_accelerator_hour, "USD/h")
    if settings.purchase_usd is not None:
        return structs.replace(amortised(settings.purchase_usd, settings.life_months), source=STATED)
    return None if settings.accelerator is None else listed(settings.accelerator)


def _stated(value: float | None, unit: str) -> Figure | None:
    """What an owner states is taken as it is."""
    return None if value is None else Figure(value, unit, "measured", uncertainty=0.0, source=STATED)


@cache
def _usual_price() -> Figure | None:
    """The middle of what regions are published to pay, off by as far as they lie apart."""
    at: Mapping[str, grid.RegionEnergy] = grid.regions()
    prices = [region.usd_kwh for region in at.values() if region.usd_kwh is not None]
    if not prices:
        return None
    middle = median(prices)
    off = max(middle - min(prices), max(prices) - middle)
    source = f"the middle of {len(prices)} regions' published prices"
    return Figure(middle, "USD/kWh", "assumed", uncertainty=off, source=source)
