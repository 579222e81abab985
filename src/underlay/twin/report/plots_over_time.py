"""Latencies, load and the state of the world over time; what befell the world is marked.

Samples are picked by the last part of their names (``west.chat.running``), places by what is before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple

from underlay.twin.figures import title
from underlay.twin.power_caps import CAPPED
from underlay.twin.summary import Summary

from . import drawing
from .drawing import DASHES, HUES, SOFT
from .plot import LINES_MAX, Plot, rows_over
from .wording import clip, quantity, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Happenings that are marked in plots.
MARKS_MAX = 20


def latency_over_time(shown: Sequence[Summary], name: str) -> Plot | None:
    """Percentiles of a latency, by the time of arrival: of one run three, of several the 99th of each."""
    if len(shown) == 1:
        lines = {f"p{q}": shown[0].windows.values[f"{name}_p{q}"] for q in (50, 90, 99)}
    else:
        lines = {_label(run): run.windows.values[f"{name}_p99"] for run in shown[:LINES_MAX]}
    if not any(not isnan(value) for values in lines.values() for value in values):
        return None
    told = scale("s", max(value for values in lines.values() for value in values if not isnan(value)))
    limit = shown[0].slo.get(name)
    size_s, unit = drawing.clock(shown[0].arrivals_s)
    starts = [start / size_s for start in shown[0].windows.starts_s]

    def draw(ax: Axes) -> None:
        for place, (label, values) in enumerate(lines.items()):
            height = [value / told.size for value in values]
            ax.plot(starts[: len(height)], height[: len(starts)], label=label, **_look(place))
        ax.set(xlabel=f"arrival ({unit})", ylabel=f"{title(name)} ({told.unit})")
        flat = [value / told.size for values in lines.values() for value in values if not isnan(value)]
        drawing.wide_scale(ax, flat, limit / told.size if limit else None)
        if limit:
            drawing.limit_line(ax, limit / told.size, "SLO")
        _mark(ax, shown[0], size_s, shown[0].arrivals_s)
        drawing.legend(ax)

    which = "median, 90th and 99th percentile" if len(shown) == 1 else "99th percentile of each variant"
    caption = (
        f"{which[0].upper()}{which[1:]} of {title(name)} in windows of {quantity(shown[0].windows.width_s, 's')},"
        f" by the time of arrival; finished requests. {_seen(shown)}"
    )
    heading = f"{title(name)} over time"
    heads = ("from", *(f"{label} ({told.unit})" for label in lines))
    rows = rows_over(
        shown[0].windows.starts_s, [[value / told.size for value in values] for values in lines.values()]
    )
    return Plot(name, heading, caption, drawing.picture(name, heading, draw), heads, rows)


def served_over_time(shown: Sequence[Summary]) -> Plot | None:
    """What arrived and what of it was served well."""
    lines = {"arrivals": shown[0].windows.values["arrival_rate"]}
    for run in shown[: LINES_MAX - 1]:
        lines["goodput" if len(shown) == 1 else f"goodput, {_label(run)}"] = run.windows.values["goodput"]
    if not any(lines["arrivals"]):
        return None
    size_s, unit = drawing.clock(shown[0].arrivals_s)
    starts = [start / size_s for start in shown[0].windows.starts_s]

    def draw(ax: Axes) -> None:
        for place, (label, values) in enumerate(lines.items()):
            look: dict[str, Any] = {"color": SOFT, "linewidth": 1.2} if not place else _look(place - 1)
            ax.plot(starts[: len(values)], values[: len(starts)], drawstyle="steps-post", label=label, **look)
        ax.set(xlabel=f"arrival ({unit})", ylabel="requests per second")
        ax.set_ylim(bottom=0)
        drawing.plain_ticks(ax.yaxis)
        _mark(ax, shown[0], size_s, shown[0].arrivals_s)
        drawing.legend(ax)

    caption = (
        f"Requests that arrived, and those of them that finished within every SLO, per second, in windows of"
        f" {quantity(shown[0].windows.width_s, 's')}. {_seen(shown)}"
    )
    heading = "Arrivals and goodput over time"
    rows = rows_over(shown[0].windows.starts_s, list(lines.values()))
    heads = ("from", *(f"{label} (1/s)" for label in lines))
    return Plot("served", heading, caption, drawing.picture("served", heading, draw), heads, rows)


class OverTime(NamedTuple):
    """A kind of sample that is drawn over time, one line or layer for each place.

    ``calm`` is what it is when nothing happens: if it is never anything else there is no plot.
    """

    sample: str
    title: str
    unit: str
    stacked: bool
    caption: str
    calm: float | None = None


OVER_TIME = (
    OverTime("utilisation", "Utilisation over time", "share", False, "Part of the replicas' time spent computing."),
    OverTime("running", "Running over time", "count", True, "Requests in the batches of the engines."),
    OverTime("waiting", "Waiting over time", "count", True, "Requests that wait at desks and engines.", 0.0),
    OverTime("replicas", "Replicas over time", "count", True, "Replicas that are ready."),
    OverTime("power_w", "Power over time", "W", True, "Power at the feeders, cooling and losses included."),
    OverTime("pue", "PUE over time", "ratio", False, "Power at the feeders over that of servers at their plugs."),
    OverTime(
        "slowdown", "Throttling over time", "ratio", False, "How many times slower the slowest clocks run.", 1.0
    ),
    OverTime("cap_w", "Power caps over time", "W", False, "What each accelerator of a pool may draw."),
    OverTime(
        "accelerator_w", "Power of accelerators over time", "W", False, "What each accelerator of a pool draws."
    ),
)


def over_time(summary: Summary, what: OverTime) -> Plot | None:
    """One kind of sample by place: layers where they add up, lines where they do not."""
    series = summary.series
    found = _by_place(series.values, what.sample)
    if all(isnan(value) or value == what.calm for values in found.values() for value in values):
        return None
    places = list(found)[:LINES_MAX]
    highest = max((value for values in found.values() for value in values if not isnan(value)), default=0.0)
    told = scale(what.unit, highest * (len(places) if what.stacked else 1))
    size_s, unit = drawing.clock(summary.simulated_s)
    times = [time / size_s for time in series.times_s]
    heights = {place: [value / told.size for value in found[place]] for place in places}
    label = what.title.removesuffix(" over time")
    label = label if label.isupper() else label.lower()

    def draw(ax: Axes) -> None:
        if what.stacked:
            _layers(ax, times, heights)
        else:
            for number_, (place, values) in enumerate(heights.items()):
                ax.plot(times, values, label=clip(place, 40), **_look(number_))
        ax.set(xlabel=f"time ({unit})", ylabel=f"{label} ({told.unit})" if told.unit else label)
        if what.unit != "ratio":
            ax.set_ylim(bottom=0)
        drawing.plain_ticks(ax.yaxis)
        _mark(ax, summary, size_s, summary.simulated_s)
        drawing.legend(ax)

    left = len(found) - len(places)
    more = f" {left} more places are not drawn." if left else ""
    caption = f"{what.caption} {_seen([summary])}{more}"
    heads = ("at", *(f"{clip(place, 60)} ({told.unit})" if told.unit else clip(place, 60) for place in places))
    step = max(1, len(times) // 60)
    rows = rows_over(series.times_s[::step], [heights[place][::step] for place in places])
    return Plot(what.sample, what.title, caption, drawing.picture(what.sample, what.title, draw), heads, rows)


def _by_place(values: dict[str, list[float]], sample: str) -> dict[str, list[float]]:
    """The samples of that kind; of places within each other only the outermost, as it holds the others."""
    found = {name[: -len(sample) - 1]: column for name, column in values.items() if name.endswith(f".{sample}")}
    outer = {place for place in found if not any(place.startswith((f"{other}.", f"{other}/")) for other in found)}
    kept = {place: column for place, column in found.items() if place in outer}
    return dict(sorted(kept.items(), key=lambda item: -sum(value for value in item[1] if not isnan(value))))


def _layers(ax: Axes, times: Sequence[float], heights: dict[str, list[float]]) -> None:
    base = [0.0] * len(times)
    for place, (name, values) in enumerate(heights.items()):
        top = [low + (0.0 if isnan(value) else value) for low, value in zip(base, values, strict=True)]
        hue = HUES[place % len(HUES)]
        ax.fill_between(times, base, top, color=hue, alpha=0.35, linewidth=0)
        ax.plot(times, top, label=clip(name, 40), **_look(place))
        base = top


def _look(place: int) -> dict[str, Any]:
    return {"color": HUES[place % len(HUES)], "linestyle": DASHES[place % len(DASHES)]}


def _mark(ax: Axes, summary: Summary, size_s: float, until_s: float) -> None:
    """What befell the world, as numbered lines; the numbers are those of the report's list.

    Caps are changed too often to be marked, and have a plot of their own.
    """
    befell = [(place, at_s) for place, (at_s, what) in enumerate(summary.happenings) if not what.startswith(CAPPED)]
    for place, at_s in befell[:MARKS_MAX]:
        ax.axvline(at_s / size_s, color=SOFT, linewidth=0.9, linestyle=(0, (1, 2)), zorder=0.5)
        transform = ax.get_xaxis_transform()
        ax.annotate(
            str(place + 1), (at_s / size_s, 0.99), xycoords=transform, xytext=(2, 0), textcoords="offset points",
            va="top", color=SOFT, fontsize=8,
        )  # fmt: skip
    ax.set_xlim(0, max(until_s, 1e-9) / size_s)


def _label(run: Summary) -> str:
    return clip(run.variant or run.scenario, 40)


def _seen(shown: Sequence[Summary]) -> str:
    """Which run a plot over time shows."""
    seeds = sorted({run.seed for run in shown})
    which = f"Seed {seeds[0]}." if len(seeds) == 1 else f"Seeds {', '.join(map(str, seeds))}."
    left = len(shown) - LINES_MAX
    return which + (f" {left} more variants are not drawn." if left > 0 else "")
