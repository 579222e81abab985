"""Latency against load and cost: by the windows of one run, or by variant."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isnan
from typing import TYPE_CHECKING, Any

from underlay.twin.experiment import LATENCY, Experiment
from underlay.twin.figures import title
from underlay.twin.summary import Summary

from . import drawing
from .drawing import HUES, INK, MARKS, SOFT
from .plot import LINES_MAX, Plot, rows_over
from .wording import clip, number, quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def load_and_latency(summary: Summary) -> Plot | None:
    """Each window of one run: how much arrived, and how long its first tokens took."""
    values = summary.windows.values
    points = [
        (rate, latency)
        for rate, latency in zip(values["arrival_rate"], values["ttft_p90"], strict=True)
        if not isnan(latency)
    ]
    if len(points) < 2:
        return None
    limit = summary.slo.get("ttft")

    def draw(ax: Axes) -> None:
        ax.plot(*zip(*points, strict=True), linestyle="none", marker="o", markersize=5, color=HUES[0], alpha=0.75)
        ax.set(xlabel="requests arriving per second", ylabel="TTFT p90 (s)")
        drawing.wide_scale(ax, [latency for _, latency in points], limit)
        if limit:
            drawing.limit_line(ax, limit, "SLO")
        drawing.plain_ticks(ax.xaxis)

    heads = ("from", "arrivals (1/s)", "goodput (1/s)", "TTFT p90 (s)")
    columns = ("arrival_rate", "goodput", "ttft_p90")
    caption = (
        f"Each point is a window of {quantity(summary.windows.width_s, 's')}: what arrived in it,"
        " and the 90th percentile of the time to the first token."
    )
    return Plot(
        "load",
        "Load and latency",
        caption,
        drawing.picture("load", "Load and latency", draw),
        heads,
        rows_over(summary.windows.starts_s, [values[column] for column in columns]),
    )


def points(experiment: Experiment) -> Plot | None:
    """Each variant: how much was served, and how long first tokens took."""
    return _scatter(
        experiment,
        "points",
        "Throughput and latency",
        "output_token_rate",
        LATENCY,
        "Each point is a variant, the mean over its seeds; bars are 95 % intervals.",
    )


def pareto(experiment: Experiment) -> Plot | None:
    """Cost against latency, with the variants that no other beats in both."""
    cost, front = experiment.front()
    if not front:
        return None
    caption = (
        "Each point is a variant, the mean over its seeds. Those on the line are beaten by no other in both"
        f" cost and latency: {'; '.join(clip(name, 80) for name in front[:LINES_MAX])}."
    )
    return _scatter(experiment, "pareto", "Cost and latency", cost, LATENCY, caption, front)


def _scatter(
    experiment: Experiment,
    name: str,
    heading: str,
    across: str,
    up: str,
    caption: str,
    front: Sequence[str] = (),
) -> Plot | None:
    estimates = {
        variant: {each.name: each for each in experiment.estimates(variant)} for variant in experiment.summaries
    }
    known = [
        (place + 1, variant, each[across].interval, each[up].interval)
        for place, (variant, each) in enumerate(estimates.items())
        if across in each and up in each and not isnan(each[across].interval.mean + each[up].interval.mean)
    ]
    if not known:
        return None
    units = {
        figure: next(each[figure].unit for each in estimates.values() if figure in each) for figure in (across, up)
    }
    limit = next((each.slo.get("ttft") for runs in experiment.summaries.values() for each in runs), None)
    on_front = {variant: (x.mean, y.mean) for _, variant, x, y in known if variant in front}

    def draw(ax: Axes) -> None:
        if on_front:
            ax.plot(*zip(*(on_front[each] for each in front), strict=True), color=SOFT, linewidth=1, zorder=1)
        for place, _, x, y in known:
            bars: dict[str, Any] = {"xerr": _bar(x.half), "yerr": _bar(y.half), "ecolor": SOFT, "elinewidth": 0.8}
            hue, mark = HUES[(place - 1) % len(HUES)], MARKS[(place - 1) % len(MARKS)]
            ax.errorbar(x.mean, y.mean, marker=mark, markersize=7, color=hue, zorder=2, **bars)
            ax.annotate(str(place), (x.mean, y.mean), (6, 5), textcoords="offset points", color=INK, fontsize=9)
        ax.set(xlabel=f"{title(across)} ({units[across]})", ylabel=f"{title(up)} ({units[up]})")
        drawing.wide_scale(ax, [y.mean + _bar(y.half) for *_, y in known], limit)
        ax.margins(x=0.12)
        if limit:
            drawing.limit_line(ax, limit, "SLO")
        drawing.plain_ticks(ax.xaxis)

    heads = (
        "number",
        "variant",
        f"{title(across)} ({units[across]})",
        f"{title(up)} ({units[up]})",
        "on the front",
    )
    rows = tuple(
        (
            str(place),
            clip(variant),
            _with_half(x.mean, x.half),
            _with_half(y.mean, y.half),
            "yes" * (variant in front),
        )
        for place, variant, x, y in known
    )
    keep = len(heads) if front else len(heads) - 1
    return Plot(
        name,
        heading,
        caption,
        drawing.picture(name, heading, draw),
        heads[:keep],
        tuple(row[:keep] for row in rows),
    )


def _bar(half: float) -> float:
    return 0.0 if half == inf or isnan(half) else half


def _with_half(mean: float, half: float) -> str:
    return number(mean) + (f" ± {number(half, 2)}" if half != inf else "")
