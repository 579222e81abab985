"""The joules of a request and what they make, in one line for people."""

from __future__ import annotations

from typing import Any

_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
#: What is told of each figure beside joules: where it is, which of them, its unit, and what it is called.
_MADE = (("carbon", "location", "g", "CO2e"), ("water", "off_site", "L", "water off site"))


def line(energy: dict[str, Any]) -> str:
    """What a request took, how that is known and by which meter; then grams, water and costs."""
    missing = f"; {energy['unmetered_s']:.1f} s of it unmetered" if energy["unmetered_s"] else ""
    if energy["joules"] is None:
        later = "not metered yet; in some seconds 'underlay journey' tells it"
        return f"energy: {'none metered' if energy['status'] == 'settled' else later}{missing}"
    off = energy["uncertainty_joules"]
    about = "" if off is None else f" ± {off:.2g}"
    unsettled = ", provisional" if energy["status"] != "settled" else ""
    known = f"{energy['method']}, {energy['meter']}" if energy["meter"] else energy["method"]
    joules = f"{energy['joules']:.3g}{about} J{_parts(energy['accounts'])}"
    return "; ".join([f"{joules}, {known}{unsettled}{missing}", *_made(energy)])


def _parts(accounts: dict[str, float]) -> str:
    """What of it was no answer, and what came on top."""
    waste = [f"{joules:.3g} J {name}" for name, joules in accounts.items() if joules and name not in _USUAL]
    parts = f" (of it {', '.join(waste)})" if waste else ""
    over = accounts.get("overhead")
    return parts if over is None else f"{parts} and {over:.3g} J of power and cooling"


_USUAL = frozenset({"busy", "host", "overhead"})


def _made(energy: dict[str, Any]) -> list[str]:
    found = []
    for kind, view, unit, what in _MADE:
        figure = energy.get(kind, {}).get(view)
        if figure is not None:
            value = figure["value"] * (1e-3 if unit == "L" else 1.0)  # water is told in millilitres
            found.append(f"{scaled(value, unit)} {what} ({figure['method']})")
    costs = energy.get("cost", {})
    if costs:
        usd = sum(figure["value"] for figure in costs.values())
        found.append(f"${usd:.2g} {' + '.join(costs)}")
    return found


def scaled(value: float, unit: str) -> str:
    """A small value with the prefix that leaves it between 1 and 1000: ``187 µg``."""
    for scale, prefix in _PREFIXES:
        if abs(value) >= scale or (scale, prefix) == _PREFIXES[-1]:
            return f"{value / scale:.3g} {prefix}{unit}"
    raise AssertionError
