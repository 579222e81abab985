"""The ledger of a run as tables: who took what, what is nobody's, and how each column is known.

Refused here: sums; they are ``twin.ledger.statements``'.
"""

from __future__ import annotations

from collections.abc import Sequence

from underlay.twin.ledger.breakdown import breakdown
from underlay.twin.run_ledger import Line, RunLedger

from .markup import Html, details, table
from .wording import NOTHING, clip, number, quantity, scale

#: Columns of a table of requests, and what they are called there.
SHOWN = {
    "energy_joules": "energy",
    "overhead_joules": "overhead",
    "network_joules": "network, beside",
    "idle_beside_joules": "idle, beside",
    "carbon_location_g": "carbon, location",
    "carbon_market_g": "carbon, market",
    "carbon_marginal_g": "carbon, marginal",
    "embodied_g": "embodied",
    "water_on_site_ml": "water on site",
    "water_off_site_ml": "water off site",
    "accelerator_usd": "accelerators",
    "electricity_usd": "electricity",
    "overhead_usd": "overhead",
    "own_cost_usd": "own cost",
    "revenue_usd": "revenue",
    "margin_usd": "margin",
}
#: Where joules went that were not for an answer, or not for a request.
ACCOUNTS = {
    "busy_joules": "busy",
    "scheduler_waste_joules": "computed again",
    "failed_attempts_joules": "failed attempts",
    "abandoned_streams_joules": "abandoned",
    "host_joules": "host",
    "overhead_joules": "overhead",
    "idle_provisioned_joules": "idle",
    "host_shared_joules": "host, shared",
}


def ledger_tables(ledger: RunLedger) -> list[Html]:
    """Everything of a ledger but its rows."""
    by_group = [
        _table(lines, SHOWN, f"By {kind}.")
        for kind, lines in ledger.groups.items()
        if len(lines) > 1 or kind == "tenant"
    ]
    whole = [*(line._replace(name=f"{line.name}: requests") for line in ledger.groups["region"]),
             *(line._replace(name=f"{line.name}: nobody's") for line in ledger.nobodys)]  # fmt: skip
    accounts = _table(whole, ACCOUNTS, "Every joule of every region up to its feeder, by account.")
    return [*by_group, accounts, _breakdown(ledger), details("How each column is known", _methods(ledger))]


def _table(lines: Sequence[Line], columns: dict[str, str], caption: str) -> Html:
    told = {name: heading for name, heading in columns.items() if any(name in line.figures for line in lines)}
    most = {name: max(abs(line.value(name)) for line in lines) for name in told}
    units = {name: next(line.figures[name].unit for line in lines if name in line.figures) for name in told}
    scales = {name: scale(units[name], most[name]) for name in told}
    rows = [
        [clip(line.name or "(unnamed)", 80), number(line.requests),
         *(scales[name].number(line.value(name)) if name in line.figures else NOTHING for name in told)]
        for line in lines
    ]  # fmt: skip
    heads = [f"{heading} ({scales[name].unit})" for name, heading in told.items()]
    return table(("name", "requests", *heads), rows, caption)


def _breakdown(ledger: RunLedger) -> Html:
    parts = breakdown(ledger)
    prompts = max(ledger.total.requests, 1.0)
    rows = [
        (name, quantity(joules, "J"), quantity(joules / prompts, "J"), f"{parts.shares().get(name, 0.0):.1%}")
        for name, joules in parts._asdict().items()
    ]
    caption = "In the parts of the breakdown that Google published for Gemini: 58, 25, 10 and 8 %."
    return table(("part", "energy", "by request", "share"), rows, caption)


def _methods(ledger: RunLedger) -> Html:
    found = {name: figure for line in (ledger.total, *ledger.nobodys) for name, figure in line.figures.items()}
    found |= ledger.total.figures
    rows = [
        (
            name,
            figure.method,
            clip(figure.boundary),
            NOTHING if figure.uncertainty is None else "± " + quantity(figure.uncertainty, figure.unit),
        )
        for name, figure in found.items()
    ]
    return table(("column", "method", "boundary", "uncertainty of the sum"), rows, "Columns of the ledger.")
