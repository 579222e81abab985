"""The writer: what it took is in the store, once, whatever the disk, the lock or a signal did meanwhile."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading

import msgspec
from tests.live.records import charge, journey, writing

from underlay.domain.answer import Usage
from underlay.domain.views import LedgerRow
from underlay.live import store, store_writer
from underlay.live.store import LedgerSum, Store
from underlay.live.store_writer import StoreWriter


def test_a_charge_is_entered_once_however_often_it_comes(tmp_path):
    with writing(tmp_path) as writer, Store(tmp_path) as reader:
        for _ in range(3):
            for number in range(300):
                assert writer.submit_charge(charge(number))
        assert writer.submit_charge(charge(7, cost=999))
        assert writer.flush()
        assert reader.totals() == LedgerSum("", 300, Usage(3000, 1200, 900), 1500)
        assert reader.charge("req_7") == charge(7)
        assert reader.charge("req_none") is None


def test_a_journey_told_again_replaces_the_first_telling(tmp_path):
    with writing(tmp_path) as writer, Store(tmp_path) as reader:
        writer.submit_journey(journey(1))
        writer.submit_journey(msgspec.structs.replace(journey(1), outcome="failed"))
        writer.flush()
        assert [row.outcome for row in reader.journeys()] == ["failed"]


def test_marks_move_forward_only(tmp_path):
    with writing(tmp_path) as writer, Store(tmp_path) as reader:
        for settled_bytes in (10, 500, 20):
            writer.submit_mark("0001.journal", settled_bytes)
        writer.submit_mark("0002.journal", 1)
        writer.flush()
        assert reader.marks() == {"0001.journal": 500, "0002.journal": 1}
        reader.forget_mark("0001.journal")
        assert reader.marks() == {"0002.journal": 1}


def test_a_locked_file_delays_and_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "BUSY_S", 0.05)
    Store(tmp_path).close()
    other = sqlite3.connect(tmp_path / "underlay.db", isolation_level=None)
    with writing(tmp_path) as writer, contextlib.closing(other), Store(tmp_path) as reader:
        other.execute("BEGIN IMMEDIATE")
        writer.submit_charge(charge(1))
        assert not writer.flush(timeout_s=0.4)
        health = writer.health()
        assert (health.waiting, health.dropped) == (1, 0)
        assert health.lag_s > 0.3
        assert "locked" in health.last_error
        other.execute("COMMIT")
        assert writer.flush()
        assert reader.totals().requests == 1
        assert (writer.lag, writer.last_error) == (0, None)


def test_a_full_disk_delays_and_loses_nothing(tmp_path, monkeypatch):
    full = threading.Event()
    full.set()
    connect = store_writer.connect

    def on_small_disk(data_dir):
        connection = connect(data_dir)
        if full.is_set():
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(store_writer, "connect", on_small_disk)
    with writing(tmp_path) as writer:
        for number in range(500):
            writer.submit_charge(charge(number))
        assert not writer.flush(timeout_s=0.3)
        assert "full" in writer.last_error
        full.clear()
        assert writer.flush()
    with Store(tmp_path) as reader:
        assert reader.totals().requests == 500


def test_a_directory_that_cannot_be_used_does_not_stop_the_gateway(tmp_path):
    obstacle = tmp_path / "data"
    obstacle.write_text("a file, not a directory")
    writer = StoreWriter(obstacle)
    assert writer.submit_charge(charge(1))
    assert not writer.flush(timeout_s=0.2)
    assert "FileExistsError" in writer.last_error
    assert not writer.close(timeout_s=0.2)
    assert not writer.submit_charge(charge(2))


def test_a_record_that_can_never_be_written_does_not_hold_up_the_others(tmp_path):
    with writing(tmp_path) as writer, Store(tmp_path) as reader:
        bad = [charge("huge", cost=2**63), charge("nan", at_s=float("nan")), charge("\ud800")]
        for row in [charge(1), *bad, charge(2)]:
            writer.submit_charge(row)
        assert writer.flush()
        assert [row.request_id for row in reader.ledger()] == ["req_2", "req_1"]
        assert writer.health().rejected == 3
        assert "cannot be written" in writer.last_error


def test_without_room_charges_are_left_to_the_journal_and_marks_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "BUSY_S", 0.05)
    Store(tmp_path).close()
    other = sqlite3.connect(tmp_path / "underlay.db", isolation_level=None)
    with writing(tmp_path, waiting_max=10) as writer, contextlib.closing(other), Store(tmp_path) as reader:
        other.execute("BEGIN IMMEDIATE")
        assert [writer.submit_journey(journey(number)) for number in range(6)] == [True] * 5 + [False]
        assert not writer.has_gap
        assert [writer.submit_charge(charge(number)) for number in range(6)] == [True] * 5 + [False]
        assert writer.has_gap
        other.execute("COMMIT")
        assert writer.flush()
        assert not writer.submit_mark("0001.journal", 600)
        assert writer.submit_charge(charge(5))
        writer.close_gap()
        assert writer.submit_mark("0001.journal", 600)
        assert writer.flush()
        assert (reader.totals().requests, reader.marks()) == (6, {"0001.journal": 600})


def test_closing_commits_what_is_waiting(tmp_path):
    writer = StoreWriter(tmp_path, pause_s=30.0)
    writer.submit_charge(charge(1))
    assert writer.close()
    with Store(tmp_path) as reader:
        assert reader.totals().requests == 1


KILLED = """
import sys
from pathlib import Path
from underlay.domain.answer import Usage
from underlay.domain.views import LedgerRow
from underlay.live.store_writer import StoreWriter
writer = StoreWriter(Path(sys.argv[1]))
for number in range(10_000_000):
    writer.submit_charge(LedgerRow(f"req_{number}", 1.0, "acme", "key_1", "m", "finished", Usage(1, 0, 1), 5))
    if number % 50 == 49:
        assert writer.flush()
        print(number + 1, flush=True)
"""


def test_kill_nine_keeps_every_acknowledged_charge_once(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        for line in child.stdout:
            if int(line) >= 1000:
                child.send_signal(signal.SIGKILL)
                break
        acknowledged = max([1000, *(int(line) for line in child.stdout if line.endswith("\n"))])
    with Store(tmp_path) as reader:
        survived = reader.totals().requests
        assert survived >= acknowledged
        assert [reader.charge(f"req_{number}") is not None for number in range(survived)] == [True] * survived
        assert reader._rows("PRAGMA integrity_check") == [("ok",)]
    with writing(tmp_path) as writer:  # what the journal would submit again
        for number in range(acknowledged):
            writer.submit_charge(LedgerRow(f"req_{number}", 1.0, "acme", "key_1", "m", "x", Usage(1, 0, 1), 5))
        assert writer.flush()
    with Store(tmp_path) as reader:
        assert reader.totals() == LedgerSum("", survived, Usage(survived, 0, survived), survived * 5)
