"""``underlay ledger``: what was used, what it cost and what it took, added up from the store."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from underlay.cli import _says, _target
from underlay.cli._options import json_option, place_options, span_s
from underlay.live import locate

if TYPE_CHECKING:
    from underlay.live.store_energy_sums import EnergyLedger
    from underlay.live.store_sums import Group, LedgerSum

By = Literal["tenant", "key", "model", "region", "day"]


def moment_s(value: str) -> float:
    """Unix seconds from a UTC day (``2026-11-23``) or a length of time ago (``7d``)."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        try:
            return datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise click.BadParameter(f"{value} is no day") from None
    try:
        return time.time() - span_s(value)
    except click.BadParameter:
        raise click.BadParameter(
            f"'{value}' is neither a day such as 2026-11-23 nor a time ago such as 7d"
        ) from None


@click.command()
@click.option(
    "--by",
    type=click.Choice(["tenant", "key", "model", "region", "day"]),
    default="tenant",
    show_default=True,
    help="Group.",
)
@click.option("--since", type=moment_s, metavar="DAY|SPAN", help="From this UTC day on, or this long ago.")
@click.option("--until", type=moment_s, metavar="DAY|SPAN", help="Until before this UTC day.")
@click.option("--csv", "as_csv", is_flag=True, help="Print all columns as comma-separated values.")
@click.option(
    "--focus",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE.csv",
    help="Write the period as FOCUS 1.2: a row for each day, tenant, model and region.",
)
@place_options
@json_option
def command(
    by: By,
    since: float | None,
    until: float | None,
    as_csv: bool,
    focus: Path | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Add up what was used, what it cost, and whose the joules were.

    Every request is charged once; amounts are exact. Where meters count, the joules of all lines together are what
    they counted: lines in brackets are nobody's, such as idle time. An empty cell is unknown, never 0.

    cost_usd is what was charged, own_cost_usd what metered requests cost us as far as that is known, margin_usd
    what is left of the charge for these, where all of the cost is known.
    A request is of the period in which it ended; meters are counted by whole hours, those that begin in the
    period, and what lies across its edges is told as carried_over.

    \b
    Examples:
      underlay ledger
      underlay ledger --by day --since 30d
      underlay ledger --by model --since 2026-11-01 --until 2026-12-01 --csv
      underlay ledger --since 2026-11-01 --until 2026-12-01 --focus november.csv
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    if focus is not None and as_csv:
        raise click.UsageError("--csv prints the ledger and --focus writes a file: ask for one of them")
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since must be before --until: the period is empty")
    group: Group = "cell" if focus is not None else by
    found = _read(_target.data_dir(data_dir, config, os.environ), group, since, until)
    _warn(found[2])
    if focus is not None:
        _write_focus(focus, *found, as_json=as_json)
    elif as_json:
        _tell_json(by, since, until, *found)
    else:
        _tell(by, *found, as_csv=as_csv)


def _read(
    folder: Path, by: Group, since_s: float | None, until_s: float | None
) -> tuple[list[LedgerSum], LedgerSum, EnergyLedger]:
    from underlay.domain.answer import Usage
    from underlay.live.store import Store, store_path
    from underlay.live.store_energy_sums import nothing
    from underlay.live.store_sums import LedgerSum

    if not store_path(folder).exists():
        return [], LedgerSum("", 0, Usage(), 0), nothing()
    running = locate.find(folder) is not None
    period = {"since_s": since_s, "until_s": until_s}
    with Store(folder) as store, store.snapshot():
        energy = store.energy_ledger(by, **period, running=running)
        return store.ledger_sums(by, **period), store.totals(**period), energy


def _warn(energy: EnergyLedger) -> None:
    if energy.difference_microjoules:
        from underlay.cli._ledger_tables import joules, plain

        by = plain(joules(energy.difference_microjoules))
        _says.progress(f"the meters counted {by} J more than the accounts have: this is a fault of Underlay")


def _tell(by: By, charges: list[LedgerSum], total: LedgerSum, energy: EnergyLedger, *, as_csv: bool) -> None:
    from underlay.cli import _ledger_tables as tables

    lines = tables.lines(charges, energy)
    if as_csv:
        _says.result(tables.to_csv(by, lines).rstrip("\n"))
    else:
        _says.result(_says.table(*tables.to_table(by, lines, tables.whole(total, energy))))


def _tell_json(
    by: By,
    since_s: float | None,
    until_s: float | None,
    charges: list[LedgerSum],
    total: LedgerSum,
    energy: EnergyLedger,
) -> None:
    from underlay.cli import _ledger_tables as tables
    from underlay.live.store_schema import MICRO

    lines = tables.lines(charges, energy)
    _says.result_json(
        "ledger",
        {
            "by": by,
            "since_s": since_s,
            "until_s": until_s,
            "rows": [tables.to_json(by, line) for line in tables.groups_of(lines)],
            "total": tables.to_json(by, tables.line(total, energy.total)),
            "nobodys": tables.nobodys_json(by, lines),
            "meters": [
                {"meter": one.meter, "method": one.method, "joules": one.microjoules / MICRO}
                for one in energy.meters
            ],
            "metered_joules": energy.metered_microjoules / MICRO if energy.meters else None,
            "difference_joules": energy.difference_microjoules / MICRO if energy.meters else None,
        },
    )


def _write_focus(
    path: Path, charges: list[LedgerSum], total: LedgerSum, energy: EnergyLedger, *, as_json: bool
) -> None:
    from underlay.cli._focus import focus_csv
    from underlay.cli._ledger_tables import lines
    from underlay.domain.money import usd

    rows = lines(charges, energy)
    try:
        path.write_text(focus_csv(rows), encoding="utf-8", newline="")
    except OSError as error:
        hint = "name a file in a folder that is there and may be written to"
        raise _says.Failure("not_written", f"{path} cannot be written: {error.strerror}", hint) from None
    told = {"focus": str(path), "version": "1.2", "rows": len(rows), "billed_usd": usd(total.cost_pico_usd)}
    if as_json:
        _says.result_json("ledger", told)
    else:
        _says.result(f"{path}: {len(rows)} rows of FOCUS 1.2, {told['billed_usd']} USD billed")
