"""How a plot becomes a picture in a page: SVG whose colours are the page's, the same bytes for the same figures.

Plots are drawn in colours that stand for the page's own (``var(--ink)`` and the like), put in afterwards, so one
picture reads in light, in dark and in print. Text stays text. Nothing in it depends on the day or the machine.
matplotlib is imported when the first plot is drawn: it takes longer than most verbs run.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, LINE, BAD = "#010203", "#020304", "#030405", "#040506"
#: Colours of lines, in order; each also has a dash or a mark of its own, for those who do not see them.
HUES = ("#050607", "#060708", "#070809", "#08090a", "#090a0b", "#0a0b0c")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)), (0, (3, 1)), (0, (8, 2)))
MARKS = ("o", "s", "^", "D", "v", "P")

_VARIABLES = {
    INK: "ink",
    SOFT: "ink-soft",
    LINE: "line",
    BAD: "bad",
    **{hue: f"hue{number}" for number, hue in enumerate(HUES)},
}

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a stranger's name may hold dollars
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.unicode_minus": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "path.simplify": True,
}

Draw = Callable[["Axes"], None]

#: In inches: a picture's width, and its margins above (for a legend of a line) and below.
_WIDTH, _ABOVE, _BELOW = 8.2, 0.32, 0.5


def picture(name: str, title: str, draw: Draw, *, height: float = 2.9, left: float = 0.75) -> str:
    """The SVG that ``draw`` makes, in inches. ``name`` keeps its ids apart from others'.

    Margins are fixed: a layout that looks for them draws everything twice.
    """
    import matplotlib as mpl  # noqa: PLC0415 -- see above
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the page's own fonts have it
        figure = Figure(figsize=(_WIDTH, height))
        FigureCanvasSVG(figure)
        bottom, top = _BELOW / height, 1.0 - _ABOVE / height
        figure.subplots_adjust(left / _WIDTH, bottom, 1.0 - 0.15 / _WIDTH, top)
        draw(figure.subplots())
        file = io.StringIO()
        # No metadata: it would carry the day, the version and the address of matplotlib.
        blank = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=blank)
    return _embedded(file.getvalue(), name, title)


def _embedded(svg: str, name: str, title: str) -> str:
    """A whole SVG file as a part of a page."""
    body = svg[svg.index("<svg ") :]
    head, body = body.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    body = re.sub(r"<(metadata|style).*?</\1>", "", body, flags=re.DOTALL)  # a style in a page is the whole page's
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", body)
    for identity in sorted(used):
        body = re.sub(rf'(id="|url\(#|href="#){re.escape(identity)}(?=[")])', rf"\g<1>{name}-{identity}", body)
    for sentinel, variable in _VARIABLES.items():
        body = body.replace(sentinel, f"var(--{variable})")
    body = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r" ?font-family: [^;\"]*;", "", body)
    body = re.sub(r"\n\s*", "\n", body)
    return f'<svg {box[0]} role="img" aria-label="{escape(title)}">{body.rstrip()}'


def clock(span_s: float) -> tuple[float, str]:
    """The unit in which so long a time is told on an axis."""
    for size_s, unit, least in ((86_400.0, "days", 4), (3600.0, "hours", 4), (60.0, "minutes", 4)):
        if span_s >= least * size_s:
            return size_s, unit
    return 1.0, "seconds"


def plain_ticks(axis: Any) -> None:
    """Numbers as people write them, never powers of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: PLC0415 -- see above

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def wide_scale(axes: Axes, values: Sequence[float], limit: float | None) -> None:
    """From 0, or by powers of ten where the values are far apart."""
    known = sorted(value for value in [*values, limit or 0.0] if value > 0)
    if known and known[-1] / known[0] > 60:
        axes.set_yscale("log")
        axes.set_ylim(known[0] * 0.8, known[-1] * 1.3)
    else:
        axes.set_ylim(0, known[-1] * 1.12 if known else 1.0)
    plain_ticks(axes.yaxis)


def limit_line(axes: Axes, limit: float, text: str) -> None:
    """An SLO."""
    axes.axhline(limit, color=BAD, linewidth=1.2, linestyle=(0, (6, 3)))
    axes.annotate(
        text, (1.0, limit), xycoords=axes.get_yaxis_transform(), xytext=(-3, 3), textcoords="offset points",
        ha="right", va="bottom", color=BAD, fontsize=9,
    )  # fmt: skip


def legend(axes: Axes) -> None:
    """What the lines are, above the plot and not over it."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        axes.legend(
            handles, labels, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(labels), borderaxespad=0
        )
