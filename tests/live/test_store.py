"""The store: what was acknowledged is there, as it was, for every process that opens the file."""

import sqlite3
import stat
import subprocess
import sys
import threading

import pytest
from tests.live.records import charge, journey, writing

from underlay.domain.answer import Usage
from underlay.domain.keys import Budget, Limits
from underlay.domain.views import LedgerRow
from underlay.live import keyring
from underlay.live.store import KeyWatch, LedgerSum, Spent, Store
from underlay.live.store_schema import _FIRST, SCHEMA_VERSION, StoreTooNew

DAY_S = 86_400


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


# What was spent.


def test_what_was_spent_is_counted_once_by_day_and_failures_are_not(tmp_path):
    huge = 2**62 + 1
    rows = [
        charge(1, at_s=DAY_S - 1.0, cost=huge),
        charge(2, at_s=DAY_S * 1.0, cost=huge),
        charge(3, at_s=DAY_S + 1.0, cost=huge),
        charge(4, at_s=DAY_S + 1.0, model="x", tenant="b", key_id="key_2", cost=7),
    ]
    failed = LedgerRow("req_5", DAY_S + 1.0, "acme", "key_1", "m", "failed", Usage(10, 0, 3), 0)
    with writing(tmp_path) as writer, Store(tmp_path) as reader:
        for row in [*rows, *rows, failed]:  # told twice: from memory, and again from the journal
            writer.submit_charge(row)
        writer.flush()
        assert reader.spent_since(0.0) == [
            Spent("key_1", "acme", "m", 3 * 13, 3 * huge),
            Spent("key_2", "b", "x", 13, 7),
        ]
        assert reader.spent_since(DAY_S * 1.0) == [
            Spent("key_1", "acme", "m", 2 * 13, 2 * huge),
            Spent("key_2", "b", "x", 13, 7),
        ]
        assert reader.spent_since(DAY_S * 2.0) == []


def test_a_file_of_the_first_version_is_brought_up_to_date_with_all_that_is_in_it(tmp_path):
    with sqlite3.connect(tmp_path / "underlay.db", isolation_level=None) as old:
        for statement in _FIRST:
            old.execute(statement)
        old.execute(
            "INSERT INTO keys VALUES"
            " ('key_1', 'd', 'acme', 'app', 'ul_abcde', '[\"m\"]', '{\"concurrent\":3}', 1.5, NULL, NULL, NULL, 1)"
        )
        for number, outcome in enumerate(["finished", "client_gone", "failed"]):
            values = (f"req_{number}", DAY_S * 2.0 + number, "acme", "key_1", "m", outcome, 10, 4, 3, 2**62)
            old.execute("INSERT INTO charges VALUES (?,?,?,?,?,?,?,?,?,?)", values)
        old.execute("INSERT INTO journal_marks VALUES ('old.journal', 99)")
    old.close()
    for _ in range(2):  # the second time there is nothing left to do
        with Store(tmp_path) as opened:
            (key,) = opened.keys()
            assert (key.id, key.models, key.limits, key.created_s) == ("key_1", ("m",), Limits(concurrent=3), 1.5)
            assert (key.user, key.band, key.budgets) == ("", "", ())
            assert len(opened.ledger()) == 3
            assert opened.marks() == {"old.journal": 99}
            assert opened.spent_since(0.0) == [Spent("key_1", "acme", "m", 26, 2**63)]
            assert opened._rows("SELECT version FROM schema_version") == [(SCHEMA_VERSION,)]
    with writing(tmp_path) as writer, Store(tmp_path) as opened:
        writer.submit_charge(charge(9, at_s=DAY_S * 2.0, cost=1))
        writer.flush()
        assert opened.spent_since(0.0) == [Spent("key_1", "acme", "m", 39, 2**63 + 1)]


def test_an_update_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    with sqlite3.connect(tmp_path / "underlay.db", isolation_level=None) as old:
        for statement in _FIRST:
            old.execute(statement)
    old.close()
    monkeypatch.setattr("underlay.live.store_schema._STEPS", (_FIRST, ("CREATE TABLE half (x)", "NONSENSE")))
    with pytest.raises(sqlite3.OperationalError):
        Store(tmp_path)
    monkeypatch.undo()
    with Store(tmp_path) as opened:
        assert opened._rows("SELECT name FROM sqlite_master WHERE name = 'half'") == []
        assert opened.spent_since(0.0) == []


def test_a_keys_user_band_and_budgets_come_back(tmp_path):
    budgets = (Budget("month", 5 * 10**12), Budget("day", None, 200_000))
    with Store(tmp_path) as opened:
        made = keyring.create(opened, tenant="acme", user="ann", band="batch", budgets=budgets, at_s=1.0).key
        assert opened.key(made.id) == made
        assert (made.user, made.band, made.budgets) == ("ann", "batch", budgets)
        new = keyring.rotate(opened, made.id, overlap_s=5.0, at_s=2.0).key
        assert (new.user, new.band, new.budgets, new.limits) == ("ann", "batch", budgets, made.limits)
