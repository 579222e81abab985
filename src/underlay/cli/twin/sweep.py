"""``underlay twin sweep``: every combination of some settings' values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from underlay.cli import _says
from underlay.cli._options import json_option
from underlay.cli.twin import _running
from underlay.cli.twin._options import choices, converted, simulation_options


@click.command()
@click.argument("scenario", metavar="FILE|NAME")
@click.option(
    "--over",
    multiple=True,
    metavar="SETTING=VALUE,VALUE…",
    callback=converted(choices),
    help="A setting and its values; several make a grid.  [default: the scenario's own sweep]",
)
@simulation_options(seeds=3)
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, scenario: str, over: list[tuple[str, tuple[str, ...]]], as_json: bool, **options: Any
) -> None:
    """Sweep a scenario over values of its settings.

    Prints a row for each combination and which of them no other beats in both cost and latency; the report plots
    both, and throughput against latency.

    \b
    Examples:
      underlay twin sweep one-site --over models.0.replicas=2,4,8
      underlay twin sweep one-site --over policies.routing=sticky,random --over models.0.replicas=2,4 --seeds 5
      underlay twin sweep my-sweep.yaml --json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    asked = _running.Asked(**options)
    read = _running.read(scenario, asked.settings)

    from underlay.cli.twin import _words
    from underlay.twin.experiment import Variant
    from underlay.twin.scenario import grid

    swept: Mapping[str, Sequence[Any]] = dict(over) or read.sweep
    if not swept:
        raise click.UsageError("nothing to sweep: give --over SETTING=VALUE,VALUE, or a sweep in the scenario")
    points = grid(swept)
    changed = [{**asked.settings, **point.settings} for point in points]
    for settings in changed:
        _running.read(scenario, settings)
    variants = [
        Variant(point.name, scenario, tuple(settings.items()))
        for point, settings in zip(points, changed, strict=True)
    ]
    experiment, files = _running.conduct("sweep", variants, read, asked)
    cost, front = experiment.front()
    if as_json:
        _says.result_json("twin sweep", {**_words.as_json(experiment, files), "cost": cost, "front": front})
    else:
        _words.tell(experiment, _words.variants(experiment, front))
    _running.finish(ctx, experiment, files)
