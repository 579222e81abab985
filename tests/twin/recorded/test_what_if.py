"""A recorded minute decided again: as it was, near to what it was; on other terms, as those demand."""

from __future__ import annotations

import json

import pytest
from tests.twin.journals import Recorder

from underlay.documents.findings import DocumentError
from underlay.domain.errors import BadRequest, NotFound
from underlay.domain.keys import Limits
from underlay.twin.recorded import what_if
from underlay.twin.recorded.what_if import Question
from underlay.twin.summary import summarise


def decided(path, seed=0, **changes):
    return what_if.run(Question(path), changes, seed, check=True)


def test_as_recorded_the_twin_is_near_to_what_was(minute):
    live, twin = what_if.live(Question(minute)), summarise(decided(minute))
    assert live.value("finished") == twin.value("finished") == 60
    assert live.value("output_tokens") == twin.value("output_tokens")
    for figure in ("ttft_mean", "ttft_p90", "tpot_mean", "tpot_p90", "e2e_mean", "e2e_p90"):
        assert twin.value(figure) == pytest.approx(live.value(figure), rel=0.1), figure
    assert {figure.method for figure in live.figures} == {"measured"}
    assert [what for _, what in twin.happenings] == ["m/1 was lost: killed", "m/1 became ready"]
    assert any("steps are calibrated" in warning for warning in twin.warnings)


def test_equal_seeds_decide_alike_and_other_terms_do_not(minute):
    assert decided(minute).trace_hash == decided(minute).trace_hash
    assert decided(minute, routing="random").trace_hash != decided(minute).trace_hash
    assert decided(minute, 0, routing="random").trace_hash != decided(minute, 1, routing="random").trace_hash


def test_more_replicas_and_fewer_calls_make_it_quicker(minute):
    as_it_was = summarise(decided(minute)).value("e2e_mean")
    assert summarise(decided(minute, replicas="4")).value("e2e_mean") < as_it_was
    assert summarise(decided(minute, replicas="1")).value("e2e_mean") > as_it_was
    assert summarise(decided(minute, rate="0.3")).value("e2e_mean") < as_it_was
    assert len(decided(minute, rate="2").requests) > 100


def test_a_part_of_the_journal_begins_with_the_fleet_of_that_time(minute):
    question = Question(minute, start_s=13.0, stop_s=20.0)  # while a replica is away
    result = what_if.run(question, {}, 0, check=True)
    live = what_if.live(question)
    assert len(result.requests) == live.value("requests") > 5
    assert result.happenings == [(pytest.approx(3.0), "m/1 became ready")]


def test_keys_are_what_they_were(tmp_path):
    recorder = Recorder(default_limits=Limits(requests_per_minute=5))
    for number in range(10):
        recorder.call(0.2 * number, 50, 10)
    path = recorder.write(tmp_path / "j")
    live, twin = what_if.live(Question(path)), summarise(decided(path))
    assert live.value("refused") == twin.value("refused") > 0


def test_callers_who_left_leave_again(tmp_path):
    recorder = Recorder(replicas=1)
    for number in range(12):
        recorder.call(0.01 * number, 400, 40)
    for _ in range(3):
        recorder.leave(1.0, -1)
    live = what_if.live(Question(path := recorder.write(tmp_path / "j")))
    assert live.value("left") == 3
    assert summarise(decided(path)).value("left") == 3
    assert summarise(decided(path, replicas="12")).value("left") == 0  # nobody has to wait so long


def test_a_profile_takes_the_place_of_the_fit(minute, tmp_path):
    slow = what_if.run(Question(minute, (("", "h100-sxm/llama-3.1-8b"),)), {}, 0)
    assert summarise(slow).value("tpot_mean") < 0.02
    assert any("steps are" in warning and "llama" not in warning for warning in slow.warnings)
    file = tmp_path / "engine.profile.json"
    file.write_text(json.dumps(PROFILE))
    ours = what_if.run(Question(minute, (("m", str(file)),)), {}, 0)
    assert summarise(ours).value("tpot_mean") == pytest.approx(
        what_if.live(Question(minute)).value("tpot_mean"), rel=0.1
    )


PROFILE = {
    "accelerator": "a processor", "model": "m", "parallelism": "tp1", "precision": "q4", "engine": "llama.cpp",
    "method": "calibrated", "source": "a test", "decode_sequences": [1], "decode_ms": [1.0], "mixed_tokens": [1],
    "mixed_ms": [1.0], "decode_fixed_ms": 19.0, "decode_sequence_us": 5000.0, "decode_kv_token_ns": 2000.0,
    "prefill_fixed_ms": 4.0, "prefill_token_us": 1000.0, "prefill_pair_ns": 0.0, "mixed_slowdown": 0.0,
    "host_ms": 0.0, "valid": {"decode_sequences": 4, "step_tokens": 512, "context_tokens": 2048},
    "fit_error": {
        "decode_mean": 0.01, "decode_p95": 0.02, "prefill_mean": 0.01, "prefill_p95": 0.02, "against": "itself",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("profiles", "changes", "error", "said"),
    [
        ((("", "nowhere.json"),), {}, BadRequest, "There is no profile"),
        ((("n", "h100-sxm/llama-3.1-8b"),), {}, BadRequest, "models are: m"),
        ((("", "h100/llama-3.1-8b"),), {}, NotFound, "h100"),
        ((), {"replicas": "0"}, BadRequest, "replicas"),
        ((), {"rate": "fast"}, BadRequest, "rate"),
        ((), {"rooting": "random"}, DocumentError, "rooting"),
    ],
)
def test_what_cannot_be_asked_is_told_before_anything_runs(minute, profiles, changes, error, said):
    with pytest.raises(error, match=said):
        what_if.check(Question(minute, profiles), changes)
