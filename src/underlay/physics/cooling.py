"""What does it take to carry the heat of a hall outside, and when is it too much?

Heat leaves by outside air (or water that it cools) as long as that is cold enough, and by a chiller where it is
not; fans and pumps turn all the time. The chiller is EnergyPlus's electric chiller with its test coefficients
(NREL, as HewlettPackard/dc-rl publishes them):

    available = rated·(0.944836 - 0.0570088·d + 0.00185486·d²),  d = (T - 35)/2.778
    power     = available/COP · (2.333 - 1.975·r + 0.6121·r²) · (0.03303 + 0.6852·p + 0.2818·p²)

with T outside, r = available/rated, p = heat/available. d has a second term, leaving water minus its design
temperature; that is 0 here, as the water leaves as designed. dc-rl has the design temperatures of water and
condenser in it, which makes a chiller stronger the hotter it is outside: rejected. The curve is held at its least
power where r goes beyond it.

Assumed, as nobody publishes them: outside air does all below ``free_below_c``, nothing above ``free_until_c``, a
share between (18 and 27 C are the recommended inlet temperatures of ASHRAE TC 9.9); fans draw 3 % of the heat; two
pumps push water that warms by 5.5 K through 300 kPa at 0.87 (dc-rl), 3 % of the heat together. A wet plant
evaporates water where it cools by chiller: 2.43 MJ per kg, a quarter more for what is drained at five cycles of
concentration.

Refused here: the temperature indoors, tariffs, and what a server does when it gets hot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from underlay.physics.climate import Climate, modelled_c

_AVAILABLE = (0.944836, -0.0570088, 0.00185486)
_FULL_POWER = (2.333, -1.975, 0.6121)
_PART_LOAD = (0.03303, 0.6852, 0.2818)
_DESIGN_C = 35.0
_RISE = 2.778
#: Where the full-load curve has its least power; a chiller that is better still is not believed.
_BEST_RATIO = -_FULL_POWER[1] / (2 * _FULL_POWER[2])
_LEAST_PART_LOAD = 0.05

#: Two pumps: 300 kPa / 0.87 for each cubic metre of water that takes up 4.186 MJ/K over 5.5 K.
PUMP_SHARE = 2 * 300e3 / 0.87 / (4.186e6 * 5.5)
FAN_SHARE = 0.03
#: Litres for each kWh of heat that evaporates: latent heat, and what is drained at five cycles of concentration.
EVAPORATED_L_KWH = 3.6 / 2.43 * (1 + 1 / (5 - 1))

Method = Literal["calibrated", "modelled"]


class Cooled(NamedTuple):
    """What the plant draws, what heat it carries off and could at most, and litres of water per second."""

    power_w: float
    removed_w: float
    capacity_w: float
    water_l_s: float


@dataclass(frozen=True, slots=True)
class CoolingPlant:
    """The cooling of one site. ``rated_w`` is the heat that its chillers carry off at 35 C, ``cop`` how well.

    ``factor`` scales all that it draws: it carries a published PUE. ``economiser=False`` never lets outside air
    in.
    """

    rated_w: float
    cop: float = 3.0
    free_below_c: float = 18.0
    free_until_c: float = 27.0
    economiser: bool = True
    wet: bool = False
    fan_share: float = FAN_SHARE
    pump_share: float = PUMP_SHARE
    factor: float = 1.0
    method: Method = "modelled"

    def cool(self, heat_w: float, outside_c: float, working_share: float = 1.0) -> Cooled:
        """Carry this heat off, as far as can be with ``working_share`` of the plant in order."""
        free = self.free_share(outside_c)
        ratio = available_ratio(outside_c)
        chiller_w = self.rated_w * ratio * working_share
        # Outside air is moved by the same plant: what of it is broken moves none.
        free_w = self.rated_w * free * working_share
        capacity_w = free_w + chiller_w * (1.0 - free)
        removed_w = min(heat_w, capacity_w)
        chilled_w = removed_w - min(removed_w * free, free_w)
        power_w = removed_w * (self.fan_share + self.pump_share)
        if chilled_w > 0.0 and chiller_w > 0.0:
            load = min(max(chilled_w / chiller_w, _LEAST_PART_LOAD), 1.0)
            power_w += chiller_w / self.cop * _polynomial(_FULL_POWER, ratio) * _polynomial(_PART_LOAD, load)
        water_l_s = chilled_w / 3.6e6 * EVAPORATED_L_KWH if self.wet else 0.0
        return Cooled(power_w * self.factor, removed_w, capacity_w, water_l_s)

    def free_share(self, outside_c: float) -> float:
        """The part of the heat that outside air takes."""
        if not self.economiser:
            return 0.0
        span_c = self.free_until_c - self.free_below_c
        return min(max((self.free_until_c - outside_c) / span_c, 0.0), 1.0)

    def yearly_share(self, heat_w: float, climate: Climate) -> float:
        """What it draws for each watt of a steady heat, over a whole year of the assumed climate."""
        shares = [
            self.cool(heat_w, modelled_c(climate.latitude, day, hour)).power_w / heat_w
            for day in range(1, 366, 14)
            for hour in range(0, 24, 2)
        ]
        return sum(shares) / len(shares)

    def calibrated(self, pue: float, chain_share: float, heat_w: float, climate: Climate) -> CoolingPlant:
        """Scaled so that over a year at this heat the site comes to a published PUE.

        ``chain_share`` is what the power chain loses of each watt of IT. Where that alone is more than the PUE
        leaves, cooling keeps a tenth of what it was, and the site is as good as it gets.
        """
        left = (pue - 1.0 - chain_share) / (1.0 + chain_share)
        factor = left / self.yearly_share(heat_w, climate)
        return replace(self, factor=max(factor, 0.1), method="calibrated")


def available_ratio(outside_c: float) -> float:
    """What a chiller can do at this temperature, for what it is rated for."""
    ratio = _polynomial(_AVAILABLE, (outside_c - _DESIGN_C) / _RISE)
    return min(max(ratio, 0.05), _BEST_RATIO)


def _polynomial(factors: tuple[float, float, float], x: float) -> float:
    return factors[0] + x * (factors[1] + x * factors[2])
