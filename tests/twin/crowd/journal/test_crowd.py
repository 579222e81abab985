"""The callers of a journal as a crowd."""

from __future__ import annotations

from random import Random

import pytest
from tests.twin.journals import Recorder

from underlay.domain.errors import BadRequest
from underlay.twin.crowd.journal.crowd import Journal
from underlay.twin.crowd.journal.survey import survey


def calls(path, seed=1, **more):
    return list(Journal(path, **more).calls(Random(seed)))


def told(call):
    return (call.at, call.prompt_tokens, call.output_tokens, call.links, call.session, call.tenant)


def test_everybody_calls_again_at_the_same_time_for_as_much(minute):
    made = calls(minute)
    assert made[0].at == 0.0
    assert len(made) == 60
    for call in made:
        origin = call.more.call
        assert call.output_tokens == origin.usage.completion_tokens
        assert call.prompt_tokens == origin.usage.prompt_tokens
        assert call.at == pytest.approx(origin.arrived.at - made[0].more.call.arrived.at)
        assert (call.model, call.tenant, call.deadline_s) == ("m", "team", None)
    assert list(map(told, made)) == list(map(told, calls(minute, seed=2)))


def test_a_part_of_the_journal_from_a_time_of_the_run_on(minute):
    whole, part = calls(minute), calls(minute, start_s=5.0, stop_s=15.0, at_s=100.0)
    assert [call.at - 95.0 for call in part] == pytest.approx([call.at for call in whole if 5.0 <= call.at < 15.0])
    with pytest.raises(BadRequest, match="nobody called"):
        Journal(minute, start_s=1e6).check()
    with pytest.raises(ValueError, match="start_s"):
        Journal(minute, start_s=5.0, stop_s=5.0)


@pytest.mark.parametrize("times", [0.5, 1.5, 3.0])
def test_more_or_fewer_calls_keep_their_order_and_share_no_prompts_with_copies(minute, times):
    made = calls(minute, times=times)
    assert len(made) == pytest.approx(60 * times, abs=20)
    assert [call.at for call in made] == sorted(call.at for call in made)
    assert {call.more.copy for call in made} == set(range(-int(-times // 1)))
    first = {call.more.call.number: call.links for call in made if call.more.copy == 0}
    for call in made:
        if call.more.copy and call.links:
            assert call.links[0] != first[call.more.call.number][0]


def test_the_rate_is_that_of_the_minute_around(minute):
    crowd = Journal(minute)
    assert crowd.rate_per_s(15.0) == pytest.approx(60 / 31, rel=0.1)
    assert crowd.rate_per_s(1000.0) == 0.0
    assert len(crowd.sample(100, Random(1))) == 100


def test_leavers_and_the_refused_are_made_up_for_and_that_is_said(tmp_path):
    recorder = Recorder(replicas=1, waiting_max=0)
    for _ in range(5):
        recorder.call(0.0, 400, 100)
    recorder.leave(0.05, 1)
    recorder.call(10.0, 100, 100)
    recorder.leave(11.0, 0)
    path = recorder.write(tmp_path / "j")
    made = calls(path)
    assert made[1].deadline_s == pytest.approx(0.05)
    assert made[4].more.call.outcome == "refused"
    assert made[4].output_tokens == 100  # the mean of those that finished
    assert made[4].prompt_tokens == pytest.approx(400, abs=1)  # from its bytes
    assert made[5].deadline_s is None
    assert 0 < made[5].output_tokens < 100
    said = " ".join(Journal(path).warnings())
    assert "1 of 6 recorded calls were refused" in said
    assert "2 recorded callers left" in said


def test_models_that_are_not_there_are_asked_as_another(minute):
    assert {call.model for call in calls(minute, model="chat", models=("chat",))} == {"chat"}
    assert {call.model for call in calls(minute, model="chat", models=("chat", "m"))} == {"m"}


def test_two_keys_of_a_tenant_are_told_apart(minute):
    assert survey(minute).whose == {"key_team": "team"}
    assert Journal(minute).tenant_bands() == {"": "", "team": ""}
