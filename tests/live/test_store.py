"""The store: what was acknowledged is there, once, whatever happens to the process that wrote it."""

import contextlib
import signal
import sqlite3
import stat
import subprocess
import sys
import threading

import msgspec
import pytest

from underlay.domain.answer import Usage
from underlay.domain.views import Hop, Journey, LedgerRow
from underlay.live import keyring, store
from underlay.live.store import KeyWatch, LedgerSum, Store, StoreTooNew, StoreWriter

DAY_S = 86_400


def charge(number, *, tenant="acme", key_id="key_1", model="m", at_s=1000.0, cost=5):
    return LedgerRow(f"req_{number}", at_s, tenant, key_id, model, "finished", Usage(10, 4, 3), cost)


def journey(number, at_s=1000.0):
    return Journey(
        id=f"req_{number}",
        at_s=at_s,
        dialect="openai",
        operation="chat",
        model="m",
        tenant="acme",
        key_id="key_1",
        outcome="finished",
        status=200,
        usage=Usage(10, 4, 3),
        money_usd="0.001",
        duration_ms=12.5,
        ttft_ms=None,
        attempts=1,
        hops=(Hop("identity", 0.0, 0.1, why="key_1 is live"), Hop("engine", 0.1, 12.0, who="r1", tokens=3)),
    )


@contextlib.contextmanager
def writing(data_dir, **options):
    writer = StoreWriter(data_dir, **options)
    try:
        yield writer
    finally:
        writer.close(timeout_s=5)


REVOKES = """
import sys, time
from pathlib import Path
from underlay.live import keyring
from underlay.live.store import Store
with Store(Path(sys.argv[1])) as store:
    keyring.revoke(store, sys.argv[2], 2.0)
"""


def test_a_process_that_comes_and_goes_leaves_the_log_to_those_who_stay(tmp_path):
    with Store(tmp_path) as platform, writing(tmp_path) as writer:
        watch = KeyWatch(platform)
        writer.submit_charge(charge(1))
        assert writer.flush(5)
        for _ in range(3):
            made = keyring.create(platform, tenant="acme", at_s=1.0)
            watch.poll()
            subprocess.run([sys.executable, "-c", REVOKES, str(tmp_path), made.key.id], check=True)
            assert (tmp_path / "underlay.db-wal").exists()
            assert [key.revoked_s for key in watch.poll()] == [2.0]


def test_the_file_and_its_directory_are_closed_to_others(tmp_path):
    data_dir = tmp_path / "deep" / "data"
    with Store(data_dir) as opened:
        keyring.create(opened, tenant="acme", at_s=1.0)
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()} == {0o600}
        assert {path.name for path in data_dir.iterdir()} >= {"underlay.db", "underlay.db-wal"}


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


def test_sums_by_tenant_key_model_and_day(tmp_path):
    rows = [
        charge(1, tenant="a", key_id="k1", model="x", at_s=0.0),
        charge(2, tenant="a", key_id="k2", model="y", at_s=DAY_S - 1.0),
        charge(3, tenant="b", key_id="k3", model="x", at_s=DAY_S * 1.0),
    ]
    with writing(tmp_path) as writer, Store(tmp_path) as reader:
        assert reader.totals() == LedgerSum("", 0, Usage(), 0)
        for row in rows:
            writer.submit_charge(row)
        writer.flush()

        def counted(by, **period):
            return {row.group: row.requests for row in reader.ledger_sums(by, **period)}

        assert counted("tenant") == {"a": 2, "b": 1}
        assert counted("key") == {"k1": 1, "k2": 1, "k3": 1}
        assert counted("model") == {"x": 2, "y": 1}
        assert counted("day") == {"1970-01-01": 2, "1970-01-02": 1}
        assert counted("tenant", since_s=1.0, until_s=DAY_S) == {"a": 1}
        assert [row.request_id for row in reader.ledger()] == ["req_3", "req_2", "req_1"]
        assert [row.request_id for row in reader.ledger(tenant="a", limit=1)] == ["req_2"]
        assert reader.totals(since_s=DAY_S).requests == 1


def test_sums_stay_exact_beyond_sixty_four_bits(tmp_path):
    cost = 2**63 - 1
    with writing(tmp_path) as writer, Store(tmp_path) as reader:
        for number in range(5):
            writer.submit_charge(charge(number, cost=cost))
        writer.flush()
        assert reader.totals().cost_pico_usd == 5 * cost


def test_journeys_come_back_whole_newest_first_and_old_ones_go(tmp_path):
    with writing(tmp_path, journeys_kept=10, batch_max=7) as writer, Store(tmp_path) as reader:
        for number in range(25):
            writer.submit_journey(journey(number, at_s=1000.0 + number))
        writer.flush()
        assert [row.id for row in reader.journeys()] == [f"req_{number}" for number in range(24, 14, -1)]
        assert [row.id for row in reader.journeys(limit=3, before=1020.0)] == ["req_19", "req_18", "req_17"]
        assert reader.journeys(before=1000.0) == []
        assert reader.journey("req_24") == journey(24, at_s=1024.0)
        assert reader.journey("req_3") is None
        assert reader.journeys_beginning("req_2") == ["req_24", "req_23", "req_22", "req_21", "req_20"]
        assert reader.journeys_beginning("%") == []


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


def test_another_process_sees_changed_keys_at_its_next_poll(tmp_path):
    with Store(tmp_path) as platform, Store(tmp_path) as command_line:
        first = keyring.create(command_line, tenant="acme", at_s=1.0).key
        watch = KeyWatch(platform)
        assert watch.poll() == [first]
        assert watch.poll() == []
        new = keyring.rotate(command_line, first.id, overlap_s=5.0, at_s=2.0).key
        assert [key.id for key in watch.poll()] == [new.id, first.id]
        revoked = keyring.revoke(platform, new.id, 3.0)
        assert watch.poll() == [revoked]
        keyring.revoke(command_line, new.id, 4.0)
        assert watch.poll() == []


def test_a_rotation_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    with Store(tmp_path) as opened:
        old = keyring.create(opened, tenant="acme", at_s=1.0).key
        put, calls = Store.put_key, []

        def failing(self, key):
            calls.append(key)
            if len(calls) == 2:
                raise sqlite3.OperationalError("disk full")
            put(self, key)

        monkeypatch.setattr(Store, "put_key", failing)
        with pytest.raises(sqlite3.OperationalError):
            keyring.rotate(opened, old.id, overlap_s=5.0, at_s=2.0)
        assert opened.keys() == [old]


def test_many_open_a_new_file_at_once(tmp_path):
    failures = []

    def opening():
        try:
            with Store(tmp_path) as opened:
                keyring.create(opened, tenant="acme", at_s=1.0)
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=opening) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Store(tmp_path) as opened:
        assert (failures, len(opened.keys())) == ([], 8)


def test_a_file_of_a_later_version_is_left_alone(tmp_path):
    with Store(tmp_path) as opened:
        opened._connection.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(StoreTooNew):
        Store(tmp_path)


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
    connect = store._connect

    def on_small_disk(data_dir):
        connection = connect(data_dir)
        if full.is_set():
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(store, "_connect", on_small_disk)
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
from underlay.live.store import StoreWriter
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
