"""``underlay twin run``: one scenario, with one seed or several."""

from __future__ import annotations

from typing import Any

import click

from underlay.cli import _says
from underlay.cli._options import json_option
from underlay.cli.twin import _running
from underlay.cli.twin._options import simulation_options


@click.command()
@click.argument("scenario", metavar="FILE|NAME")
@simulation_options(seeds=1)
@json_option
@click.pass_context
def command(ctx: click.Context, /, scenario: str, as_json: bool, **options: Any) -> None:
    """Run a scenario and write its report.

    Prints the figures and writes a page with plots. Ctrl-C keeps what was simulated by then: the report says that
    it is partial, and the exit code is 130.

    \b
    Examples:
      underlay twin run one-site
      underlay twin run my-site.yaml --seeds 5 --for 10min
      underlay twin run my-site.yaml --set policies.routing=random --requests rows.parquet
      underlay twin run one-site --json --no-report
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    asked = _running.Asked(**options)
    read = _running.read(scenario, asked.settings)

    from underlay.cli.twin import _words
    from underlay.twin.experiment import Variant

    variant = Variant(read.name, scenario, tuple(asked.settings.items()))
    experiment, files = _running.conduct("run", [variant], read, asked)
    if as_json:
        _says.result_json("twin run", _words.as_json(experiment, files))
    else:
        _words.tell(experiment, _words.figures(experiment, variant.name), *_words.ledger(experiment, variant.name))
        hashes = ", ".join(run.trace_hash for run in experiment.summaries[variant.name])
        _says.progress(f"trace hash: {hashes}")
    _running.finish(ctx, experiment, files)
