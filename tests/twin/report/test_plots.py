"""Which plots there are, and what stands in the tables beside them; one of each kind is really drawn."""

from __future__ import annotations

import re
from math import nan

import pytest
from tests.twin.runs import empty, queue

from underlay.twin.experiment import Experiment, Variant, experiment_of, trials_of
from underlay.twin.report import drawing
from underlay.twin.report.plots import plots_of
from underlay.twin.report.plots_of_load import load_and_latency
from underlay.twin.report.plots_over_time import OVER_TIME, latency_over_time, over_time
from underlay.twin.summary import summarise
from underlay.twin.trials import Ended

OF = {what.sample: what for what in OVER_TIME}


def made(results, seeds=(1,)):
    variants = [Variant(name, "q.yaml") for name in results]
    ended = [Ended(t, summarise(results[t.variant.name](t.seed)), None) for t in trials_of(variants, list(seeds))]
    return experiment_of(variants, list(seeds), ended)


@pytest.fixture
def undrawn(monkeypatch):
    """Only what is said beside the pictures."""
    monkeypatch.setattr(drawing, "picture", lambda name, title, draw, **size: "<svg></svg>")


def test_a_run_and_a_sweep_have_their_plots(undrawn):
    run = made({"a": queue})
    assert [plot.name for plot in plots_of(run)] == [
        "load", "ttft", "tpot", "served", "utilisation", "running", "waiting", "power_w", "energy",
    ]  # fmt: skip
    sweep = made({"4": queue, "6": lambda seed: queue(seed, servers=6)}, seeds=(1, 2))
    assert [plot.name for plot in plots_of(sweep)][:3] == ["points", "pareto", "ttft"]
    assert plots_of(made({"a": lambda seed: empty()})) == []
    assert plots_of(Experiment(3, {"a": []})) == []


def test_what_never_changes_from_calm_is_not_drawn(undrawn):
    result = empty()
    for second in range(5):
        result.series.add(float(second), {"a.waiting": 0.0, "a.slowdown": 1.0, "a.running": nan, "b.waiting": nan})
    assert all(over_time(summarise(result), OF[what]) is None for what in ("waiting", "slowdown", "running"))
    result.series.values["a.slowdown"][3] = 1.2
    assert over_time(summarise(result), OF["slowdown"]).rows[3] == ("3 s", "1.20")


def test_places_within_a_place_are_not_drawn_beside_it(undrawn):
    result = empty()
    names = ("east.power_w", "east/site.power_w", "west/site.power_w", "power_w")
    result.series.add(1.0, dict(zip(names, (1.0, 1.0, 2e3, 9.0), strict=True)))
    assert over_time(summarise(result), OF["power_w"]).heads == ("at", "west/site (kW)", "east (kW)")


def test_latency_of_several_variants_is_the_99th_percentile_of_each(undrawn):
    runs = [summarise(queue(1, variant=name)) for name in ("x", "y")]
    plot = latency_over_time(runs, "ttft")
    assert plot.heads == ("from", "x (s)", "y (s)")
    assert len(plot.rows) == len(runs[0].windows.starts_s)
    assert "99th percentile of each variant" in plot.caption
    assert len(latency_over_time(runs[:1], "tpot").heads) == 4


def test_a_picture_is_text_lines_and_the_limit():
    summary = summarise(queue(2, duration_s=300.0))
    svg = load_and_latency(summary).svg
    words = re.findall(r">([^<>\n]+)</text>", svg)
    assert "SLO" in words
    assert "requests arriving per second" in words
    assert "var(--bad)" in svg
    assert "<metadata" not in svg
    assert "DejaVu" not in svg, "the page's own letters"


def test_labels_of_strangers_are_text_and_never_formulas(recwarn):
    svg = drawing.picture("x", "a <b>", lambda ax: ax.set_title("$\\frac{1}{2$ 東京 <script>"))
    assert "$\\frac{1}{2$ 東京 &lt;script&gt;" in svg
    assert 'aria-label="a &lt;b&gt;"' in svg
    assert len(recwarn) == 0


@pytest.mark.parametrize(
    ("span_s", "unit"), [(30, "seconds"), (239, "seconds"), (600, "minutes"), (86_400, "hours"), (1e6, "days")]
)
def test_axes_of_time_are_in_units_that_people_read(span_s, unit):
    assert drawing.clock(span_s)[1] == unit
