"""``underlay twin compare``: several scenarios, or one with other settings, side by side with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from underlay.cli import _says
from underlay.cli._options import json_option
from underlay.cli._says import FINDINGS
from underlay.cli.twin import _branching, _running
from underlay.cli.twin._options import Setting, simulation_options, span_s, variants_option

if TYPE_CHECKING:
    from underlay.twin.experiment import Experiment, Variant
    from underlay.twin.scenario import Scenario
    from underlay.twin.trials import Run

#: What decides whether a variant is worse than the first: requests served as promised.
DECISIVE = "goodput"


@click.command()
@click.argument("scenarios", metavar="FILE|NAME…", nargs=-1, required=True)
@variants_option("Another variant of the one scenario; one alone is compared with the scenario as it is.")
@click.option(
    "--from",
    "from_",
    metavar="SPAN",
    help="Let all variants go on from one and the same state at that time; only what a desk goes by may differ.",
)
@simulation_options(seeds=5)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    scenarios: tuple[str, ...],
    others: list[tuple[Setting, ...]],
    from_: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare scenarios, or settings of one, by the same seeds.

    Equal seeds give every variant the same crowd and the same failures; differences are taken by seed, and a
    verdict needs a 95 % interval that does not hold 0. Exit code 6 if the goodput of any variant is worse than the
    first's.

    \b
    Examples:
      underlay twin compare one-site my-site.yaml
      underlay twin compare one-site --with policies.routing=random
      underlay twin compare one-site --with policies.routing=sticky --with policies.routing=random --seeds 10
      underlay twin compare one-site --with policies.routing=random --from 5min
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    asked = _running.Asked(**options)
    first, variants = _variants(scenarios, others, asked)
    run = _branched(from_, scenarios[0], variants, first, asked) if from_ is not None else None
    experiment, files = _running.conduct("compare", variants, first, asked, run)

    from underlay.cli.twin import _words

    names = [variant.name for variant in variants]
    if as_json:
        compared = [
            {
                "first": names[0],
                "second": name,
                "figures": _words.differences_json(experiment.differences(names[0], name)),
            }
            for name in names[1:]
        ]
        _says.result_json("twin compare", {**_words.as_json(experiment, files), "comparisons": compared})
    else:
        _words.tell(experiment, *(_words.differences(experiment, names[0], name) for name in names[1:]))
    _running.finish(ctx, experiment, files, FINDINGS * _worse(experiment, names))


def _branched(from_: str, file: str, variants: Sequence[Variant], first: Scenario, asked: _running.Asked) -> Run:
    """Variants that part at a time. What would have to be otherwise from the beginning is refused."""
    from_s = span_s(from_, "--from")
    changed = {
        key for variant in variants for key, value in variant.changes if (key, value) not in asked.settings.items()
    }
    if len({variant.file for variant in variants}) > 1 or any(not _branching.may_change(key) for key in changed):
        raise click.UsageError("--from: variants of one scenario may differ in policies of the desk only")
    if first.level == "fluid":
        raise click.UsageError("--from: flows have no state to go on from; --set level=requests")
    if from_s >= first.duration:
        raise click.UsageError(f"--from: the run is over at {_says.span(first.duration)}")
    shared = tuple(asked.settings.items())
    return partial(_branching.branched, check=asked.check, file=file, shared=shared, from_s=from_s)


def _worse(experiment: Experiment, names: Sequence[str]) -> bool:
    found = [each for name in names[1:] for each in experiment.differences(names[0], name) if each.name == DECISIVE]
    return any(each.verdict == "worse" for each in found)


def _variants(
    scenarios: Sequence[str], others: Sequence[tuple[Setting, ...]], asked: _running.Asked
) -> tuple[Scenario, list[Variant]]:
    """The variants and the first scenario; all are read, so that what is wrong is said before anything runs."""
    from underlay.twin.experiment import Variant

    if len(scenarios) > 1 and others:
        raise click.UsageError("--with varies one scenario; with several, give each its own file")
    if len(scenarios) == 1 and not others:
        raise click.UsageError("nothing to compare with: give another scenario, or --with SETTING=VALUE")
    shared = asked.settings
    if not others:
        read = [_running.read(file, shared) for file in scenarios]
        names = _told_apart([each.name for each in read], scenarios)
        return read[0], [
            Variant(name, file, tuple(shared.items())) for name, file in zip(names, scenarios, strict=True)
        ]
    file = scenarios[0]
    given = [(), *others] if len(others) == 1 else list(others)
    read = [_running.read(file, {**shared, **dict(changes)}) for changes in given]
    names = [", ".join(f"{key}={value}" for key, value in changes) or read[0].name for changes in given]
    changed = [tuple({**shared, **dict(changes)}.items()) for changes in given]
    return read[0], [
        Variant(name, file, changes) for name, changes in zip(_told_apart(names, names), changed, strict=True)
    ]


def _told_apart(names: Sequence[str], files: Sequence[str]) -> list[str]:
    """Names that differ: those of scenarios, or else of files, or else with a number."""
    told = list(names) if len(set(names)) == len(names) else [str(Path(file)) for file in files]
    if len(set(told)) == len(told):
        return told
    return [f"{name} ({number + 1})" for number, name in enumerate(told)]
