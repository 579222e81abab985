"""The tables of a page: figures with intervals, verdicts, breakdowns, totals, runs, definitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isnan

from underlay.twin.experiment import Difference, Experiment
from underlay.twin.figures import KINDS, title
from underlay.twin.records import Account
from underlay.twin.summary import Group, Summary

from .markup import Html, element, table
from .wording import Scale, clip, percent, quantity, scale, span, spread

#: What is told first.
HEADLINE = (
    "goodput",
    "slo_attainment",
    "ttft_p99",
    "tpot_p99",
    "output_token_rate",
    "energy_per_token",
    "cost_per_mtok",
)
#: Columns of a table with a row for each variant.
VARIANT_COLUMNS = (
    "goodput",
    "slo_attainment",
    "output_token_rate",
    "ttft_p50",
    "ttft_p99",
    "tpot_p99",
    "e2e_p99",
    "cached_share",
    "energy_per_token",
    "cost_per_mtok",
)
#: Columns of a breakdown.
GROUP_COLUMNS = (
    "requests",
    "slo_attainment",
    "goodput",
    "refused",
    "failed",
    "ttft_p50",
    "ttft_p99",
    "tpot_p50",
    "tpot_p99",
    "e2e_p99",
    "output_token_rate",
    "cached_share",
)

_BREAKDOWNS = {
    "region": "By region of the caller",
    "served_in": "By region that served",
    "tenant": "By tenant",
    "model": "By model",
}


def headline(experiment: Experiment, variant: str) -> Html:
    """The figures that most people ask for, large."""
    known = {each.name: each for each in experiment.estimates(variant)}
    tiles = []
    for name in HEADLINE:
        if name in known:
            mean, half, unit = spread(known[name].interval, known[name].unit)
            unit = f" {unit} ± {half}" if half else f" {unit}"
            tiles.append(
                element("li", element("strong", mean, element("small", unit)), element("span", title(name)))
            )
    return element("ul", *tiles, class_="tiles")


def estimates(experiment: Experiment, variant: str) -> Html:
    """Every figure of a variant."""
    seeds = experiment.counted(variant)
    several = len(seeds) > 1
    rows = []
    for each in experiment.estimates(variant):
        mean, half, unit = spread(each.interval, each.unit)
        rows.append((title(each.name), mean, *([half] if several else []), unit, each.method))
    caption = f"Means over {len(seeds)} seeds, with 95 % intervals." if several else "One seed."
    return table(("figure", "value", *(["± (95 %)"] if several else []), "unit", "method"), rows, caption)


def variants(experiment: Experiment) -> Html:
    """A row for each variant."""
    known = {name: {each.name: each for each in experiment.estimates(name)} for name in experiment.summaries}
    columns = [column for column in VARIANT_COLUMNS if any(column in each for each in known.values())]
    scales = {
        column: _scale_of(column, [each[column].interval.mean for each in known.values() if column in each])
        for column in columns
    }
    rows = []
    for number, (name, each) in enumerate(known.items()):
        cells = [str(number + 1), clip(name)]
        for column in columns:
            told = scales[column]
            value = told.number(each[column].interval.mean) if column in each else ""
            half = told.half(each[column].interval.half) if column in each else ""
            cells.append(f"{value} ± {half}" if half else value)
        rows.append(cells)
    heads = ("number", "variant", *(_with_unit(column, scales[column].unit) for column in columns))
    return table(heads, rows, "Means over seeds, with 95 % intervals where there are several.")


def _with_unit(name: str, unit: str) -> str:
    return f"{title(name)} ({unit})" if unit else title(name)


def comparisons(experiment: Experiment) -> list[Html]:
    """Every variant beside the first."""
    first, *others = experiment.summaries
    tables = []
    for other in others:
        rows = [_difference(each) for each in experiment.differences(first, other)]
        heads = (
            "figure", clip(first, 60), clip(other, 60), "difference", "± (95 %)", "unit", "relative", "verdict",
        )  # fmt: skip
        caption = f"{clip(other)} beside {clip(first)}, paired by seed."
        tables.append(table(heads, rows, caption))
    return tables


def _difference(each: Difference) -> tuple[str, ...]:
    told = scale(each.unit, max(abs(each.first), abs(each.second)))
    mark = {"better": "▲ better", "worse": "▼ worse", "differs": "≠ differs"}.get(each.verdict, each.verdict)
    verdict = element("span", mark, class_=each.verdict) if each.verdict in {"better", "worse"} else mark
    return (
        title(each.name),
        told.number(each.first),
        told.number(each.second),
        told.beside(each.interval.mean, each.first or each.second),
        told.half(each.interval.half),
        told.unit,
        percent(each.share),
        verdict,
    )


def breakdowns(run: Summary) -> list[Html]:
    """By region, tenant and model; what has one group only tells nothing new."""
    told = [_breakdown(groups, _BREAKDOWNS[kind]) for kind, groups in run.groups.items() if len(groups) > 1]
    return told or [
        element("p", "One region, one tenant, one model: the figures above are all there is.", class_="soft")
    ]


def _breakdown(groups: Sequence[Group], caption: str) -> Html:
    scales = {column: _scale_of(column, [group.value(column) for group in groups]) for column in GROUP_COLUMNS}
    rows = [
        [clip(group.name, 80), *(told.number(group.value(column)) for column, told in scales.items())]
        for group in groups
    ]
    heads = ("name", *(_with_unit(column, told.unit) for column, told in scales.items()))
    return table(heads, rows, caption)


def _scale_of(name: str, values: Iterable[float]) -> Scale:
    """One unit for a whole column."""
    return scale(KINDS[name].unit, max((abs(value) for value in values if not isnan(value)), default=0.0))


def accounts(found: Sequence[Account], seed: int) -> Html:
    """Every total with its boundary."""
    rows = [
        (
            clip(account.place or "everywhere", 80),
            title(account.name),
            quantity(account.value, account.unit),
            account.method,
            clip(account.boundary),
        )
        for account in found[:400]
    ]
    left = len(found) - len(rows)
    caption = f"Totals of one run, seed {seed}." + (f" {left} more are left out." if left > 0 else "")
    return table(("place", "total", "value", "method", "boundary"), rows, caption)


def runs(ran: Iterable[Summary]) -> Html:
    """Every run with its hash: equal seeds give equal hashes."""
    rows = [
        (
            clip(run.variant or run.scenario),
            str(run.seed),
            span(run.arrivals_s) + (" (partial)" if run.partial else ""),
            f"{run.events:,}",
            element("code", run.trace_hash),
        )
        for run in ran
    ]
    return table(("variant", "seed", "simulated", "events", "trace hash"), rows[:400], "Every run of this report.")


def definitions(names: Iterable[str]) -> Html:
    """What figures mean."""
    ways = {"higher": "higher is better", "lower": "lower is better", "": ""}
    rows = [(title(name), KINDS[name].unit, KINDS[name].meaning, ways[KINDS[name].better]) for name in names]
    return table(("figure", "unit", "meaning", "direction"), rows, "Figures and their definitions.")
