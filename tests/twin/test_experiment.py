"""Several seeds, several variants: estimates, differences by seed, verdicts, fronts."""

from __future__ import annotations

from math import inf, isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tests.control.builders import quick
from tests.twin.runs import queue

from underlay.twin.experiment import Experiment, Variant, experiment_of, pareto, trials_of
from underlay.twin.figures import Figure
from underlay.twin.summary import summarise
from underlay.twin.trials import Ended, Trial

FEW, MANY = Variant("few", "q.yaml", (("servers", 4),)), Variant("many", "q.yaml", (("servers", 6),))


def made(variants=(FEW, MANY), seeds=(1, 2, 3), duration_s=200.0):
    ended = [
        Ended(trial, summarise(queue(trial.seed, servers=trial.variant.changes[0][1], duration_s=duration_s)), None)
        for trial in trials_of(variants, seeds)
    ]
    return experiment_of(variants, seeds, ended)


def plain(values, name="goodput", variant="a"):
    """An experiment of one figure: a value for each seed."""
    summaries = []
    for seed, value in values.items():
        summary = summarise(queue(1, duration_s=5.0))
        summary.seed, summary.variant, summary.figures = seed, variant, (Figure.of(name, value, "modelled"),)
        summaries.append(summary)
    return summaries


def test_seeds_come_before_variants_so_that_an_early_end_has_something_of_each():
    assert trials_of([FEW, MANY], [1, 2]) == [Trial(FEW, 1), Trial(MANY, 1), Trial(FEW, 2), Trial(MANY, 2)]


def test_estimates_are_means_over_seeds():
    experiment = made(variants=(FEW,))
    told = {each.name: each for each in experiment.estimates("few")}
    values = [run.value("goodput") for run in experiment.summaries["few"]]
    assert told["goodput"].interval.mean == pytest.approx(sum(values) / 3)
    assert 0 < told["goodput"].interval.half < inf
    assert told["energy_feeder"].method == "assumed"
    assert experiment.value("few", "goodput") == told["goodput"].interval.mean
    assert not experiment.partial


def test_more_servers_are_better_for_callers_and_worse_for_the_bill():
    verdicts = {each.name: each.verdict for each in made().differences("few", "many")}
    assert verdicts["ttft_p99"] == "better"
    assert verdicts["goodput"] == "better"
    assert verdicts["cost"] == "worse"
    assert verdicts["requests"] == "no difference shown"


def test_differences_are_taken_by_seed():
    # The seeds differ by far more than the variants do; by seed, the difference is clear.
    first = plain({1: 100.0, 2: 10.0, 3: 55.0})
    second = plain({3: 56.1, 1: 101.0, 2: 11.2, 4: 999.0}, variant="b")
    (found,) = Experiment(7, {"a": first, "b": second}).differences("a", "b")
    assert found.verdict == "better"
    assert found.interval.mean == pytest.approx(1.1)
    assert found.interval.runs == 3
    assert found.share == pytest.approx(1.1 / 55)


@pytest.mark.parametrize(
    ("name", "values", "verdict"),
    [
        ("goodput", {1: 2.0, 2: 2.0}, "better"),
        ("ttft_p99", {1: 2.0, 2: 2.0}, "worse"),
        ("open", {1: 2.0, 2: 2.0}, "differs"),
        ("goodput", {1: 1.0, 2: 1.0}, "no difference shown"),
        ("goodput", {1: 1.5, 2: 0.6}, "no difference shown"),
        ("goodput", {1: 2.0}, "no difference shown"),
        ("goodput", {1: nan, 2: 2.0}, "no difference shown"),
    ],
)
def test_verdicts(name, values, verdict):
    experiment = Experiment(4, {"a": plain({1: 1.0, 2: 1.0}, name), "b": plain(values, name, "b")})
    assert experiment.differences("a", "b")[0].verdict == verdict


def test_what_was_cut_short_does_not_count_beside_what_is_whole():
    runs = plain({1: 1.0, 2: 3.0, 3: 500.0})
    runs[2].partial = True
    experiment = Experiment(3, {"a": runs})
    assert experiment.partial
    assert experiment.value("a", "goodput") == 2.0
    assert Experiment(1, {"a": runs[2:]}).value("a", "goodput") == 500.0


def test_seeds_that_change_nothing_are_told():
    experiment = Experiment(4, {"a": plain({1: 1.0, 2: 1.0}), "b": plain({1: 1.0, 2: 1.0})})
    experiment.summaries["b"][1].trace_hash = "another"
    assert [warning for warning in experiment.warnings if "seed" in warning] == [
        "Every seed gives the same run of a: intervals of 0 say nothing of other days."
    ]
    assert made().warnings == ["The profile of <chat> is extrapolated beyond a batch of 128."]


def test_a_variant_that_never_ran_is_unknown():
    experiment = Experiment(2, {"a": plain({1: 1.0}), "b": []})
    assert experiment.partial
    assert experiment.estimates("b") == []
    assert experiment.differences("a", "b") == []
    assert isnan(experiment.value("b", "goodput"))


points = some.dictionaries(
    some.text(max_size=3),
    some.tuples(*[some.one_of(some.integers(0, 9).map(float), some.just(nan))] * 2),
    max_size=12,
)


@quick
@given(points)
def test_nobody_on_the_front_is_beaten_and_everybody_else_is(points):
    front = pareto(points)
    known = {name: point for name, point in points.items() if point[0] == point[0] and point[1] == point[1]}

    def beaten(name):
        x, y = known[name]
        return any(a <= x and b <= y and (a, b) != (x, y) for a, b in known.values())

    assert not any(beaten(name) for name in front)
    assert {known[name] for name in known if not beaten(name)} == {known[name] for name in front}
    assert [known[name][0] for name in front] == sorted(known[name][0] for name in front)


def test_the_front_goes_by_money_and_by_energy_where_there_is_no_money():
    experiment = made()
    assert experiment.front() == ("cost_per_mtok", ["few", "many"])
    for runs in experiment.summaries.values():
        for run in runs:
            run.figures = tuple(figure for figure in run.figures if "cost" not in figure.name)
    assert experiment.front()[0] == "energy_per_token"
    assert Experiment(1, {"a": plain({1: 1.0})}).front() == ("", [])
