"""Where the energy of a run went, by region and part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from underlay.twin.figures import COMMON_UNITS, ENERGY_PARTS, title
from underlay.twin.summary import Summary

from . import drawing
from .drawing import HUES, SOFT
from .plot import Plot
from .wording import clip, number, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Regions with a bar of their own.
BARS_MAX = 12
_HATCHES = ("", "//", "\\\\", "xx", "--")


def energy(summary: Summary) -> Plot | None:
    """A bar for each region, of the parts that its energy went to."""
    parts = _by_region(summary)
    if not parts:
        return None
    regions = sorted(parts, key=lambda region: -sum(parts[region].values()))
    shown = regions[:BARS_MAX]
    told = scale("kWh", max(sum(parts[region].values()) for region in regions))

    def draw(ax: Axes) -> None:
        left = [0.0] * len(shown)
        for place, part in enumerate(ENERGY_PARTS):
            widths = [parts[region].get(part, 0.0) / told.size for region in shown]
            look: dict[str, Any] = {"color": HUES[place], "hatch": _HATCHES[place], "edgecolor": SOFT}
            ax.barh(range(len(shown)), widths, left=left, height=0.6, alpha=0.6, label=title(part), **look)
            left = [before + width for before, width in zip(left, widths, strict=True)]
        ax.set_yticks(range(len(shown)), [clip(region, 20) for region in shown])
        ax.invert_yaxis()
        ax.set(xlabel=f"energy ({told.unit})")
        drawing.plain_ticks(ax.xaxis)
        look = {"ncols": len(ENERGY_PARTS), "fontsize": 8, "columnspacing": 1.0, "borderaxespad": 0}
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), **look)

    more = f" {len(regions) - BARS_MAX} more regions are only in the table." if len(regions) > BARS_MAX else ""
    caption = f"The energy at each region's feeders, by what it was used for. Seed {summary.seed}.{more}"
    heads = ("region", *(f"{title(part)} ({told.unit})" for part in ENERGY_PARTS))
    rows = tuple(
        (clip(region, 80), *(number(parts[region].get(part, 0.0) / told.size) for part in ENERGY_PARTS))
        for region in regions[:200]
    )
    heading = "Energy by use"
    svg = drawing.picture("energy", heading, draw, height=1.4 + 0.35 * len(shown), left=1.6)
    return Plot("energy", heading, caption, svg, heads, rows)


def _by_region(summary: Summary) -> dict[str, dict[str, float]]:
    """Kilowatt hours by region and part."""
    found: dict[str, dict[str, float]] = {}
    for account in summary.accounts:
        if account.place and account.name in ENERGY_PARTS:
            size = COMMON_UNITS[account.unit][1] / COMMON_UNITS["kWh"][1]
            found.setdefault(account.place, {})[account.name] = account.value * size
    return found
