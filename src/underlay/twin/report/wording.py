"""How figures are written for people: three or four digits, in the unit that needs no zeros."""

from __future__ import annotations

from math import floor, inf, isinf, isnan, log10
from typing import NamedTuple

from underlay.twin.confidence import Interval

NOTHING = "–"  # noqa: RUF001 -- the dash that tables use for nothing known

#: Units that are told in another one when small or large: (from this size on, its size, its name), largest first.
_SCALES: dict[str, tuple[tuple[float, float, str], ...]] = {
    "s": ((1.0, 1.0, "s"), (0.0, 1e-3, "ms")),
    "share": ((0.0, 0.01, "%"),),
    "kWh": ((1e4, 1e3, "MWh"), (0.1, 1.0, "kWh"), (0.0, 1e-3, "Wh")),
    "kgCO2e": ((1e4, 1e3, "tCO2e"), (0.1, 1.0, "kgCO2e"), (0.0, 1e-3, "gCO2e")),
    "L": ((1e4, 1e3, "m³"), (0.1, 1.0, "L"), (0.0, 1e-3, "mL")),
    "W": ((1e6, 1e6, "MW"), (1e3, 1e3, "kW"), (0.0, 1.0, "W")),
    "count": ((0.0, 1.0, ""),),
    "ratio": ((0.0, 1.0, ""),),
}


class Scale(NamedTuple):
    """A unit to write values in: so many of the unit that they are kept in, and its name."""

    size: float
    unit: str

    def number(self, value: float) -> str:
        """A value without its unit."""
        return number(value / self.size)

    def half(self, value: float) -> str:
        """Half the width of an interval, to two digits; empty where one run knows nothing."""
        return "" if isinf(value) or isnan(value) else number(value / self.size, 2)

    def beside(self, value: float, like: float) -> str:
        """A difference, with its sign, as finely as ``like`` is told."""
        if isnan(value):
            return NOTHING
        places = max(0, _places(like / self.size, 4)) if like else 4 * bool(value)
        return f"{round(value / self.size, places) + 0.0:+,.{places}f}"

    def quantity(self, value: float) -> str:
        """A value with its unit."""
        return NOTHING if isnan(value) else f"{self.number(value)} {self.unit}".rstrip()


def scale(unit: str, like: float) -> Scale:
    """The scale in which a value of the size of ``like`` needs no zeros; nothing is told in the plain unit."""
    choices = _SCALES.get(unit, ((0.0, 1.0, unit),))
    if not like:
        return next((Scale(size, name) for _, size, name in choices if size == 1.0), Scale(*choices[-1][1:]))
    return next(Scale(size, name) for least, size, name in choices if abs(like) >= least)


def number(value: float, digits: int = 4) -> str:
    """A number to so many digits; whole ones and large ones to the last."""
    if isnan(value):
        return NOTHING
    if isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.{max(0, _places(value, digits))}f}"


def _places(value: float, digits: int) -> int:
    """How many places after the point so many digits take; below 0 for large numbers."""
    return min(12, digits - 1 - floor(log10(abs(value))))


def quantity(value: float, unit: str) -> str:
    """A value with its unit."""
    return scale(unit, 0.0 if isnan(value) else value).quantity(value)


def spread(interval: Interval, unit: str) -> tuple[str, str, str]:
    """An interval as number, half its width, and unit."""
    told = scale(unit, 0.0 if isnan(interval.mean) else interval.mean)
    return told.number(interval.mean), told.half(interval.half), told.unit


def percent(share: float) -> str:
    """A share that may be below nothing, with its sign."""
    if isnan(share) or share in {inf, -inf}:
        return NOTHING
    return f"{round(share * 100, 1) + 0.0:+.1f} %"


def span(seconds: float) -> str:
    """A length of simulated time, exact to the second above one."""
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms" if seconds else "0 s"
    if seconds < 60:
        return f"{seconds:g} s" if seconds == round(seconds, 1) else f"{seconds:.1f} s"
    parts = []
    rest = round(seconds)
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if rest >= size:
            parts.append(f"{rest // size} {name}")
            rest %= size
    return " ".join(parts)


def clip(text: str, most: int = 200) -> str:
    """A stranger's text, not longer than a table can bear."""
    return text if len(text) <= most else text[: most - 1] + "…"
