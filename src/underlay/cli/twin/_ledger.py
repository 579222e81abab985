"""The ledger of a run for terminals and programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from underlay.cli import _says
from underlay.domain.figures import total
from underlay.twin.ledger.breakdown import breakdown
from underlay.twin.report.wording import NOTHING, number, quantity

if TYPE_CHECKING:
    from underlay.twin.run_ledger import Line, RunLedger

_COLUMNS = {
    "energy_joules": "energy",
    "overhead_joules": "overhead",
    "carbon_location_g": "carbon, location",
    "water_on_site_ml": "water on site",
    "accelerator_usd": "accelerators",
    "revenue_usd": "revenue",
}


def told(ledger: RunLedger) -> str:
    """A table by tenant, and what is nobody's."""
    lines = [*ledger.groups["tenant"], *map(_nobodys, ledger.nobodys)]
    columns = {name: title for name, title in _COLUMNS.items() if any(name in line.figures for line in lines)}
    rows = [
        [_says.harmless(line.name or "(unnamed)"), number(line.requests), *(_cell(line, name) for name in columns)]
        for line in lines
    ]
    return _says.table(["tenant", "requests", *columns.values()], rows)


def _nobodys(line: Line) -> Line:
    """The same with its energy in one sum, as requests have it."""
    joules = [line.figures["idle_provisioned_joules"], line.figures["host_shared_joules"]]
    return line._replace(name=f"nobody's, {line.name}", figures={**line.figures, "energy_joules": total(joules)})


def _cell(line: Line, name: str) -> str:
    return quantity(line.value(name), line.figures[name].unit) if name in line.figures else NOTHING


def as_json(ledger: RunLedger) -> dict[str, Any]:
    """All sums, each with how it is known; what nobody knows is not there."""
    return {
        "total": _line(ledger.total),
        **{kind: [_line(line) for line in lines] for kind, lines in ledger.groups.items()},
        "nobodys": [_line(line) for line in ledger.nobodys],
        "feeder_joules": ledger.fed_j,
        "breakdown_joules": breakdown(ledger)._asdict(),
    }


def _line(line: Line) -> dict[str, Any]:
    figures = {
        name: {
            "value": figure.value,
            "unit": figure.unit,
            "method": figure.method,
            "boundary": figure.boundary,
            **({} if figure.uncertainty is None else {"uncertainty": figure.uncertainty}),
        }
        for name, figure in line.figures.items()
    }
    return {"name": line.name, "requests": line.requests, "figures": figures}
