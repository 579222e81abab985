"""Step times from requests' times: the engines that a journal was recorded on are found again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.twin.journals import TIMES, Recorder

from underlay.domain.errors import BadRequest
from underlay.twin.crowd.journal.loads import DecodeTime, PromptTime, Times
from underlay.twin.crowd.journal.survey import survey
from underlay.twin.recorded import steps


def test_the_engine_of_the_journal_is_found_again(minute):
    found = steps.fit("m", survey(minute).times["m"])
    assert found.error.decode_mean < 0.05
    assert found.error.prefill_mean < 0.05
    assert "not fitted" in found.error.against
    for sequences, kv_tokens in ((1, 200), (3, 900)):
        said_s = found.coefficients.decode_step_s(sequences, kv_tokens)
        assert said_s == pytest.approx(TIMES.decode_step_s(sequences, kv_tokens), rel=0.1)
    assert found.coefficients.prefill_s(300) == pytest.approx(TIMES.prefill_s(300), rel=0.05)
    assert found.beside_s == 0.0


def test_too_few_requests_are_told_with_what_to_do(tmp_path):
    recorder = Recorder()
    recorder.call(0.0)
    times = survey(recorder.write(tmp_path / "j")).times["m"]
    with pytest.raises(BadRequest, match="name a profile") as caught:
        steps.fit("m", times)
    assert caught.value.param == "profile"


def test_requests_that_are_all_alike_give_a_mean_that_says_so(tmp_path):
    recorder = Recorder(replicas=1)
    for number in range(8):
        recorder.call(4.0 * number, 100, 20)
    found = steps.fit("m", survey(recorder.write(tmp_path / "j")).times["m"])
    assert len(found.warnings) == 2
    assert found.coefficients.prefill_s(100) == pytest.approx(TIMES.prefill_s(100), rel=0.05)
    assert found.coefficients.decode_step_s(1, 110) == pytest.approx(TIMES.decode_step_s(1, 110), rel=0.05)


def test_what_engines_say_themselves_counts_and_the_rest_lies_beside():
    times = Times()
    for number in range(8):
        times.prompts.add(PromptTime(100 + 10 * number, 0, 0.1 + 0.01 * number, 0.007, 0))
        times.decodes.add(DecodeTime(20, 0.02 * 20, 1.0 + number / 8, 200.0 + number, 0, 0))
    found = steps.fit("m", times)
    assert found.beside_s == 0.007
    assert found.coefficients.prefill_s(150) == pytest.approx(0.15, rel=0.02)


def test_times_of_which_there_are_many_are_thinned_evenly():
    times = Times()
    for number in range(20_000):
        times.prompts.add(number)
    kept = times.prompts.kept
    assert len(kept) < 4096
    gaps = {after - before for before, after in pairwise(kept)}
    assert len(gaps) == 1
