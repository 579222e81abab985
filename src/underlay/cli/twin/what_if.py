"""``underlay twin what-if``: a recorded hour, decided again on other terms, beside what really became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import inf, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from underlay.cli import _says
from underlay.cli._options import json_option
from underlay.cli._says import INVALID, NOT_FOUND, Failure
from underlay.cli.twin import _energy, _running
from underlay.cli.twin._options import Setting, changes_option, recorded_options, span_s, variants_option

if TYPE_CHECKING:
    from underlay.twin.experiment import Difference, Experiment, Variant
    from underlay.twin.recorded.what_if import Question
    from underlay.twin.records import RunResult
    from underlay.twin.trials import Progress, Stop

#: What reports call the hour as it was: measured, and as the twin has it.
LIVE, AS_RECORDED = "live", "as recorded"


class _Subject(NamedTuple):
    """What is simulated, as ``_running.conduct`` wants to know it."""

    name: str
    seed: int
    duration: float


@click.command()
@click.argument("journal", type=click.Path(path_type=Path))
@variants_option(
    "A variant: settings of the desk, replicas=N (of each model), rate=X (times as many calls); repeatable."
)
@changes_option("Change a setting in every variant; the hour as recorded stays as it was.")
@click.option("--replicas", type=click.IntRange(1), metavar="N", help="In every variant: N replicas of each model.")
@click.option(
    "--scale-rate",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="In every variant: X times as many calls.",
)
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="[MODEL=]PROFILE",
    help="Step times: a file of 'underlay calibrate', or ACCELERATOR/MODEL.  [default: fitted to the journal]",
)
@click.option("--start", default="0s", metavar="SPAN", help="Where to begin, from the journal's first call on.")
@click.option("--stop", metavar="SPAN", help="Where to end.")
@click.option("--slo-ttft", default="2s", show_default=True, metavar="SPAN", help="Goodput: time to first token.")
@click.option("--slo-tpot", default="100ms", show_default=True, metavar="SPAN", help="Goodput: time per token.")
@recorded_options(seeds=3)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    journal: Path,
    others: list[tuple[Setting, ...]],
    changes: list[Setting],
    replicas: int | None,
    scale_rate: float | None,
    profiles: tuple[str, ...],
    start: str,
    stop: str | None,
    slo_ttft: str,
    slo_tpot: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Decide a recorded hour again under other settings, side by side.

    The journal's calls come again at the same times, its replicas come and go as they did, and the same desk
    decides, on modelled engines. First the hour as it was recorded, beside what was measured live: that is how far
    the twin can be believed here. Then each variant.

    \b
    Examples:
      underlay twin what-if ~/.local/share/underlay/journal/20260102T030405-99.journal
      underlay twin what-if incident.journal --with routing=random --with routing=least_requests
      underlay twin what-if incident.journal --start 1h --stop 2h --with replicas=4 --profile my-engine.profile.json
      underlay twin what-if incident.journal --scale-rate 2 --json --no-report
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    if not journal.exists():
        raise Failure(
            "not_found", f"no such journal: {journal}", "underlay twin replay --help", exit_code=NOT_FOUND
        )
    from underlay.twin.recorded import what_if

    asked = _running.Asked(seed=None, changes=(), duration=None, **options)
    question = what_if.Question(
        journal,
        tuple(_energy.profile(text) for text in profiles),
        span_s(start, "--start"),
        span_s(stop, "--stop") if stop is not None else inf,
        (("ttft", span_s(slo_ttft, "--slo-ttft")), ("tpot", span_s(slo_tpot, "--slo-tpot"))),
    )
    shared = [*changes, *_terms(replicas, scale_rate)]
    with _errors():
        variants = _variants(question, shared, others)
        measured = what_if.live(question)
    measured.variant = LIVE
    subject = _Subject(question.name, 0, question.outline().duration_s)
    run = partial(decide_again, question=question, check=asked.check)
    experiment, files = _running.conduct("what-if", variants, subject, asked, run, [measured])
    _tell(experiment, files, as_json=as_json)
    _running.finish(ctx, experiment, files)


def decide_again(
    variant: Variant, seed: int, progress: Progress, stop: Stop, *, question: Question, check: bool
) -> RunResult:
    """One run of a variant; other processes call it by name."""
    from underlay.twin.recorded import what_if

    result = what_if.run(question, dict(variant.changes), seed, progress=progress, stop=stop, check=check)
    result.variant = variant.name
    return result


def _variants(question: Question, shared: Sequence[Setting], others: Sequence[Sequence[Setting]]) -> list[Variant]:
    """The hour as recorded, and what is to be tried; all are looked at before anything runs."""
    from underlay.twin.experiment import Variant
    from underlay.twin.recorded import what_if

    file = str(question.path)
    found = [Variant(AS_RECORDED, file)]
    tried = others or ([()] if shared else [])
    for each in tried:
        changed = {**dict(shared), **dict(each)}
        name = ", ".join(f"{key}={value}" for key, value in (each or shared))
        if name not in {variant.name for variant in found}:
            found.append(Variant(name, file, tuple(changed.items())))
    for variant in found:
        what_if.check(question, dict(variant.changes))
    return found


def _tell(experiment: Experiment, files: dict[str, str], *, as_json: bool) -> None:
    from underlay.cli.twin import _words

    tried = [name for name in experiment.summaries if name not in {LIVE, AS_RECORDED}]
    near = experiment.differences(LIVE, AS_RECORDED)
    apart = {name: experiment.differences(AS_RECORDED, name) for name in tried}
    if as_json:
        told = {
            "calibration": {"first": LIVE, "second": AS_RECORDED, "figures": _words.differences_json(near)},
            "comparisons": [
                {"first": AS_RECORDED, "second": name, "figures": _words.differences_json(found)}
                for name, found in apart.items()
            ],
        }
        _says.result_json("twin what-if", {**_words.as_json(experiment, files), **told})
        return
    apart_from = (_words.differences(experiment, AS_RECORDED, name) for name in tried)
    _words.tell(experiment, _near(near), *apart_from)


def _near(found: Sequence[Difference]) -> str:
    """How near the twin is to what was measured, where both are known."""
    from underlay.twin.figures import title
    from underlay.twin.report.wording import percent, scale

    rows = []
    for each in found:
        if not isnan(each.first) and not isnan(each.second):
            told = scale(each.unit, max(abs(each.first), abs(each.second)))
            values = [told.number(value) for value in (each.first, each.second)]
            rows.append([title(each.name), *values, told.unit, percent(each.share)])
    return _says.table(["as recorded", "measured live", "by the twin", "unit", "off"], rows)


def _terms(replicas: int | None, scale_rate: float | None) -> list[Setting]:
    told = {"replicas": replicas, "rate": scale_rate}
    return [(name, f"{value:g}") for name, value in told.items() if value is not None]


@contextmanager
def _errors() -> Iterator[None]:
    """A journal, profile or setting that cannot be used, in the command line's words."""
    from underlay.documents.findings import DocumentError
    from underlay.domain.errors import BadRequest, NotFound

    try:
        yield
    except DocumentError as error:
        raise Failure("setting_invalid", str(error), "docs/how-to/routing.md", exit_code=INVALID) from None
    except (BadRequest, NotFound) as error:
        raise Failure("journal_unusable", error.message, "underlay twin what-if --help") from None
