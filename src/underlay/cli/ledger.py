"""``underlay ledger``: what was used and what it cost, added up from the store."""

from __future__ import annotations

import csv
import io
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from underlay.cli import _says, _target
from underlay.cli._options import json_option, place_options, span_s

if TYPE_CHECKING:
    from underlay.live.store import LedgerSum

HEADS = ["requests", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd"]


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
    "--by", type=click.Choice(["tenant", "key", "model", "day"]), default="tenant", show_default=True, help="Group."
)
@click.option("--since", type=moment_s, metavar="DAY|SPAN", help="From this UTC day on, or this long ago.")
@click.option("--until", type=moment_s, metavar="DAY|SPAN", help="Until before this UTC day.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@place_options
@json_option
def command(
    by: Literal["tenant", "key", "model", "day"],
    since: float | None,
    until: float | None,
    as_csv: bool,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Add up what was used and what it cost.

    Every request is charged once; amounts are exact.

    \b
    Examples:
      underlay ledger
      underlay ledger --by day --since 30d
      underlay ledger --by model --since 2026-11-01 --until 2026-12-01 --csv
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    sums, total = _read(_target.data_dir(data_dir, config, os.environ), by, since, until)
    if as_json:
        period = {"since_s": since, "until_s": until}
        rows = [_fields(by, row) for row in sums]
        _says.result_json("ledger", {"by": by, **period, "rows": rows, "total": _fields(by, total)})
    elif as_csv:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([by, *HEADS])
        writer.writerows([_formula_free(row.group), *_figures(row)] for row in sums)
        _says.result(text.getvalue().rstrip("\n"))
    else:
        rows_and_total = [[row.group, *_figures(row)] for row in sums] + [["total", *_figures(total)]]
        _says.result(_says.table([by, *(head.replace("_", " ") for head in HEADS)], rows_and_total))


def _read(
    folder: Path, by: Literal["tenant", "key", "model", "day"], since_s: float | None, until_s: float | None
) -> tuple[list[LedgerSum], LedgerSum]:
    from underlay.domain.answer import Usage
    from underlay.live.store import LedgerSum, Store, store_path

    if not store_path(folder).exists():
        return [], LedgerSum("", 0, Usage(), 0)
    with Store(folder) as store:
        period = {"since_s": since_s, "until_s": until_s}
        return store.ledger_sums(by, **period), store.totals(**period)


def _figures(row: LedgerSum) -> list[str]:
    from underlay.domain.money import usd

    usage = row.usage
    counts = (row.requests, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    return [*(str(count) for count in counts), usd(row.cost_pico_usd)]


def _fields(by: str, row: LedgerSum) -> dict[str, Any]:
    from underlay.domain.money import usd

    return {
        by: row.group,
        "requests": row.requests,
        "prompt_tokens": row.usage.prompt_tokens,
        "cached_tokens": row.usage.cached_tokens,
        "completion_tokens": row.usage.completion_tokens,
        "cost_usd": usd(row.cost_pico_usd),
    }


def _formula_free(text: str) -> str:
    """A name that a spreadsheet will not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
