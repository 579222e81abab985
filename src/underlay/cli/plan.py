"""``underlay plan``: how many of which accelerator where, for a load and a promise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf, isinf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from underlay.cli import _says
from underlay.cli._options import json_option
from underlay.cli._plan_options import candidates, clients, plan_options
from underlay.cli._says import FINDINGS, INTERRUPTED, Failure

if TYPE_CHECKING:
    from underlay.twin.plan.demand import Demand
    from underlay.twin.plan.planner import Plan
    from underlay.twin.plan.question import Question, Slo
    from underlay.twin.plan.verifying import Verified
    from underlay.twin.scenario import Scenario

TTFT_S, TPOT_S = 2.0, 0.1
_LINE_EVERY_S = 5.0
_PAINT_EVERY_S = 0.1

Watch = Callable[[str, int, int], None]


@click.command()
@click.argument("model", required=False)
@plan_options
@click.option("--verify", is_flag=True, help="Run the plan in the twin, and show what it says beside the plan.")
@click.option("--scenario", type=click.Path(dir_okay=False, path_type=Path), metavar="OUT.yaml",
              help="Write the plan as a scenario for 'underlay twin run'.")  # fmt: skip
@click.option("--explain", is_flag=True, help="Show all kinds of replicas, and why others were left out.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str | None,
    verify: bool,
    scenario: Path | None,
    explain: bool,
    quiet: bool,
    as_json: bool,
    **told: Any,
) -> None:
    """Plan how many accelerators of which kind to run where.

    Finds what one replica of MODEL carries within the SLO, by runs of the modelled engine; then the best plan of
    all, by an exact search. Prints megawatts at the feeder, money and carbon with the band that their uncertainty
    leaves. Exit code 1 if nothing fits, with what would help; 6 if --verify finds the SLO broken.

    \b
    Examples:
      underlay plan llama-3.1-70b --rate 100 --peak 200 --region azure/westus2
      underlay plan llama-3.1-8b --trace azure-2023-conv --growth 20 --region aws/eu-west-1 --tpot 30ms
      underlay plan llama-3.1-70b --rate 50 --region azure/westeurope --region azure/uksouth \\
        --client azure/uksouth=2 --client azure/francecentral --max-rtt 40ms --survive-region --verify
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    question = _question(model, told)
    _refuse_unwritable(scenario)
    with _shown(quiet=quiet) as watch:
        found = _found(question, watch)
    if scenario is not None:
        _write(scenario, found)
    verified = _verified(found, quiet=quiet) if verify else None

    from underlay.cli import _planned, _planned_json

    if as_json:
        _says.result_json("plan", _planned_json.fields(found, verified, scenario))
    else:
        _says.result(_planned.told(found, verified, explain=explain))
        for line in found.warnings:
            _says.progress(f"warning: {line}")
    if verified is not None and verified.partial:
        _says.progress("interrupted: what the twin showed is of a part of the run")
        ctx.exit(INTERRUPTED)
    if verified is not None and not verified.kept:
        ctx.exit(FINDINGS)


def _question(model: str | None, told: dict[str, Any]) -> Question:
    """Everything that was asked, with what a scenario tells in its place."""
    from underlay.twin.plan.question import Question

    given = _scenario(told["load"])
    demand = _demand(told, given)
    named = model or (given.models[0].model if given else None)
    if named is None:
        raise click.UsageError("which model? Name one of the catalogue's, such as llama-3.1-70b")
    regions = candidates(told["regions"] or _regions_of(given))
    if not regions:
        raise click.UsageError("in which regions? Give --region azure/westeurope, once for each that may be used")
    max_rtt_s = inf if told["max_rtt"] is None else told["max_rtt"]
    return Question(
        model=named,
        demand=demand,
        slo=_slo(told, given),
        regions=regions,
        clients=clients(told["clients"] or _clients_of(given)),
        accelerators=told["accelerators"],
        precisions=told["precisions"],
        parallelisms=told["parallelisms"],
        usd_per_hour=dict(told["prices"]),
        available={name: int(count) for name, count in told["available"]},
        usd_kwh=told["usd_kwh"],
        rtt_max_s=max_rtt_s,
        rtt_lost_max_s=max_rtt_s if told["max_rtt_lost"] is None else told["max_rtt_lost"],
        share_max=told["max_share"],
        regions_min=told["min_regions"],
        survives_region=told["survive_region"],
        one_kind=not told["mixed"],
        objective=told["objective"],
        server_accelerators=told["server_accelerators"],
        context_tokens=told["context_tokens"],
        assumed_profiles=told["assumed"],
        seed=told["seed"],
        samples=told["samples"],
        time_limit_s=told["time_limit"],
    )


def _demand(told: dict[str, Any], given: Scenario | None) -> Demand:
    from dataclasses import replace

    from underlay.twin.plan import demand as loads

    if told["trace"] is not None and given is not None:
        raise click.UsageError("--trace or --load, not both")
    if told["trace"] is not None:
        found = loads.of_trace(told["trace"], told["rate"])
    elif given is not None:
        found = loads.of_scenario(given)
        found = found.times(told["rate"] / found.mean_per_s) if told["rate"] else found
    elif told["rate"] is not None:
        lengths, written = loads.told_lengths(told["prompt_tokens"], told["output_tokens"], told["lengths"])
        found = loads.of_rate(told["rate"], told["peak"] or told["rate"], lengths, written)
    else:
        raise click.UsageError("what load? Give --rate, --trace or --load")
    if told["peak"] is not None:
        found = replace(found, peak_per_s=told["peak"])
    if told["cv"] is not None:
        found = replace(found, cv=told["cv"], cv_most=max(told["cv"], loads.CV_MOST))
    return found.times(told["growth"])


def _scenario(file: str | None) -> Scenario | None:
    if file is None:
        return None
    from underlay.cli.twin import _running

    return _running.read(file, {})


def _slo(told: dict[str, Any], given: Scenario | None) -> Slo:
    from underlay.twin.plan.question import Slo

    usual = {"ttft": given.slo.ttft, "tpot": given.slo.tpot} if given else {"ttft": TTFT_S, "tpot": TPOT_S}
    limits = [usual[name] if told[name] is None else told[name] for name in ("ttft", "tpot")]
    ttft_s, tpot_s = (None if limit is None or isinf(limit) else limit for limit in limits)
    return Slo(ttft_s, tpot_s, told["attainment"])


def _regions_of(given: Scenario | None) -> list[dict[str, Any]]:
    """The regions of a scenario that lie somewhere."""
    return [
        {
            "name": region.like,
            "usd_kwh": region.usd_per_kwh,
            "carbon_g_kwh": region.carbon_g_per_kwh,
            "pue": region.pue,
            "power_cap_w": inf if region.power_cap is None else region.power_cap,
        }
        for region in (given.world.regions if given else ())
        if region.like is not None
    ]


def _clients_of(given: Scenario | None) -> list[tuple[str, float]]:
    """Where its callers are, if there is more than one place."""
    placed = [region for region in (given.world.regions if given else ()) if region.like is not None]
    if len(placed) < 2:
        return []
    found = [(str(region.like), 1.0 if region.clients is None else region.clients) for region in placed]
    return [(place, weight) for place, weight in found if weight]


def _found(question: Question, watch: Watch) -> Plan:
    from underlay.twin.plan.planner import NothingFits, plan

    try:
        return plan(question, watch)
    except NothingFits as error:
        lines = "".join(f"\n  {reason}" for reason in error.reasons)
        hint = "--explain, --assumed or other bounds" if not error.reasons else ""
        raise Failure("nothing_fits", f"{error.about}:{lines}", hint) from None


def _verified(found: Plan, *, quiet: bool) -> Verified:
    from underlay.cli.twin._interrupt import interruptible
    from underlay.twin.plan.verifying import verify

    with interruptible() as stop, _shown(quiet=quiet) as watch:

        def progress(simulated_s: float, duration_s: float, requests: int) -> None:
            watch(f"running the plan in the twin: {requests:,} requests", round(simulated_s), round(duration_s))

        return verify(found, progress, stop)


def _refuse_unwritable(scenario: Path | None) -> None:
    """Before minutes are spent on it."""
    if scenario is None:
        return
    from underlay.domain.errors import BadRequest
    from underlay.twin.report import exports

    try:
        exports.check_place(scenario)
    except BadRequest as error:
        raise click.UsageError(str(error)) from None


def _write(scenario: Path, found: Plan) -> None:
    from underlay.twin.plan import scene
    from underlay.twin.report.files import write_text

    try:
        write_text(scenario, scene.text(found))
    except OSError as error:
        raise Failure("unwritable", f"{error}", "--scenario with another path") from None
    _says.progress(f"scenario: {scenario}")


@contextmanager
def _shown(*, quiet: bool) -> Iterator[Watch]:
    """What goes on, on stderr: one line that changes where a person looks, a line now and then elsewhere."""
    person = _says.colour(sys.stderr)
    last_s = -inf

    def watch(what: str, done: int, of: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if quiet or now_s - last_s < (_PAINT_EVERY_S if person else _LINE_EVERY_S):
            return
        last_s = now_s
        line = f"{what} ({done} of {of})" if of > 1 else what
        click.echo(f"\r\x1b[K{line}" if person else line, err=True, nl=not person)

    try:
        yield watch
    finally:
        if person and not quiet:
            click.echo("\r\x1b[K", err=True, nl=False)
