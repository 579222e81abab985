"""One page that tells a run, a comparison or a sweep, and needs nothing but itself.

No script, no address, no day: the page is the same bytes for the same figures, and its policy forbids it to load
anything. What is partial or to be distrusted stands before the first figure.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from itertools import islice

from underlay.twin.experiment import Experiment
from underlay.twin.figures import KINDS
from underlay.twin.figures import title as title_of
from underlay.twin.summary import Summary

from .ledger_tables import ledger_tables
from .markup import Html, details, element, items, joined, section, table
from .plot import Plot
from .plots import plots_of
from .tables import (
    accounts,
    breakdowns,
    comparisons,
    definitions,
    estimates,
    headline,
    runs,
    variants,
)
from .wording import clip, span

#: Lines of a list beyond which a page only counts.
LINES_MAX = 200

_KINDS = {
    "run": "A run of the twin",
    "compare": "A comparison by the twin",
    "sweep": "A sweep by the twin",
    "what-if": "A recorded hour, decided again by the twin beside what was measured live",
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(experiment: Experiment, *, kind: str, command: str = "") -> str:
    """The whole page. ``kind`` is run, compare, sweep or what-if; ``command`` is what makes it again."""
    ran = [run for summaries in experiment.summaries.values() for run in summaries]
    title = clip(ran[0].scenario if ran else "nothing ran", 120)
    body = joined(
        [
            _head(experiment, ran, title, kind),
            _distrust(experiment, ran),
            *_figures(experiment, kind),
            _plots(plots_of(experiment)),
            *_details(experiment, ran),
            _methods(experiment, command),
        ]
    )
    css = (resources.files(__package__) / "report.css").read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'{policy}\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{element('title', f'{title}: twin {kind}')}\n<style>\n{css}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _head(experiment: Experiment, ran: list[Summary], title: str, kind: str) -> Html:
    seeds = sorted({run.seed for run in ran})
    facts = {
        "Simulated": ", ".join(dict.fromkeys(span(run.arrivals_s) for run in ran)),
        "Seeds": ", ".join(map(str, seeds)),
        "Variants": str(len(experiment.summaries)) if len(experiment.summaries) > 1 else "",
        "SLO": _promise(ran[0].slo) if ran else "",
        "Events": f"{sum(run.events for run in ran):,}",
        "Trace hash": ran[0].trace_hash if len(ran) == 1 else "",
    }
    told = joined(
        joined([element("dt", name), element("dd", clip(fact, 400))]) for name, fact in facts.items() if fact
    )
    words = _KINDS[kind]
    badge = element("span", "SIMULATED", class_="badge")
    return element(
        "header", badge, element("h1", title), element("p", words + ".", class_="soft"), element("dl", told)
    )


def _promise(slo: dict[str, float]) -> str:
    if not slo:
        return "none; every finished request is good"
    return ", ".join(f"{title_of(name.removesuffix('_s'))} within {span(most_s)}" for name, most_s in slo.items())


def _distrust(experiment: Experiment, ran: list[Summary]) -> Html:
    """What is partial, extrapolated or assumed."""
    notices = []
    if experiment.partial:
        cut = [run for run in ran if run.partial]
        missing = experiment.planned - len(ran)
        lines = [f"{clip(_name(run))}: stopped at {span(run.simulated_s)} of {span(run.duration_s)}" for run in cut]
        lines += [f"{missing} of {experiment.planned} runs were not started"] if missing else []
        notices.append(_notice("Interrupted: this report is partial.", lines))
    if experiment.warnings:
        notices.append(_notice("What to distrust", _some(experiment.warnings)))
    return joined(notices)


def _notice(heading: str, lines: Iterable[str]) -> Html:
    return element("div", element("strong", heading), items(lines), class_="notice", role="note")


def _name(run: Summary) -> str:
    return f"{run.variant}, seed {run.seed}" if run.variant else f"seed {run.seed}"


def _some(lines: list[str]) -> list[str]:
    shown = [clip(line, 400) for line in islice(lines, LINES_MAX)]
    left = len(lines) - len(shown)
    return [*shown, f"and {left} more"] if left else shown


def _figures(experiment: Experiment, kind: str) -> list[Html]:
    names = list(experiment.summaries)
    if not any(experiment.summaries.values()):
        return []
    if kind == "run":
        return [section("Key figures", headline(experiment, names[0]), estimates(experiment, names[0]))]
    parts = [section("Variants", variants(experiment))]
    if kind in {"compare", "what-if"}:
        parts.append(section("Verdicts", *comparisons(experiment)))
    return parts


def _plots(plots: list[Plot]) -> Html:
    if not plots:
        return Html("")
    return section("Plots", *map(_plot, plots))


def _plot(plot: Plot) -> Html:
    return element(
        "figure",
        element("h3", plot.title),
        Html(plot.svg),
        element("figcaption", plot.caption),
        details("The same as a table", table(plot.heads, plot.rows, plot.title)),
    )


def _details(experiment: Experiment, ran: list[Summary]) -> list[Html]:
    parts = []
    shown = next((runs_[0] for name in experiment.summaries if (runs_ := experiment.counted(name))), None)
    if shown is None:
        return []
    parts += [section("Breakdowns", element("p", f"{_name(shown)}.", class_="soft"), *breakdowns(shown))]
    if shown.accounts:
        parts.append(section("Totals", accounts(shown.accounts, shown.seed)))
    if shown.ledger is not None:
        parts.append(section("Ledger", *ledger_tables(shown.ledger)))
    if shown.places:
        parts.append(section("Places", accounts(shown.places, shown.seed)))
    if shown.happenings:
        numbered = [
            (str(place + 1), span(at), clip(what, 400)) for place, (at, what) in enumerate(shown.happenings)
        ]
        left = len(numbered) - LINES_MAX
        caption = f"{_name(shown)}; numbers are those in the plots." + (
            f" {left} more are left out." if left > 0 else ""
        )
        parts.append(
            section("What befell the world", table(("number", "at", "what"), numbered[:LINES_MAX], caption))
        )
    if len(ran) > 1:
        parts.append(section("Runs", runs(ran)))
    return parts


def _methods(experiment: Experiment, command: str) -> Html:
    names = {figure.name for runs_ in experiment.summaries.values() for run in runs_ for figure in run.figures}
    words = element(
        "p",
        "Every figure here comes from a model, but for those of a run called live. Measured: by the live platform;"
        " modelled: from equations and published profiles; calibrated: from a profile fitted to a live engine;"
        " assumed: from a value that nobody measured. Intervals are 95 % by Student's t over seeds; one seed has"
        " none. Differences are taken between runs with equal seeds, which meet the same crowd and the same"
        " failures; each is judged by itself, and of twenty that do not differ at all, one will seem to.",
    )
    again = element("p", "Made by ", element("code", clip(command, 1000)), ".") if command else Html("")
    return element(
        "footer",
        element("h2", "How to read this"),
        words,
        details("What each figure means", definitions([name for name in KINDS if name in names])),
        again,
    )
