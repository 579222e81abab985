"""Joules as people write and read them (``5kJ``, ``1kWh``), and as whole microjoules, which add up exactly."""

from __future__ import annotations

import re

MICRO_PER_JOULE = 10**6
#: What 64 bits hold in microjoules, roughly (2.5 GWh); records carry no more.
JOULES_MAX = 9e12

_UNITS = {"j": 1.0, "kj": 1e3, "mj": 1e6, "gj": 1e9, "wh": 3.6e3, "kwh": 3.6e6, "mwh": 3.6e9}
_SPELLED = "J, kJ, MJ, GJ, Wh, kWh or MWh"
_WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)", re.IGNORECASE)
#: A watt-hour is told beside joules from here on: below, nobody thinks in them.
_TOLD_WH_J = 3.6e3


def joules(text: str) -> float:
    """What an amount such as ``5kJ`` or ``1.5 kWh`` is in joules. Errors: ValueError, which says what to write."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"'{text}' is no amount of energy such as 500 J, 5kJ, 2MJ or 1kWh ({_SPELLED})")
    if match[2].startswith("m"):  # mJ is a thousandth of a joule, and nobody's budget
        raise ValueError(f"'{text}' is in thousandths; write M for mega: {match[1]}M{match[2][1:]}")
    return float(match[1]) * _UNITS[match[2].lower()]


def written(amount: float) -> str:
    """An amount in the largest fitting unit, to four digits: ``800 J``, ``500 kJ``, ``3.6 MJ (1 kWh)``."""
    watt_hours = amount / 3.6e3
    beside = ""
    if abs(amount) >= _TOLD_WH_J:
        beside = f" ({_scaled(watt_hours, ('Wh', 'kWh', 'MWh', 'GWh'))})"
    return _scaled(amount, ("J", "kJ", "MJ", "GJ")) + beside


def _scaled(amount: float, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if abs(float(f"{amount:.4g}")) < 1e3:  # as it will be written: 999.96 is 1000
            return f"{amount:.4g} {unit}"
        amount /= 1e3
    return f"{amount:.4g} {units[-1]}" if abs(amount) < 1e4 else f"{amount:.0f} {units[-1]}"


def microjoules(amount: float) -> int:
    """Whole microjoules of an amount in joules; never negative, as a meter's noise around nothing is nothing."""
    return max(0, round(amount * MICRO_PER_JOULE))
