"""What feeds and cools one site, and how warm is it inside?

The heat that the plant does not carry off warms what stands there: ``HEAT_CAPACITY_J_K_W`` for each watt that it
may draw, assumed, so that with all cooling lost the inlet is at the throttling mark after four minutes and at the
protective shutdown after eight. The marks are the ends of what ASHRAE allows for class A1 (32 C) and usual for
hardware that protects itself (40 C, assumed).

Refused here: who is throttled or shut down for it, and what a server draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from underlay.domain.errors import BadRequest
from underlay.domain.figures import JOULES_KWH
from underlay.physics import grid
from underlay.physics.climate import Climate, Clock
from underlay.physics.cooling import CoolingPlant
from underlay.physics.grid import RegionEnergy, Signal
from underlay.physics.power_chain import PowerChain, UpsKind, chain

HEAT_CAPACITY_J_K_W = 30.0
INLET_C = 24.0
THROTTLE_C = 32.0
THROTTLE_UNTIL_C = 29.0
SHUTDOWN_C = 40.0
#: The plant is built for so much more than what stands there may draw: assumed.
PLANT_MARGIN = 1.15
_USUAL_LOAD = 0.7

#: One figure, one for each hour, or none.
Given = float | Sequence[float] | None


@dataclass(frozen=True, slots=True)
class SiteSupply:
    """What one site is fed and cooled by. None: not accounted, as nobody said or published it.

    Without ``plant`` (no place, so no weather) cooling draws what brings the site to ``pue``, and never fails.
    ``water_l_kwh`` is on site, per kWh of IT; None leaves it to the plant. ``warnings`` say what is assumed.
    """

    chain: PowerChain
    plant: CoolingPlant | None = None
    climate: Climate | None = None
    pue: float | None = None
    carbon: Signal | None = None
    price: Signal | None = None
    water_l_kwh: float | None = None
    generation_water_l_kwh: float | None = None
    warnings: tuple[str, ...] = ()


def supply(
    like: str,
    peak_w: float,
    clock: Clock,
    *,
    pue: float | None = None,
    carbon_g_kwh: Given = None,
    usd_kwh: Given = None,
    ups: UpsKind = "best",
    plant: CoolingPlant | None = None,
    hourly_c: Sequence[float] = (),
) -> SiteSupply:
    """What a site has in a provider's region (``azure/westeurope``) that may draw ``peak_w`` of IT.

    What is given, one figure or a list by the hour, takes the place of what was published. Cooling is scaled to
    the published PUE, if there is one and no ``plant`` is given. An empty ``like`` has only what is given. Errors:
    NotFound for the region; BadRequest for a PUE below 1.
    """
    if pue is not None and pue < 1.0:
        raise BadRequest(f"A PUE is at least 1, got {pue:g}.", param="pue")
    losses = chain(ups)
    if not like:
        return _only(losses, pue, carbon_g_kwh, usd_kwh)
    at = grid.region(like)
    start_h = clock.local_h(0.0, at.longitude or 0.0)
    said, warnings = _weather(at, clock, hourly_c)
    if said is not None and plant is None:
        plant = CoolingPlant(peak_w * PLANT_MARGIN)
        known = pue or at.pue
        if known is not None:
            plant = plant.calibrated(known, losses.fed_share(_USUAL_LOAD) - 1.0, peak_w * _USUAL_LOAD, said)
        else:
            warnings.append(f"{like} publishes no PUE: its cooling is modelled alone.")
    carbon, more = _carbon(at, carbon_g_kwh, start_h)
    price = _price(at, usd_kwh, start_h)
    if price is None:
        more.append(f"No electricity price of {like} is known: it is not accounted. Say it as usd_per_kwh.")
    return SiteSupply(
        chain=losses,
        plant=plant,
        climate=said,
        pue=pue or at.pue,
        carbon=carbon,
        price=price,
        water_l_kwh=at.water_l_kwh,
        generation_water_l_kwh=grid.country(at.country)[0].water_l_kwh,
        warnings=(*warnings, *more),
    )


def _weather(at: RegionEnergy, clock: Clock, hourly_c: Sequence[float]) -> tuple[Climate | None, list[str]]:
    if at.latitude is None or at.longitude is None:
        return None, [f"The position of {at.name} is not known: its cooling is its PUE, whatever the weather."]
    said = Climate(at.latitude, at.longitude, clock, hourly_c)
    if hourly_c:
        return said, []
    return said, [f"The temperature outside of {at.name} is assumed from its latitude, the season and the hour."]


def _carbon(at: RegionEnergy, given: Given, start_h: float) -> tuple[Signal, list[str]]:
    signal = _signal(given, grid.carbon, start_h)
    if signal is not None:
        return signal, []
    mean, source, method = grid.carbon_of(at)
    said = [f"No carbon of {at.name} or its country is known: the world's mean is taken."]
    return grid.carbon(mean, source, start_h, method), said if method == "assumed" else []


def _price(at: RegionEnergy, given: Given, start_h: float) -> Signal | None:
    signal = _signal(given, grid.price, start_h)
    if signal is None and at.usd_kwh is not None:
        return grid.price(at.usd_kwh, at.source, start_h)
    return signal


def _signal(given: Given, daily: Callable[[float, str, float], Signal], start_h: float) -> Signal | None:
    """One figure goes up and down with the hour; a list is taken as it is."""
    if given is None:
        return None
    return grid.given(given) if isinstance(given, Sequence) else daily(given, "given", start_h)


def _only(losses: PowerChain, pue: float | None, carbon_g_kwh: Given, usd_kwh: Given) -> SiteSupply:
    return SiteSupply(
        chain=losses,
        pue=pue,
        carbon=_signal(carbon_g_kwh, grid.carbon, 0.0),
        price=_signal(usd_kwh, grid.price, 0.0),
        warnings=() if pue else ("A site with neither place nor PUE: cooling is not accounted.",),
    )


class Cooled(NamedTuple):
    """What cooling took in a while: joules, litres on site; and what heat it could have carried off, in watts."""

    joules: float
    water_l: float
    capacity_w: float


class SiteState:
    """One site over time: how warm it is, how much of its plant works, and whether it is too hot."""

    __slots__ = ("hot", "inlet_c", "mass_j_k", "outside_c", "supply", "working_share")

    def __init__(self, supplied: SiteSupply, peak_w: float) -> None:
        self.supply = supplied
        self.mass_j_k = max(peak_w, 1.0) * HEAT_CAPACITY_J_K_W
        self.working_share = 1.0
        self.inlet_c = INLET_C
        self.outside_c = float("nan")
        self.hot = False

    def cool(self, middle_at: float, seconds: float, heat_j: float, it_j: float) -> Cooled:
        """Carry off the heat of a while around ``middle_at``; what stays behind warms the site."""
        plant, climate = self.supply.plant, self.supply.climate
        on_site = self.supply.water_l_kwh
        litres = 0.0 if on_site is None else on_site * it_j / JOULES_KWH
        if plant is None or climate is None:
            return Cooled(max((self.supply.pue or 1.0) * it_j - heat_j, 0.0), litres, float("inf"))
        self.outside_c = climate.temperature_c(middle_at)
        done = plant.cool(heat_j / seconds, self.outside_c, self.working_share)
        self._warm(heat_j - done.capacity_w * seconds)
        if on_site is None:
            litres = done.water_l_s * seconds
        return Cooled(done.power_w * seconds, litres, done.capacity_w)

    def _warm(self, excess_j: float) -> None:
        """Heat beyond the plant's capacity stays; room to spare draws earlier heat out."""
        self.inlet_c = max(self.inlet_c + excess_j / self.mass_j_k, INLET_C)
        if self.inlet_c >= THROTTLE_C:
            self.hot = True
        elif self.inlet_c <= THROTTLE_UNTIL_C:
            self.hot = False
