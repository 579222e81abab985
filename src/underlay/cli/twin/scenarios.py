"""``underlay twin scenarios``: those that come along, to run as they are or to begin one's own from."""

from __future__ import annotations

import json
from typing import Any

import click

from underlay.cli import _says
from underlay.cli._options import json_option
from underlay.cli._says import NOT_FOUND, Failure
from underlay.cli.twin import _running


@click.command()
@click.argument("name", required=False)
@click.option("--schema", is_flag=True, help="Print the JSON schema of scenario files, for editors.")
@json_option
def command(name: str | None, schema: bool, as_json: bool) -> None:
    """List the scenarios that come along, or print one.

    \b
    Examples:
      underlay twin scenarios
      underlay twin scenarios one-site > my-site.yaml
      underlay twin scenarios --schema > scenario.schema.json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    from underlay.twin import scenario

    known = scenario.shipped()
    if schema:
        _says.result(json.dumps(scenario.schema(), indent=2))
        return
    if name is not None and name not in known:
        message = f"no scenario '{name}' comes along; there are: {', '.join(known) or 'none'}"
        raise Failure("not_found", message, "underlay twin scenarios", exit_code=NOT_FOUND)
    if name is not None and not as_json:
        _says.result(known[name].read_text(encoding="utf-8").rstrip("\n"))
        return
    rows: list[dict[str, Any]] = []
    for each in [name] if name else known:
        read = _running.read(each, {})
        rows.append({"name": each, "about": read.about, "duration_s": read.duration, "path": str(known[each])})
    if as_json:
        _says.result_json("twin scenarios", {"scenarios": rows})
    else:
        cells = [[row["name"], _says.span(row["duration_s"]), row["about"]] for row in rows]
        _says.result(_says.table(["name", "simulates", "about"], cells))
