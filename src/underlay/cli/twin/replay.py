"""``underlay twin replay``: the same decisions again, from a recording; and its joules, as near as it comes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from underlay.cli import _says
from underlay.cli._options import json_option
from underlay.cli._says import FINDINGS, NOT_FOUND, USAGE, Failure
from underlay.cli.twin import _energy


@click.command()
@click.argument("journals", metavar="JOURNAL…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--energy", is_flag=True, help="Also run the requests again on modelled engines, and compare their joules."
)
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="[MODEL=]PROFILE",
    help="With --energy: a file of 'underlay calibrate': step times, joules.  [default: fitted to the journal]",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context, journals: tuple[Path, ...], energy: bool, profiles: tuple[str, ...], as_json: bool
) -> None:
    """Replay journals; the decisions must come out exactly the same.

    Exit code 6 if any of them differs. With --energy the recorded requests are run again in the twin, and what
    each took there is told beside what was settled live: a model, which nothing is gated on.

    \b
    Examples:
      underlay twin replay ~/.local/share/underlay/journal/*
      underlay twin replay incident.journal --json
      underlay twin replay incident.journal --energy --profile my-engine.profile.json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    missing = [path for path in journals if not path.exists()]
    if missing:
        names = ", ".join(str(path) for path in missing)
        raise Failure("not_found", f"no such journal: {names}", exit_code=NOT_FOUND)
    if profiles and not energy:
        raise Failure("usage", "--profile is for --energy", "underlay twin replay --help", exit_code=USAGE)
    reports = [_replayed(path) for path in journals]
    compared = [_energy.compared(path, profiles) for path in journals] if energy else []
    equal = all(report["equal"] for report in reports)
    if as_json:
        told = {"energy": [_energy.fields(report) for report in compared]} if energy else {}
        _says.result_json("twin replay", {"equal": equal, "journals": reports, **told})
    else:
        heads = ["journal", "events", "effects", "spans", "replayed in", "decisions"]
        _says.result(_says.table(heads, [_row(report) for report in reports]))
        for report in compared:
            _says.result(_energy.told(report))
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
