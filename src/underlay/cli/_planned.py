"""A plan as text for terminals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from underlay.cli import _says
from underlay.twin.report.wording import Scale, number, percent, quantity, scale

if TYPE_CHECKING:
    from underlay.twin.plan.carriers import Carrier
    from underlay.twin.plan.planner import Plan
    from underlay.twin.plan.verifying import Verified

#: Figures of a total: what they are called, their unit, and what of that a figure's own unit is.
FIGURES: Mapping[str, tuple[str, str, float]] = {
    "replicas": ("replicas", "", 1.0),
    "accelerators": ("accelerators, in whole servers", "", 1.0),
    "peak_load": ("load at the peak, of what they carry", "%", 100.0),
    "mean_load": ("load in the mean, of what they carry", "%", 100.0),
    "ttft_p99_s": ("TTFT p99 of the fullest pool, at the peak", "ms", 1e3),
    "peak_w": ("power at the feeders, at the peak", "MW", 1e-6),
    "mean_w": ("power at the feeders, in the mean", "MW", 1e-6),
    "full_w": ("power at the feeders, all fully loaded", "MW", 1e-6),
    "joules_per_token": ("energy for a token of an answer", "J", 1.0),
    "usd_per_hour": ("money", "USD/h", 1.0),
    "electricity_usd_per_hour": ("electricity, in it", "USD/h", 1.0),
    "usd_per_mtok": ("money for a million tokens of answers", "USD", 1.0),
    "usd_per_mtok_all": ("money for a million tokens, prompts too", "USD", 1.0),
    "carbon_g_per_mtok": ("carbon for a million tokens of answers", "gCO2e", 1.0),
    "carbon_t_per_year": ("carbon in a year", "tCO2e", 1.0),
}


def told(plan: Plan, verified: Verified | None, *, explain: bool) -> str:
    """The tables, for people."""
    parts = [_heading(plan), _pools(plan), _figures(plan)]
    if plan.question.clients:
        parts.append(_flows(plan))
    parts.append(_grounds(plan))
    if explain:
        parts += [_kinds(plan), _says.table(["left out", "why"], [list(each) for each in plan.left])]
    if verified is not None:
        parts.append(_beside(verified))
    return "\n\n".join(parts)


def _heading(plan: Plan) -> str:
    question, demand = plan.question, plan.question.demand
    slo = question.slo
    limits = [("TTFT", slo.ttft_s), ("TPOT", slo.tpot_s)]
    promise = " and ".join(f"{name} {quantity(limit, 's')}" for name, limit in limits if limit is not None)
    rates = f"{number(demand.mean_per_s)}/s in the mean, {number(demand.peak_per_s)}/s at the peak"
    lengths = f"{demand.prompt_mean:,.0f} tokens of prompt and {demand.output_mean:,.0f} of answer in the mean"
    share = f"{slo.attainment * 100:.4g} % of all requests"
    lines = [
        _says.bold(f"{question.model}: {promise} for {share}; least {question.objective}"),
        f"load: {demand.note}",
        f"planned for: {rates}, CV of the gaps {number(demand.cv, 3)}",
        f"lengths: {lengths}, {demand.longest:,} together at most",
    ]
    return "\n".join(lines)


def _pools(plan: Plan) -> str:
    heads = ["region", "accelerator", "split", "precision", "replicas", "accelerators", "peak/s", "load %",
             "TTFT p99", "TPOT p99"]  # fmt: skip
    rows = []
    for pool in plan.pools:
        offer = pool.carrier.offer
        rows.append(
            [
                plan.places[pool.region].name,
                offer.accelerator,
                offer.parallelism,
                offer.precision,
                f"{pool.replicas:,}",
                f"{pool.accelerators:,}",
                number(pool.peak_per_s),
                f"{pool.peak_load * 100:.0f}",
                quantity(pool.ttft_p99_s, "s"),
                quantity(pool.seen.tpot_p99_s, "s"),
            ]
        )
    return _says.table(heads, rows)


def _figures(plan: Plan) -> str:
    bands = plan.bands.bands if plan.bands else {}
    rows = []
    for name, (title, unit, size) in FIGURES.items():
        whole = name in ("replicas", "accelerators")
        told_in = scale("W", value_of(plan, name)) if unit == "MW" else Scale(1.0 / size, unit)
        values = [value_of(plan, name), *(bands.get(name) or ())]
        cells = [_short(value / told_in.size, whole=whole) for value in values]
        rows.append([title, *[*cells, "", ""][:3], told_in.unit, plan.methods[name]])
    said = [_says.table(["figure", "plan", "P5", "P95", "unit", "method"], rows)]
    if plan.bands:
        sure = plan.bands
        said.append(
            f"the plan as it is keeps its promise in {sure.kept_share:.0%} of {sure.samples} draws; in"
            f" {sure.fitting_share:.0%} of them some plan of these kinds in these regions does"
        )
        said += [f"drawn: {line}" for line in sure.drawn]
    return "\n".join(said)


def _flows(plan: Plan) -> str:
    sums: dict[tuple[int, int], float] = {}
    for (client, region, _), flow in plan.found.flows.items():
        sums[client, region] = sums.get((client, region), 0.0) + flow
    rows = [
        [plan.ways.clients[c], plan.places[r].name, number(flow), quantity(plan.ways.rtt_s[c][r], "s")]
        for (c, r), flow in sorted(sums.items())
    ]
    return _says.table(["clients", "served in", "peak/s", "round trip"], rows)


def _grounds(plan: Plan) -> str:
    """What it rests on: search, prices, grids."""
    found = plan.found
    proven = "the best plan" if found.status == "optimal" else "the best found in time"
    lines = [f"search: {proven}, proven to within {found.gap:.3%} ({len(plan.carriers)} kinds of replicas)"]
    offers = {}
    for carrier in dict.fromkeys(pool.carrier for pool in plan.pools):
        offer = carrier.offer
        offers[offer.accelerator] = offer.price.note
        lines.append(
            f"{offer.name}: one carries {number(carrier.capacity_per_s, 3)}/s by runs,"
            f" {number(carrier.formula.rate_per_s, 3)}/s by the formula (bound by {carrier.formula.bound});"
            f" steps {offer.profile.method}"
        )
    lines += [f"{accelerator}: {note}" for accelerator, note in offers.items()]
    lines += [
        f"{place.name}: PUE {number(place.pue.value, 3)} ({place.pue.method}), {number(place.carbon.value, 3)}"
        f" gCO2e/kWh ({place.carbon.method}), {number(place.price.value, 3)} USD/kWh ({place.price.method})"
        for place in dict.fromkeys(plan.places[pool.region] for pool in plan.pools)
    ]
    return "\n".join(lines)


def _kinds(plan: Plan) -> str:
    rows = [
        [
            carrier.offer.name,
            number(carrier.formula.rate_per_s, 3),
            number(carrier.capacity_per_s, 3),
            number(carrier.capacity_per_s / carrier.offer.accelerators, 3),
            number(_usd(carrier), 3),
            carrier.offer.profile.method,
        ]
        for carrier in sorted(plan.carriers, key=_usd)
    ]
    heads = ["kind", "formula/s", "runs/s", "per accelerator", "USD for 1,000 requests", "steps"]
    return _says.table(heads, rows)


def _usd(carrier: Carrier) -> float:
    """What a thousand requests cost at full load, without electricity."""
    return carrier.offer.price.usd * carrier.offer.accelerators / (carrier.capacity_per_s * 3.6)


def _beside(verified: Verified) -> str:
    rows = []
    for each in verified.compared:
        unit = each.unit
        numbers = [
            f"{value * 100:.2f} %" if unit == "share" else quantity(value, unit)
            for value in (each.predicted, each.simulated)
        ]
        rows.append([each.pool or "all", each.name, *numbers, percent(each.off)])
    verdict = "keeps" if verified.kept else "breaks"
    return "\n".join(
        [
            f"the twin, {verified.requests:,} requests at the peak: {verdict} the promise"
            + (" (partial)" if verified.partial else ""),
            _says.table(["pool", "figure", "plan", "twin", "off"], rows),
        ]
    )


def value_of(plan: Plan, name: str) -> float:
    """A figure of a plan by its name, in its own unit."""
    if name == "ttft_p99_s":
        return max(plan.pools, key=lambda pool: pool.peak_load).ttft_p99_s
    return float(getattr(plan.total, name))


def _short(value: float, *, whole: bool) -> str:
    return f"{value:,.0f}" if whole else number(value, 3)
