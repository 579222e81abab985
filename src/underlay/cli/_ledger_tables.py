"""The ledger's lines: charges and energy of a group side by side, and below them what is nobody's.

The column ``energy_joules`` of all lines together is what the meters counted. A cell whose value nobody knows is
empty in tables and CSV, and null in JSON.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from underlay.domain.answer import Usage
from underlay.domain.money import usd
from underlay.live.store_energy_sums import COST_PARTS, FIGURES, EnergyLedger, EnergySum, NobodysSum
from underlay.live.store_schema import MICRO
from underlay.live.store_sums import LedgerSum

CHARGES = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd")
ENERGY = ("account", "energy_joules", "energy_method", "energy_accounts", "unmetered_requests", *FIGURES)
OWN = (*(f"{part}_usd" for part in COST_PARTS), "own_cost_usd", "own_cost_lacks", "margin_usd")
COLUMNS = (*CHARGES, *ENERGY, *OWN)
_SHORT = ("energy_joules", "energy_method", "carbon_location_g", "water_on_site_ml", "own_cost_usd", "margin_usd")
#: Less than this is left over by rounding and not worth a line on a screen; CSV and JSON have it.
_SHOWN_MICROJOULES = 500


class Line(NamedTuple):
    """What is known of a group, or of an account that is nobody's, by column; what is unknown is not in it."""

    group: str
    cells: dict[str, Any]


def lines(charges: Sequence[LedgerSum], energy: EnergyLedger) -> list[Line]:
    """A line for each group that was charged or metered, in the order of their names, then what is nobody's."""
    charged = {one.group: one for one in charges}
    metered = {one.group: one for one in energy.groups}
    groups = [line(charged.get(group), metered.get(group), group) for group in sorted({*charged, *metered})]
    return [*groups, *(_nobodys(one) for one in energy.nobodys)]


def line(charge: LedgerSum | None, energy: EnergySum | None, group: str = "") -> Line:
    """Charges and energy of one group."""
    charge = charge or LedgerSum(group, 0, Usage(), 0)
    metered = energy.requests if energy is not None else 0
    cells: dict[str, Any] = {
        "requests": charge.requests,
        "prompt_tokens": charge.usage.prompt_tokens,
        "cached_tokens": charge.usage.cached_tokens,
        "completion_tokens": charge.usage.completion_tokens,
        "cost_usd": usd(charge.cost_pico_usd),
        "unmetered_requests": max(0, charge.requests - metered),
    }
    if energy is not None and energy.requests:
        cells |= _energy(energy) | _own(energy)
    return Line(group, cells)


def _energy(energy: EnergySum) -> dict[str, Any]:
    accounts = {account: joules(micro) for account, micro in sorted(energy.accounts.items())}
    return {
        "energy_joules": joules(energy.microjoules),
        "energy_method": energy.method,
        "energy_accounts": accounts,
        **energy.figures,
    }


def _own(energy: EnergySum) -> dict[str, Any]:
    if not energy.cost_pico_usd:
        return {}
    own = sum(energy.cost_pico_usd.values())
    cells = {f"{part}_usd": usd(amount) for part, amount in energy.cost_pico_usd.items()}
    cells |= {"own_cost_usd": usd(own), "own_cost_lacks": " ".join(energy.cost_lacks)}
    if not energy.cost_lacks:
        cells["margin_usd"] = usd(energy.charged_pico_usd - own)
    return cells


def _nobodys(one: NobodysSum) -> Line:
    cells = {"account": one.account, "energy_joules": joules(one.microjoules), "energy_method": one.method}
    return Line(one.group, cells)


def joules(microjoules: int) -> Decimal:
    """Microjoules in joules, exactly."""
    return Decimal(microjoules).scaleb(-6)


def to_json(by: str, found: Line) -> dict[str, Any]:
    """A line as JSON; joules are numbers, money stays exact text."""
    told = {name: _number(found.cells.get(name)) for name in COLUMNS}
    return {by: found.group, **told}


def nobodys_json(by: str, found: Sequence[Line]) -> list[dict[str, Any]]:
    """The lines of what is nobody's as JSON."""
    names = ("account", "energy_joules", "energy_method")
    return [
        {by: one.group, **{name: _number(one.cells[name]) for name in names}} for one in found if _is_nobodys(one)
    ]


def _is_nobodys(one: Line) -> bool:
    return "account" in one.cells


def groups_of(found: Iterable[Line]) -> list[Line]:
    """The lines of groups, without those of what is nobody's."""
    return [one for one in found if not _is_nobodys(one)]


def _number(cell: Any) -> Any:
    if isinstance(cell, Decimal):
        return float(cell)
    if isinstance(cell, dict):
        return {name: _number(value) for name, value in cell.items()}
    return cell


def to_csv(by: str, found: Iterable[Line]) -> str:
    """Every line and column, as comma-separated values."""
    return csv_text((by, *COLUMNS), ((one.group, *(one.cells.get(name) for name in COLUMNS)) for one in found))


def csv_text(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Comma-separated values; unknown is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_text(cell) for cell in row] for row in rows)
    return text.getvalue()


def _text(cell: Any) -> str:
    if isinstance(cell, dict):
        return ";".join(f"{name}={_text(value)}" for name, value in cell.items())
    if isinstance(cell, Decimal | float):
        return plain(cell)
    return "" if cell is None else formula_free(str(cell))


def plain(value: Decimal | float) -> str:
    """A number without exponent and trailing zeros."""
    text = f"{Decimal(repr(value)) if isinstance(value, float) else value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def formula_free(text: str) -> str:
    """A name that a spreadsheet will not take for a formula; a number below 0 stays one."""
    if text.startswith(("=", "+", "-", "@", "\t", "\r")) and not text.removeprefix("-").replace(".", "").isdigit():
        return f"'{text}"
    return text


def to_table(by: str, found: Sequence[Line], total: Line) -> tuple[list[str], list[list[str]]]:
    """Heads and rows for a screen: of energy and own cost only the columns in which anything is known."""
    shown = [one for one in found if not _is_nobodys(one) or abs(_microjoules(one)) >= _SHOWN_MICROJOULES]
    names = [*CHARGES, *(name for name in _SHORT if any(name in one.cells for one in shown))]
    heads = [by, *(name.replace("_", " ") for name in names)]
    rows = [[_name(one), *_shown(one, names)] for one in shown]
    return heads, [*rows, ["total", *_shown(total, names)]]


def _microjoules(one: Line) -> int:
    return int(one.cells["energy_joules"] * MICRO)


def _name(one: Line) -> str:
    return f"{one.group} ({one.cells['account']})".strip() if _is_nobodys(one) else one.group


def _shown(one: Line, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        cell = one.cells.get(name)
        yield _rounded(float(cell)) if isinstance(cell, Decimal | float) else ("" if cell is None else str(cell))


def _rounded(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 100.0 else f"{value:.3g}"


def whole(total: LedgerSum, energy: EnergyLedger) -> Line:
    """The last row of a table: everything, so its joules are what the meters counted."""
    found = line(total, energy.total)
    everything = energy.total.microjoules + sum(one.microjoules for one in energy.nobodys)
    return Line("", found.cells | ({"energy_joules": joules(everything)} if energy.meters else {}))
