"""``underlay twin``: ask the modelled world, and decide recorded days again."""

from __future__ import annotations

import click

from underlay.cli.twin import compare, replay, run, scenarios, sweep, what_if


@click.group()
def command() -> None:
    """Try plans, policies and outages on a modelled world.

    The twin runs the same decisions as the live platform, against modelled engines, sites and crowds.

    \b
    Examples:
      underlay twin scenarios
      underlay twin run one-site
      underlay twin compare one-site --with policies.routing=random
      underlay twin what-if incident.journal --with routing=random
    """  # noqa: D301  # click's mark for text that is not to be wrapped


for _name, _verb in {
    "run": run.command,
    "compare": compare.command,
    "sweep": sweep.command,
    "scenarios": scenarios.command,
    "replay": replay.command,
    "what-if": what_if.command,
}.items():
    command.add_command(_verb, _name)
