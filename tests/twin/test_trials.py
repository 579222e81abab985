"""Runs side by side in real processes, cut short, and lost."""

from __future__ import annotations

import pytest
from tests.twin.runs import run

from underlay.domain.errors import BadRequest
from underlay.twin.experiment import Variant, trials_of
from underlay.twin.trials import Beat, RunLost, conduct, cores

VARIANTS = [Variant("few", "a.yaml", (("servers", 3),)), Variant("many", "a.yaml", (("servers", 6),))]
TRIALS = trials_of(VARIANTS, [1, 2])


def never():
    return False


def test_side_by_side_is_the_same_as_one_after_the_other():
    alone = conduct(TRIALS, run, never, keep_rows=True)
    beats = {}
    together = conduct(TRIALS, run, never, jobs=2, keep_rows=True, watch=beats.__setitem__)
    assert [each.trial for each in alone] == [each.trial for each in together]
    assert repr([each.summary for each in alone]) == repr([each.summary for each in together])
    assert [each.result.requests.hash() for each in alone] == [each.result.requests.hash() for each in together]
    assert beats[3] == Beat(60.0, 60.0, len(together[3].result.requests))


def test_rows_are_only_kept_if_they_are_wanted():
    assert all(each.result is None for each in conduct(TRIALS[:1], run, never))


def test_nothing_more_is_begun_after_a_stop():
    told = []

    def stop():
        return bool(told)

    ended = conduct(TRIALS, run, stop, watch=lambda number, beat: told.append(number))
    assert [each.trial for each in ended] == TRIALS[:1]


def test_a_stop_cuts_what_runs_and_keeps_what_is_finished():
    endless = Variant("endless", "endless.yaml")
    seen = set()

    def watch(number, beat):
        if beat.simulated_s == (60.0 if number == 0 else 30.0):
            seen.add(number)

    ended = conduct(
        trials_of([VARIANTS[0], endless, endless, endless], [1]),
        run,
        lambda: {0, 1, 2} <= seen,  # the first is finished, the next two are running, the last has not begun
        jobs=2,
        watch=watch,
    )
    assert [each.summary.partial for each in ended] == [False, True, True]
    assert ended[1].summary.simulated_s == 20.0


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_run_raises_is_raised(jobs):
    with pytest.raises(BadRequest, match="no such thing") as caught:
        conduct(trials_of([Variant("wrong", "wrong.yaml"), VARIANTS[0]], [1]), run, never, jobs=jobs)
    assert caught.value.param == "world"


def test_a_process_that_is_lost_is_told():
    with pytest.raises(RunLost, match="ended without a word"):
        conduct(trials_of([Variant("lost", "lost.yaml")], [5, 6]), run, never, jobs=2)


def test_an_error_that_cannot_travel_is_told_in_words():
    with pytest.raises(RunLost, match="A run failed: Odd: odd: 3"):
        conduct(trials_of([Variant("odd", "odd.yaml")], [5, 6]), run, never, jobs=2)


def test_there_is_a_core():
    assert cores() >= 1
