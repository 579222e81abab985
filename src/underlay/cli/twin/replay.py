"""``underlay twin replay``: the same decisions again, from a recording."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from underlay.cli import _says
from underlay.cli._options import json_option
from underlay.cli._says import FINDINGS, NOT_FOUND, Failure


@click.command()
@click.argument("journals", metavar="JOURNAL…", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def command(ctx: click.Context, journals: tuple[Path, ...], as_json: bool) -> None:
    """Replay journals; the decisions must come out exactly the same.

    Exit code 6 if any of them differs.

    \b
    Examples:
      underlay twin replay ~/.local/share/underlay/journal/*
      underlay twin replay incident.journal --json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    missing = [path for path in journals if not path.exists()]
    if missing:
        names = ", ".join(str(path) for path in missing)
        raise Failure("not_found", f"no such journal: {names}", exit_code=NOT_FOUND)
    reports = [_replayed(path) for path in journals]
    equal = all(report["equal"] for report in reports)
    if as_json:
        _says.result_json("twin replay", {"equal": equal, "journals": reports})
    else:
        heads = ["journal", "events", "effects", "spans", "replayed in", "decisions"]
        _says.result(_says.table(heads, [_row(report) for report in reports]))
    if not equal:
        ctx.exit(FINDINGS)


def _replayed(path: Path) -> dict[str, Any]:
    import msgspec

    from underlay.control.journal import JournalError
    from underlay.twin.replay import replay as replay_one

    _says.progress(f"replaying {path}")
    began_s = time.perf_counter()
    try:
        report = replay_one(path)
    except (OSError, JournalError) as error:
        raise Failure("unreadable", f"{path} cannot be read as a journal: {error}") from None
    return {**msgspec.to_builtins(report), "seconds": round(time.perf_counter() - began_s, 3)}


def _row(report: dict[str, Any]) -> list[str]:
    return [
        report["path"],
        str(report["events"]),
        str(report["effects"]),
        _says.span(report["span_s"]),
        f"{report['seconds']:.2f} s",
        "equal" if report["equal"] else f"differ: {report['first_difference']}",
    ]
