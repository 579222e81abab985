"""A recorded minute's joules, known to the step, and what the twin makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle, repeat
from pathlib import Path

import msgspec
import pytest
from tests.twin.journals import Recorder
from tests.twin.settled import TRUTH, logging_recorder, written

from underlay.control import journal
from underlay.control.events import EnergySettled
from underlay.control.journal import Entry
from underlay.domain.errors import BadRequest
from underlay.physics import profiles
from underlay.physics.step_power import StepJoules, StepPower
from underlay.twin.crowd.journal.survey import survey
from underlay.twin.recorded.energy import compare, settled_in
from underlay.twin.recorded.what_if import Question


@pytest.fixture
def recorder() -> Recorder:
    """A platform whose replicas log their steps."""
    return logging_recorder()


def test_each_request_has_its_joules_again(recorder, tmp_path):
    recorder.crowd(count=120)
    report = compare(Question(written(recorder, tmp_path / "j")))
    assert (report.compared, report.unsettled, report.unmatched) == (120, 0, 0)
    assert report.median_off < 0.1
    assert report.p90_off < 0.4  # step times are fitted too, so batches are not quite the same
    (busy,) = report.accounts
    assert busy.account == "busy"
    assert abs(busy.share) < 0.05
    (of,) = report.coefficients
    assert of.step_j == pytest.approx(0.8, rel=0.15)
    assert "fitted to 120" in of.source


def test_each_account_comes_again(recorder, tmp_path):
    recorder.crowd(count=80)
    for number in range(40, 80, 4):
        recorder.leave(number * 0.5, 0)
    report = compare(Question(written(recorder, tmp_path / "j", host_j=0.01, pue=1.2)))
    found = {each.account: each for each in report.accounts}
    assert set(found) == {"busy", "abandoned_streams", "host", "overhead"}
    for each in found.values():
        assert abs(each.share) < 0.2, each


def test_a_profile_with_power_is_held_against_all_requests(recorder, tmp_path):
    recorder.crowd(count=40)
    path = written(recorder, tmp_path / "j", host_j=0.01)
    power = StepPower(
        "calibrated", "a meter", "a test", StepJoules(*TRUTH), 0.0, "", (1,), (1.0,), 1.0, idle_w=10.0
    )
    line = next(iter(profiles.lines().values()))
    file = tmp_path / "mine.profile.json"
    as_recorded = msgspec.structs.replace(
        line, decode_sequences=(1,), decode_ms=(1.0,), mixed_tokens=(1,), mixed_ms=(1.0,), decode_fixed_ms=19.0,
        decode_sequence_us=5000.0, decode_kv_token_ns=2000.0, prefill_fixed_ms=4.0, prefill_token_us=1000.0,
        prefill_pair_ns=0.0, mixed_slowdown=0.0, host_ms=0.0, engine="llama.cpp", power=power,
    )  # fmt: skip
    file.write_bytes(msgspec.json.encode(as_recorded))
    report = compare(Question(path, (("", str(file)),)))
    assert report.compared == 40
    two_replicas_s = 2 * (report.end_s - report.begin_s)
    assert 0.3 * two_replicas_s < report.idle_joules / 10.0 < 0.95 * two_replicas_s
    assert report.median_off < 0.02
    assert {each.account: each.twin_joules is None for each in report.accounts} == {"busy": False, "host": True}


def test_what_all_prompts_begin_with_is_found_in_the_caches_again(tmp_path):
    """Short prompts are hardly more than their template: whoever read it anew would take many times the joules."""
    recorder = logging_recorder(opening_tokens=90)
    for number in range(60):
        recorder.call(1.1 * number, 95 + number % 30, 3 + number % 5)
    path = written(recorder, tmp_path / "j")
    assert survey(path).models["m"].opening_tokens() == 90
    report = compare(Question(path))
    assert report.median_off < 0.1


def metered(path: Path, factors: Iterable[float]) -> Path:
    """The same journal, with so many times the joules of each request in turn."""
    header, entries = journal.decode(path.read_bytes())
    found, factor = [header], iter(factors)
    for entry, _ in entries:
        event = entry.event
        if isinstance(event, EnergySettled):
            times = next(factor)
            accounts = {name: joules * times for name, joules in event.accounts.items()}
            found.append(Entry(msgspec.structs.replace(event, joules=event.joules * times, accounts=accounts), []))
        else:
            found.append(entry)
    path.write_bytes(b"".join(map(journal.encode, found)))
    return path


def test_no_request_is_told_by_what_has_seen_it(recorder, tmp_path):
    """Of every second one ten times the joules: it is told by the others, and they by it."""
    recorder.crowd(count=60)
    report = compare(Question(metered(written(recorder, tmp_path / "j"), cycle((10.0, 1.0)))))
    ratios = sorted(request.twin_joules / request.live_joules for request in report.requests)
    assert ratios[29] < 0.2
    assert ratios[30] > 5.0


def test_meters_that_never_moved_are_no_joules(recorder, tmp_path):
    """What was settled at 0 J compares with nothing; that is said, and nothing is divided by it."""
    recorder.crowd(count=20)
    with pytest.raises(BadRequest, match="no request in this journal has settled joules"):
        compare(Question(metered(written(recorder, tmp_path / "j"), repeat(0.0))))


def test_equal_journals_give_equal_reports(recorder, tmp_path):
    recorder.crowd(count=40)
    path = written(recorder, tmp_path / "j")
    assert compare(Question(path)) == compare(Question(path))


def test_a_journal_without_joules_is_refused_with_a_reason(minute, recorder, tmp_path):
    assert settled_in(minute) == {}
    with pytest.raises(BadRequest, match="no request in this journal has settled joules"):
        compare(Question(minute))
    recorder.crowd(count=5)
    with pytest.raises(BadRequest, match=r"too few .* name a profile"):
        compare(Question(written(recorder, tmp_path / "j")))
