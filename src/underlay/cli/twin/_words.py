"""Experiments as text for terminals and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

from underlay.cli import _says
from underlay.cli.twin import _ledger
from underlay.twin.figures import LATENCIES, PERCENTILES, title
from underlay.twin.report.tables import VARIANT_COLUMNS
from underlay.twin.report.wording import percent, quantity, scale, span, spread

if TYPE_CHECKING:
    from underlay.twin.experiment import Difference, Estimate, Experiment
    from underlay.twin.records import Account
    from underlay.twin.summary import Summary

_LATENCIES = (*LATENCIES, "itl")
_STATISTICS = ("mean", *(f"p{q}" for q in PERCENTILES))


def tell(experiment: Experiment, *tables: str) -> None:
    """Print tables under what was run, and say what to distrust."""
    _says.result("\n\n".join([_heading(experiment), *tables]))
    for line in _distrust(experiment):
        _says.progress(f"warning: {line}")


def _heading(experiment: Experiment) -> str:
    """What was run, in a line."""
    ran = _ran(experiment)
    if not ran:
        return "nothing ran"
    seeds = sorted({run.seed for run in ran})
    told = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds from {seeds[0]}"
    names = " and ".join(dict.fromkeys(run.scenario for run in ran))
    spans = ", ".join(dict.fromkeys(span(run.arrivals_s) for run in ran))
    partial = " (partial)" if experiment.partial else ""
    return _says.bold(_says.harmless(f"{names}, {told}, {spans} simulated{partial}"))


def figures(experiment: Experiment, variant: str) -> str:
    """All figures of one variant: counts and rates, then latencies."""
    known = {each.name: each for each in experiment.estimates(variant)}
    several = len(experiment.counted(variant)) > 1
    plain = [each for name, each in known.items() if name.partition("_")[0] not in _LATENCIES]
    heads = ["figure", "value", *(["±"] if several else []), "unit", "method"]
    rows = [_row(each, several) for each in plain if not isnan(each.interval.mean)]
    grid = [[title(name), *(_cell(known.get(f"{name}_{what}")) for what in _STATISTICS)] for name in _LATENCIES]
    if not known:
        return ""
    return "\n\n".join([_says.table(heads, rows), _says.table(["latency", *_STATISTICS], grid)])


def _row(each: Estimate, several: bool) -> list[str]:
    mean, half, unit = spread(each.interval, each.unit)
    return [title(each.name), mean, *([half] if several else []), unit, each.method]


def _cell(each: Estimate | None) -> str:
    if each is None:
        return ""
    half = spread(each.interval, each.unit)[1]
    return quantity(each.interval.mean, each.unit) + (f" ± {half}" if half else "")


def ledger(experiment: Experiment, variant: str) -> list[str]:
    """Who took what in the first run, where that was asked for."""
    found = next((run.ledger for run in experiment.counted(variant) if run.ledger is not None), None)
    return [] if found is None else [_ledger.told(found)]


def variants(experiment: Experiment, front: Iterable[str] = ()) -> str:
    """A row for each variant; ``front`` are those that no other beats."""
    known = {name: {each.name: each for each in experiment.estimates(name)} for name in experiment.summaries}
    columns = [name for name in VARIANT_COLUMNS if any(name in each for each in known.values())]
    best = set(front)
    rows = [
        [name, *(_cell(each.get(column)) for column in columns), *(["yes" if name in best else ""] if best else [])]
        for name, each in known.items()
    ]
    return _says.table(["variant", *map(title, columns), *(["on the front"] if best else [])], rows)


def differences(experiment: Experiment, first: str, other: str) -> str:
    """A variant beside the first one."""
    rows = []
    for each in experiment.differences(first, other):
        if isnan(each.first) and isnan(each.second):
            continue
        told = scale(each.unit, max(abs(each.first), abs(each.second)))
        numbers = [told.number(value) for value in (each.first, each.second)]
        apart = [told.beside(each.interval.mean, each.first or each.second), told.half(each.interval.half)]
        rows.append([title(each.name), *numbers, *apart, told.unit, percent(each.share), each.verdict])
    heads = ["figure", first, other, "difference", "±", "unit", "relative", "verdict"]
    return _says.table(heads, rows)


def _distrust(experiment: Experiment) -> list[str]:
    """What the runs warn of."""
    return [_says.harmless(line) for line in experiment.warnings]


def as_json(experiment: Experiment, files: Mapping[str, str]) -> dict[str, Any]:
    """Everything that is known, for programs; what is not known is null."""
    return {
        "partial": experiment.partial,
        "planned_runs": experiment.planned,
        "variants": [
            {
                "name": name,
                "figures": [_figure(each) for each in experiment.estimates(name)],
                "runs": [_run(run) for run in runs],
            }
            for name, runs in experiment.summaries.items()
        ],
        "warnings": _distrust(experiment),
        "files": dict(files),
    }


def differences_json(found: Sequence[Difference]) -> list[dict[str, Any]]:
    """Differences for programs."""
    return [
        {
            "name": each.name,
            "unit": each.unit,
            "first": _known(each.first),
            "second": _known(each.second),
            "difference": _known(each.interval.mean),
            "low": _known(each.interval.low),
            "high": _known(each.interval.high),
            "pairs": each.interval.runs,
            "relative": _known(each.share),
            "verdict": each.verdict,
        }
        for each in found
    ]


def _figure(each: Estimate) -> dict[str, Any]:
    mean, half = each.interval.mean, each.interval.half
    return {
        "name": each.name,
        "value": _known(mean),
        "low": _known(mean - half),
        "high": _known(mean + half),
        "unit": each.unit,
        "method": each.method,
    }


def _run(run: Summary) -> dict[str, Any]:
    return {
        "scenario": run.scenario,
        "seed": run.seed,
        "partial": run.partial,
        "duration_s": run.duration_s,
        "simulated_s": run.simulated_s,
        "events": run.events,
        "trace_hash": run.trace_hash,
        "slo": run.slo,
        "figures": {figure.name: _known(figure.value) for figure in run.figures},
        "groups": {
            kind: [
                {"name": group.name, **{figure.name: _known(figure.value) for figure in group.figures}}
                for group in groups
            ]
            for kind, groups in run.groups.items()
        },
        "accounts": _accounts(run.accounts),
        **({"places": _accounts(run.places)} if run.places else {}),
        **({"ledger": _ledger.as_json(run.ledger)} if run.ledger is not None else {}),
        "happenings": [{"at_s": at_s, "what": what} for at_s, what in run.happenings],
    }


def _accounts(found: Iterable[Account]) -> list[dict[str, Any]]:
    return [
        {
            "place": account.place,
            "name": account.name,
            "value": account.value,
            "unit": account.unit,
            "method": account.method,
            "boundary": account.boundary,
        }
        for account in found
    ]


def _known(value: float) -> float | None:
    return value if isfinite(value) else None


def _ran(experiment: Experiment) -> list[Summary]:
    return [run for runs in experiment.summaries.values() for run in runs]
