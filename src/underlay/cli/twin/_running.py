"""From a command line to an experiment: scenarios read, runs made, files written, the end said."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import click

from underlay.cli import _says
from underlay.cli._says import INTERRUPTED, INVALID, NOT_FOUND, Failure
from underlay.cli.twin import _progress
from underlay.cli.twin._interrupt import interruptible

if TYPE_CHECKING:
    from underlay.twin.experiment import Experiment, Variant
    from underlay.twin.records import RunResult
    from underlay.twin.scenario import Scenario
    from underlay.twin.summary import Summary
    from underlay.twin.trials import Ended, Progress, Run, Stop


class Asked(NamedTuple):
    """What the options of ``simulation_options`` say."""

    seed: int | None
    seeds: int
    changes: Sequence[tuple[str, str]]
    duration: str | None
    report: Path | None
    no_report: bool
    requests: Path | None
    series: Path | None
    jobs: int | None
    check: bool
    quiet: bool

    @property
    def settings(self) -> dict[str, Any]:
        """The settings to change in every scenario."""
        return {**dict(self.changes), **({"duration": self.duration} if self.duration else {})}


@contextmanager
def scenario_errors() -> Iterator[None]:
    """A scenario that cannot be used, in the command line's words."""
    from underlay.twin.scenario import ScenarioError
    from underlay.twin.world.mistake import ScenarioMistake

    try:
        yield
    except (ScenarioError, ScenarioMistake) as error:
        hint = "underlay twin scenarios --schema describes scenario files"
        raise Failure("scenario_invalid", str(error), hint, exit_code=INVALID) from None


def read(file: str, settings: Mapping[str, Any]) -> Scenario:
    """The scenario in a file, or the one of that name that comes along."""
    from underlay.twin import scenario

    with scenario_errors():
        bare = not Path(file).suffix and len(Path(file).parts) == 1
        if not Path(file).exists() and not (bare and file in scenario.shipped()):
            known = ", ".join(scenario.shipped())
            message = f"no such scenario: {file}; those that come along: {known or 'none'}"
            raise Failure("not_found", message, "underlay twin scenarios", exit_code=NOT_FOUND)
        return scenario.read(file, settings)


def simulate(variant: Variant, seed: int, progress: Progress, stop: Stop, *, check: bool) -> RunResult:
    """One run of a variant; other processes call it by name."""
    from underlay.twin import simulation
    from underlay.twin.scenario import read as read_scenario

    scenario = read_scenario(variant.file, dict(variant.changes))
    result = simulation.run(scenario, seed, progress=progress, check=check, stop=stop)
    result.variant = variant.name
    return result


class Subject(Protocol):
    """What is simulated: a scenario, or a recorded hour."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def seed(self) -> int:
        """The first of its seeds."""

    @property
    def duration(self) -> float:
        """How many seconds are simulated."""


def conduct(
    kind: str,
    variants: Sequence[Variant],
    first: Subject,
    asked: Asked,
    run: Run | None = None,
    also: Sequence[Summary] = (),
) -> tuple[Experiment, dict[str, str]]:
    """Run everything, write what was asked for, and return it with the paths of the files.

    ``run`` is for what is no scenario; ``also`` are summaries of what was not simulated, told beside the rest.
    """
    from underlay.twin import experiment, trials

    files = _files(first.name, asked)
    seed = first.seed if asked.seed is None else asked.seed
    seeds = list(range(seed, seed + asked.seeds))
    planned = experiment.trials_of(variants, seeds)
    rows = asked.requests is not None or asked.series is not None
    jobs = asked.jobs or trials.cores()
    try:
        with scenario_errors(), interruptible() as stop:
            if not asked.quiet:
                runs = "1 run" if len(planned) == 1 else f"{len(planned)} runs"
                name = _says.harmless(first.name)
                _says.progress(f"simulating {name} for {_says.span(first.duration)}: {runs}")
            with _progress.shown(len(planned), quiet=asked.quiet) as watch:
                run = run or partial(simulate, check=asked.check)
                ended = trials.conduct(planned, run, stop, jobs=jobs, watch=watch, keep_rows=rows)
    except trials.RunLost as error:
        raise Failure("run_lost", str(error), "--jobs 1, or a shorter run with --for") from None
    found = experiment.experiment_of(variants, seeds, ended)
    for summary in also:
        found.summaries[summary.variant] = [summary]
        found.planned += 1
    _write(kind, found, ended, files)
    return found, {name: str(path) for name, path in files.items()}


def finish(ctx: click.Context, experiment: Experiment, files: Mapping[str, str], exit_code: int = 0) -> None:
    """Say where the files are and whether something is missing, and end with the exit code that tells it."""
    for name, path in files.items():
        _says.progress(f"{name}: {path}")
    if experiment.partial:
        ran = [run for runs in experiment.summaries.values() for run in runs]
        whole = sum(not run.partial for run in ran)
        told = f"{whole} of {experiment.planned} runs are whole, {len(ran) - whole} cut short"
        _says.progress(f"interrupted: {told}; everything written says so")
        ctx.exit(INTERRUPTED)
    if exit_code:
        ctx.exit(exit_code)


def _files(name: str, asked: Asked) -> dict[str, Path]:
    """What is to be written where; tried now, so that nobody waits for hours in vain."""
    from underlay.domain.errors import BadRequest
    from underlay.twin.report import exports

    files: dict[str, Path] = {}
    try:
        if not asked.no_report:
            files["report"] = asked.report or Path(f"{_slug(name)}-report.html")
            exports.check_place(files["report"])
        for what, path in (("requests", asked.requests), ("series", asked.series)):
            if path is not None:
                files[what] = path
                exports.check_path(path)
    except BadRequest as error:
        raise click.UsageError(str(error)) from None
    return files


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "twin"


def _write(kind: str, experiment: Experiment, ended: Sequence[Ended], files: Mapping[str, Path]) -> None:
    from underlay.twin.report import exports
    from underlay.twin.report.files import write_text
    from underlay.twin.report.html import page

    results = [each.result for each in ended if each.result is not None]
    try:
        if "report" in files:
            write_text(files["report"], page(experiment, kind=kind, command=_command()))
        if "requests" in files:
            exports.write_requests(files["requests"], results)
        if "series" in files:
            exports.write_series(files["series"], results)
    except OSError as error:
        raise Failure("unwritable", f"{error}", "--report, --requests or --series with another path") from None


def _command() -> str:
    """What was typed, for whoever wants it again."""
    return shlex.join(["underlay", *sys.argv[1:]])
