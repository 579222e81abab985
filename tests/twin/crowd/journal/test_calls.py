"""Calls as a journal tells of them: in order, with their ends, whatever else is open."""

from __future__ import annotations

import pytest
from tests.twin.journals import STARTED_S, Recorder

from underlay.domain.errors import BadRequest
from underlay.twin.crowd.journal.calls import calls_in
from underlay.twin.replay import replay


def test_every_call_is_told_once_in_order_with_what_the_engines_counted(minute):
    calls = list(calls_in(minute))
    assert [call.number for call in calls] == list(range(60))
    assert [call.arrived.at for call in calls] == sorted(call.arrived.at for call in calls)
    for call in calls:
        assert call.outcome == "finished"
        assert call.arrived.prompt_bytes == 4 * call.usage.prompt_tokens
        assert call.arrived.at < call.first_at <= call.ended_at
        assert (call.tenant, call.key_id) == ("team", "key_team")
    assert max(call.attempts for call in calls) > 1  # a replica was lost meanwhile
    assert replay(minute).equal


def test_who_leaves_is_refused_or_stays_open_is_told_so(tmp_path):
    recorder = Recorder(replicas=1, waiting_max=0)
    for _ in range(5):
        recorder.call(0.0, 400, 100)
    recorder.leave(0.05, 1)  # before its first token
    recorder.call(10.0, 100, 100)
    recorder.leave(11.0, 0)  # in the middle of its answer
    recorder.call(20.0, 100, 500)
    calls = list(calls_in(recorder.write(tmp_path / "j", upto_s=21.0)))
    assert [call.outcome for call in calls] == [
        "finished",
        "left",
        "finished",
        "finished",
        "refused",
        "left",
        "open",
    ]
    assert calls[1].first_at is None
    assert calls[1].ended_at == STARTED_S + 0.05
    assert 0 < calls[5].usage.completion_tokens < 100
    assert calls[6].first_at is not None


def test_a_torn_end_ends_the_journal_and_damage_is_told(minute, tmp_path):
    data = minute.read_bytes()
    torn = tmp_path / "torn"
    torn.write_bytes(data[:-7])
    assert len(list(calls_in(torn))) == 60
    damaged = tmp_path / "damaged"
    damaged.write_bytes(data[:5000] + b"\xff" + data[5001:])
    with pytest.raises(BadRequest, match="damaged"):
        list(calls_in(damaged))


@pytest.mark.parametrize(("data", "said"), [(b"", "empty"), (b"event: x\ndata: {}\n\n", "damaged|not a journal")])
def test_what_is_no_journal_is_refused(tmp_path, data, said):
    path = tmp_path / "notes"
    path.write_bytes(data)
    with pytest.raises(BadRequest, match=said):
        list(calls_in(path))
    with pytest.raises(BadRequest, match="cannot be read"):
        list(calls_in(tmp_path / "nowhere"))
