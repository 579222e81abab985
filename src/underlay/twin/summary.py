"""What did a run come to? Its rows, samples and totals as figures with unit and method.

A row that is still open when the run ends counts as arrived and not as served, so a run that ends in a jam cannot
look better than one that clears it. Latencies are those of finished requests, as their callers saw them, and
percentiles lie straight between the two nearest ranks. Figures with nothing to speak of are nan, never 0.

Refused here: confidence (one run knows nothing of chance; that is ``experiment``), colours and columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from typing import NamedTuple

import numpy as np

from underlay.domain.figures import weakest

from .figures import ACCELERATOR_PARTS, COMMON_UNITS, KINDS, LATENCIES, PERCENTILES, Figure
from .records import OUTCOMES, Account, RunResult, Series, itl_s
from .rows import FINISHED, Column, Rows, percentiles, rows_of
from .run_ledger import RunLedger
from .windows import Windows, thin, windows_of

#: Groups of a breakdown beyond this many (the largest stay) are added up in one row.
GROUPS_MAX = 40
OTHERS = "(others)"

_ORDER = {name: place for place, name in enumerate(KINDS)}


class Group(NamedTuple):
    """The requests of one region, tenant or model."""

    name: str
    figures: tuple[Figure, ...]

    def value(self, name: str) -> float:
        """One figure by name; nan where there is none."""
        return next((figure.value for figure in self.figures if figure.name == name), nan)


@dataclass(slots=True)
class Summary:
    """A run without its rows: small enough to keep for every seed of every variant.

    ``groups`` has a breakdown for each of region, served_in, tenant and model; ``slo`` is in seconds.
    """

    scenario: str
    variant: str
    seed: int
    duration_s: float
    simulated_s: float
    partial: bool
    trace_hash: str
    events: int
    slo: dict[str, float]
    figures: tuple[Figure, ...]
    groups: dict[str, tuple[Group, ...]]
    windows: Windows
    series: Series
    accounts: list[Account] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    happenings: list[tuple[float, str]] = field(default_factory=list)
    ledger: RunLedger | None = None
    places: list[Account] = field(default_factory=list)

    @property
    def arrivals_s(self) -> float:
        """The time in which requests arrived; answering the last of them may have taken longer."""
        return min(self.simulated_s, self.duration_s)

    def value(self, name: str) -> float:
        """One figure by name; nan where there is none."""
        return next((figure.value for figure in self.figures if figure.name == name), nan)


def summarise(result: RunResult) -> Summary:
    """All figures of a run, its breakdowns, and what its plots need."""
    rows = rows_of(result.requests, result.slo)
    figures = [
        *request_figures(rows, span_of(result)),
        *itl_figures(result.itl_counts),
        *sample_figures(result.series),
        *account_figures(result, rows),
    ]
    return Summary(
        scenario=result.scenario,
        variant=result.variant,
        seed=result.seed,
        duration_s=result.duration_s,
        simulated_s=result.simulated_s,
        partial=result.partial,
        trace_hash=result.trace_hash,
        events=result.events,
        slo=dict(result.slo),
        figures=tuple(figures),
        groups=_breakdowns(result, rows),
        windows=windows_of(rows, span_of(result)),
        series=thin(result.series),
        accounts=list(result.accounts),
        warnings=list(result.warnings),
        happenings=list(result.happenings),
        ledger=result.ledger.without_rows() if result.ledger is not None else None,
        places=list(result.places),
    )


def span_of(result: RunResult) -> float:
    """The time in which requests arrived; that they are answered may take longer."""
    return min(result.simulated_s, result.duration_s)


def sample_figures(series: Series) -> list[Figure]:
    """What the samples tell: how much of their time all replicas spent computing, regions weighted by replicas."""
    busy = weights = 0.0
    for name, column in series.values.items():
        place, _, sample = name.rpartition(".")
        if sample == "utilisation":
            shares = np.array(column)
            replicas = np.array(series.values.get(f"{place}.replicas", [1.0] * len(shares)))
            known = ~(np.isnan(shares) | np.isnan(replicas))
            busy += float((shares[known] * replicas[known]).sum())
            weights += float(replicas[known].sum())
    return [Figure.of("utilisation", busy / weights, "modelled")] if weights else []


def request_figures(rows: Rows, span_s: float) -> list[Figure]:
    """What the requests alone tell: counts, rates over ``span_s`` of arrivals, latencies, cached tokens."""
    weight = rows.weight
    counts = np.bincount(rows.outcome.astype(np.int64), weights=weight, minlength=len(OUTCOMES))
    total, good = float(weight.sum()), float(weight[rows.good].sum())
    can_wait, served = rows.can_wait, rows.finished
    output_tokens, cached_tokens, prompt_tokens = (
        float((weight * column)[served].sum())
        for column in (rows.output_tokens, rows.cached_tokens, rows.prompt_tokens)
    )
    values: dict[str, float] = {
        "requests": total,
        **{name: float(count) for name, count in zip(OUTCOMES, counts, strict=True)},
        "retries": float(weight[rows.try_ > 1].sum()),
        "slo_attainment": _ratio(good, total),
        "goodput": _ratio(good, span_s),
        "throughput": _ratio(float(counts[FINISHED]), span_s),
        "output_tokens": output_tokens,
        "output_token_rate": _ratio(output_tokens, span_s),
        "cached_share": _ratio(cached_tokens, prompt_tokens),
    }
    soon = served & ~can_wait  # how long it takes is no matter of those that can wait
    weights = weight[soon] if rows.weighted else None
    for name in LATENCIES:
        values |= _latency(name, getattr(rows, f"{name}_s")[soon], weights)
    if can_wait.any():
        values |= _deferrable(rows.only(can_wait))
    return [Figure.of(name, value, "modelled") for name, value in values.items()]


def _deferrable(rows: Rows) -> dict[str, float]:
    """What became of those that can wait."""
    total = float(rows.weight.sum())
    return {
        "deferrable": total,
        "deferrable_in_time": _ratio(float(rows.weight[rows.good].sum()), total),
        "held_mean": float(np.average(rows.held_s, weights=rows.weight)),
        "held_p90": float(np.percentile(rows.held_s, 90)),
        "moved_share": _ratio(float(rows.weight[rows.region != rows.served_in].sum()), total),
    }


def itl_figures(counts: Sequence[int]) -> list[Figure]:
    """What the times between tokens tell: the middle of the class that each percentile falls into."""
    if not sum(counts):
        return []
    shares = np.cumsum(counts) / sum(counts)
    places = [int(np.searchsorted(shares, q / 100.0)) for q in PERCENTILES]
    return [Figure.of(f"itl_p{q}", itl_s(place), "modelled") for q, place in zip(PERCENTILES, places, strict=True)]


def _latency(name: str, values: Column, weights: Column | None) -> dict[str, float]:
    told = ~np.isnan(values)
    known = values[told]
    if not len(known):
        return dict.fromkeys([f"{name}_mean", *(f"{name}_p{q}" for q in PERCENTILES)], nan)
    weights = None if weights is None else weights[told]
    return {
        f"{name}_mean": float(np.average(known, weights=weights)),
        **{
            f"{name}_p{q}": value
            for q, value in zip(PERCENTILES, percentiles(known, weights, PERCENTILES), strict=True)
        },
    }


def account_figures(result: RunResult, rows: Rows) -> list[Figure]:
    """What the totals tell: as they are, added up by kind, and for each token that reached its caller."""
    totals = {account.name: account for account in everywhere(result.accounts)}
    for name, parts in {
        "water": [each for name, each in totals.items() if name.startswith("water_")],
        "cost": [each for name, each in totals.items() if name.endswith("_cost")],
        "energy_accelerators": [totals[name] for name in ACCELERATOR_PARTS if name in totals],
    }.items():
        if parts and name not in totals:
            value = sum(part.value for part in parts)
            totals[name] = Account.of("", name, value, parts[0].unit, weakest(part.method for part in parts))
    figures = [Figure.of(name, each.value, each.method, each.unit) for name, each in totals.items()]
    tokens = float(rows.output_tokens[rows.finished].sum())
    energy, energy_it, cost = (totals.get(name) for name in ("energy_feeder", "energy_it", "cost"))
    if energy and energy_it:
        method = weakest([energy.method, energy_it.method])
        figures.append(Figure.of("pue", _ratio(energy.value, energy_it.value), method))
    if energy:
        joules = energy.value * COMMON_UNITS[energy.unit][1]
        figures.append(Figure.of("energy_per_token", _ratio(joules, tokens), energy.method))
    if cost:
        figures.append(Figure.of("cost_per_mtok", _ratio(cost.value * 1e6, tokens), cost.method))
    return sorted(figures, key=lambda figure: _ORDER.get(figure.name, len(_ORDER)))


def everywhere(accounts: Iterable[Account]) -> list[Account]:
    """One total for each name, in the unit that its figure is told in.

    The total that the run itself gives for everywhere goes before the sum of its places; shares and ratios
    are never added up.
    """
    given: dict[str, list[Account]] = {}
    for account in accounts:
        given.setdefault(account.name, []).append(account)
    totals = []
    for name, parts in given.items():
        whole = [part for part in parts if not part.place]
        alike = whole or (parts if parts[0].unit in COMMON_UNITS else [])
        if alike:
            unit, value = _common(alike)
            totals.append(
                Account.of("", name, value, unit, weakest(part.method for part in alike), alike[0].boundary)
            )
    return totals


def _common(parts: list[Account]) -> tuple[str, float]:
    """Their sum, in the unit that such figures are told in."""
    unit, _ = COMMON_UNITS.get(parts[0].unit, (parts[0].unit, 1.0))
    size = COMMON_UNITS[unit][1] if unit in COMMON_UNITS else 1.0
    return unit, sum(part.value * COMMON_UNITS.get(part.unit, ("", 1.0))[1] for part in parts) / size


def _breakdowns(result: RunResult, rows: Rows) -> dict[str, tuple[Group, ...]]:
    requests = result.requests
    kinds = {"region": "region", "served_in": "region", "tenant": "tenant", "model": "model"}
    return {
        column: _groups(rows, requests.column(column), requests.names[kind], span_of(result))
        for column, kind in kinds.items()
    }


def _groups(rows: Rows, places: Column, names: list[str], span_s: float) -> tuple[Group, ...]:
    """A group for each name, the largest first; a place below 0 stands for nowhere."""
    order = np.argsort(places, kind="stable")
    found, starts = np.unique(places[order], return_index=True)
    members = dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}
    sizes = {place: float(rows.weight[which].sum()) for place, which in members.items() if place >= 0}
    ranked = sorted(sizes, key=lambda place: (-sizes[place], place))
    groups = [(names[int(place)] or "(unnamed)", members[place]) for place in ranked[:GROUPS_MAX]]
    if len(ranked) > GROUPS_MAX:
        rest = np.concatenate([members[place] for place in ranked[GROUPS_MAX:]])
        groups.append((OTHERS, np.sort(rest)))
    return tuple(Group(name, tuple(request_figures(rows.only(which), span_s))) for name, which in groups)


def _ratio(value: float, of: float) -> float:
    return value / of if of and not isnan(of) else nan
