"""``underlay twin replay --energy``: decisions exactly, joules as near as the twin comes."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import pytest
from tests.twin.journals import STARTED_S, Recorder
from tests.twin.settled import logging_recorder, written

from underlay.live.store import Store


@pytest.fixture
def settled(home):
    recorder = logging_recorder()
    recorder.crowd(60)
    return written(recorder, home / "settled.journal")


def test_people_get_each_account_and_what_a_request_is_off(underlay, settled):
    done = underlay("twin", "replay", str(settled), "--energy")
    assert done.exit_code == 0, done.stderr
    for part in ("equal", "60 requests compared", "busy", "fitted to 60", "off by", "at the median"):
        assert part in done.stdout


def test_programs_get_all_of_it(underlay, settled):
    said = json.loads(underlay("twin", "replay", str(settled), "--energy", "--json").stdout)
    assert said["equal"] is True
    (energy,) = said["energy"]
    assert energy["compared"] == 60
    assert energy["median_off"] < 0.1
    assert {row["account"] for row in energy["accounts"]} == {"busy"}
    off = sorted(row["off"] for row in energy["requests"])
    assert off[0] <= energy["median_off"] <= off[-1]


def test_what_is_nobodys_is_told_from_the_store_beside_the_journal(underlay, home, settled):
    """Nothing models idle power here, and that is said; it is not 0."""
    folder = home / "data"
    (folder / "journal").mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    journal = settled.rename(folder / "journal" / "a.journal")
    Store(folder).close()
    hour = int(STARTED_S // 3600)
    with contextlib.closing(sqlite3.connect(folder / "underlay.db")) as store:
        for account, joules in (("idle_provisioned", 120.0), ("metered", 120.0)):
            values = (hour, "local", "a meter", "measured", account, round(joules * 1e6))
            store.execute("INSERT INTO metered_energy VALUES (?, ?, ?, ?, ?, ?)", values)
        store.commit()
    done = underlay("twin", "replay", str(journal), "--energy")
    assert done.exit_code == 0, done.stderr
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("idle_provisioned")]
    assert row == ["idle_provisioned", "120.00", "J", "not", "modelled"]
    (energy,) = json.loads(underlay("twin", "replay", str(journal), "--energy", "--json").stdout)["energy"]
    assert energy["nobodys_joules"]["idle_provisioned"] == 120.0
    assert energy["idle_joules"] is None


def test_without_joules_or_with_a_profile_for_nothing_it_is_said(underlay, home):
    recorder = Recorder()
    recorder.crowd(10)
    path = recorder.write(home / "minute.journal")
    done = underlay("twin", "replay", str(path), "--energy")
    assert done.exit_code == 1
    assert "no request in this journal has settled joules" in done.stderr
    done = underlay("twin", "replay", str(path), "--profile", "mine.json")
    assert (done.exit_code, "--energy" in done.stderr) == (2, True)
