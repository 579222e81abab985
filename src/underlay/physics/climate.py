"""How warm is it outside, and what is the hour there?

Where nobody gives hourly temperatures, a model that is assumed as a whole: a yearly mean by latitude, a season
that grows with it and is turned round south of the equator, and a day that is warmest three hours after noon:

    T = 28 - 30·sin²(latitude) + 0.22·|latitude|·season - 5·cos(hour - 3)

It knows no sea, no height and no weather: sites by an ocean have milder seasons, sites on a plain harder ones. A
list of hourly temperatures takes its place, from the first hour of the run on and then from its beginning again.

Refused here: what cooling makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, radians, sin

DAY_S = 86_400.0
HOUR_S = 3_600.0
#: The day of the year that is warmest north of the equator: a month after the longest one.
_WARMEST_DAY = 202
_YEAR_DAYS = 365.25
_SWING_C = 5.0
_WARMEST_HOUR = 15.0


@dataclass(frozen=True, slots=True)
class Clock:
    """When a run begins: day of the year (1 to 366) and hour in UTC."""

    day_of_year: float = 172.0
    utc_h: float = 0.0

    def local_h(self, at: float, longitude: float) -> float:
        """The hour by the sun at ``at`` seconds into the run, 0 to 24."""
        return (self.utc_h + at / HOUR_S + longitude / 15.0) % 24.0

    def day(self, at: float) -> float:
        """The day of the year, with its fraction."""
        return self.day_of_year + self.utc_h / 24.0 + at / DAY_S


@dataclass(frozen=True, slots=True)
class Climate:
    """The temperature outside at one place, degrees Celsius."""

    latitude: float
    longitude: float
    clock: Clock = Clock()
    hourly_c: Sequence[float] = ()

    @property
    def method(self) -> str:
        """Given by the hour counts as measured."""
        return "measured" if self.hourly_c else "assumed"

    def temperature_c(self, at: float) -> float:
        """At ``at`` seconds into the run."""
        if self.hourly_c:
            return hourly(self.hourly_c, at)
        return modelled_c(self.latitude, self.clock.day(at), self.clock.local_h(at, self.longitude))


def modelled_c(latitude: float, day: float, local_h: float) -> float:
    """The formula above."""
    mean_c = 28.0 - 30.0 * sin(radians(latitude)) ** 2
    season_c = 0.22 * latitude * cos(2 * pi * (day - _WARMEST_DAY) / _YEAR_DAYS)
    return mean_c + season_c + _SWING_C * cos(2 * pi * (local_h - _WARMEST_HOUR) / 24.0)


def hourly(values: Sequence[float], at: float) -> float:
    """The value of the hour, straight between hours, from the beginning again after the last."""
    place = at / HOUR_S
    hour = int(place)
    now, then = values[hour % len(values)], values[(hour + 1) % len(values)]
    return now + (then - now) * (place - hour)
