"""The gate: a recorded journal, decided again, gives exactly the same effects; where not, it says where."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.control.builders import NOW_S, arrived, key, settings

from underlay.control import journal
from underlay.control.desk import assemble
from underlay.control.effects import Charge
from underlay.control.events import Finished, FirstToken, KeyChanged, ReplicaLost, ReplicaSeen
from underlay.control.journal import Entry, Header, JournalError
from underlay.domain.answer import Usage
from underlay.twin.replay import replay

EVENTS = [
    KeyChanged(NOW_S, key()),
    ReplicaSeen(NOW_S, "r1", "gemma", 1),
    ReplicaSeen(NOW_S, "r2", "gemma", 1),
    arrived("t1", NOW_S + 1, streaming=True),
    FirstToken(NOW_S + 2, "t1", 1, 10, 0),
    ReplicaLost(NOW_S + 3, "r1", "killed"),
    arrived("t2", NOW_S + 4),
    Finished(NOW_S + 5, "t1", 2, Usage(10, 0, 7)),
]


@pytest.fixture
def recorded():
    """A run in which one prompt survives its replica and another is still being answered when it stops."""
    desk = assemble(settings())
    return [Entry(event, desk.handle(event)) for event in EVENTS]


@pytest.fixture
def write(tmp_path):
    def to_file(entries, version="0.1.0"):
        path = tmp_path / "run.journal"
        header = Header(journal.FORMAT, version, NOW_S, settings())
        path.write_bytes(b"".join(map(journal.encode, [header, *entries])))
        return path

    return to_file


def test_what_was_recorded_is_decided_again(recorded, write):
    path = write(recorded)
    report = replay(path)
    assert report.equal
    assert report.first_difference is None
    assert (report.path, report.version) == (str(path), "0.1.0")
    assert report.events == len(EVENTS)
    assert report.effects == sum(len(entry.effects) for entry in recorded)
    assert report.open_tickets == 1
    assert report.span_s == 5.0


def test_a_journal_without_events_is_equal_and_empty(write):
    report = replay(write([]))
    assert (report.equal, report.events, report.effects, report.span_s) == (True, 0, 0, 0.0)


@pytest.mark.parametrize("number", [4, 6, 8])
def test_a_changed_effect_is_found_at_its_event(recorded, write, number):
    effects = recorded[number - 1].effects
    doctored = [*effects[:-1], replace(effects[-1], why="because")]
    recorded[number - 1] = replace(recorded[number - 1], effects=doctored)
    report = replay(write(recorded))
    assert not report.equal
    assert report.first_difference.startswith(f"event {number} (")
    assert f"effect {len(effects)} was " in report.first_difference
    assert "why='because'" in report.first_difference
    assert report.events == len(EVENTS)  # it goes on, so that all is counted


def test_a_bill_that_was_touched_is_found(recorded, write):
    (booked,) = [effect for effect in recorded[-1].effects if type(effect) is Charge]
    cheap = [replace(e, cost_pico_usd=1) if e is booked else e for e in recorded[-1].effects]
    recorded[-1] = replace(recorded[-1], effects=cheap)
    assert "cost_pico_usd=1" in replay(write(recorded)).first_difference


def test_a_missing_effect_is_found(recorded, write):
    effects = recorded[3].effects
    recorded[3] = replace(recorded[3], effects=effects[:-1])
    assert replay(write(recorded)).first_difference.endswith(
        f": {len(effects) - 1} effects then, {len(effects)} now"
    )


def test_a_missing_event_is_found_where_it_is_first_felt(recorded, write):
    del recorded[0]  # nobody knows the key any more
    assert replay(write(recorded)).first_difference.startswith("event 3 (")


def test_an_event_that_cannot_be_is_reported_not_raised(recorded, write):
    recorded.insert(4, recorded[3])
    report = replay(write(recorded))
    assert not report.equal
    assert report.first_difference.startswith("event 5 (")
    assert "ticket t1 arrived twice" in report.first_difference


def test_only_the_first_difference_is_told(recorded, write):
    for number in (3, 5):
        recorded[number] = replace(recorded[number], effects=[])
    assert replay(write(recorded)).first_difference.startswith("event 4 (")


def test_a_torn_tail_is_no_difference(recorded, write):
    path = write(recorded)
    path.write_bytes(path.read_bytes()[:-1])
    report = replay(path)
    assert report.equal
    assert report.events == len(EVENTS) - 1
    assert report.open_tickets == 2


def test_damage_in_the_middle_is_no_torn_tail(recorded, write):
    path = write(recorded)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalError, match="damaged"):
        replay(path)


@pytest.mark.parametrize("data", [b"", b"\n", b"event: message_start\ndata: {}\n\n"])
def test_another_file_is_no_journal(tmp_path, data):
    path = tmp_path / "notes.txt"
    path.write_bytes(data)
    with pytest.raises(JournalError, match=r"not a journal|damaged"):
        replay(path)


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        replay(tmp_path / "nowhere.journal")
