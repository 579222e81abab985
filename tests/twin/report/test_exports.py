"""Tables for other programs: every row, every ending, and no half of one."""

from __future__ import annotations

import csv
import sys

import pytest
from pyarrow import parquet
from tests.twin.runs import add, empty, queue

from underlay.domain.errors import BadRequest
from underlay.twin.report import exports
from underlay.twin.report.exports import REQUEST_COLUMNS, check_path, write_requests, write_series
from underlay.twin.summary import summarise


def two():
    return [queue(1, variant="a"), queue(2, variant="=cmd()")]


def test_csv_and_parquet_hold_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "_CHUNK", 500)  # several pieces, the last one shorter
    results = two()
    write_requests(tmp_path / "rows.csv", results)
    write_requests(tmp_path / "rows.parquet", results)
    with (tmp_path / "rows.csv").open() as file:
        plain = list(csv.DictReader(file))
    table = parquet.read_table(tmp_path / "rows.parquet")
    rows = table.to_pylist()
    assert table.column_names == list(REQUEST_COLUMNS) == list(plain[0])
    assert len(rows) == len(plain) == sum(len(result.requests) for result in results)
    for written, row in zip(plain, rows, strict=True):
        assert written["ttft_s"] == ("" if row["ttft_s"] is None else str(row["ttft_s"]))
        assert written["tenant"] == row["tenant"]
        assert written["good"] == str(int(row["good"]))
        assert written["outcome"] == row["outcome"]
    assert {row["variant"] for row in rows} == {"a", "=cmd()"}
    assert {written["variant"] for written in plain} == {"a", "'=cmd()"}, "no spreadsheet runs it"
    told = summarise(results[0])
    first = [row for row in rows if row["seed"] == 1]
    assert sum(row["good"] for row in first) / 600.0 == told.value("goodput")
    assert sum(row["outcome"] == "finished" for row in first) == told.value("finished")


def test_a_place_without_a_name_is_told_by_its_number_and_nowhere_is_nothing(tmp_path):
    result = empty()
    add(result, 1.0, 0.1, 0.2)
    result.requests.names["replica"] = []
    write_requests(tmp_path / "rows.csv", [result])
    with (tmp_path / "rows.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["replica"] == "0"
    assert exports._names(["west"], [0, -1]) == ["west", None]


def test_samples_of_all_runs(tmp_path):
    results = two()
    results[1].series.values["east.token_w"] = [float("nan")] * len(results[1].series.times_s)
    for ending in ("csv", "parquet"):
        write_series(tmp_path / f"series.{ending}", results)
    table = parquet.read_table(tmp_path / "series.parquet").to_pylist()
    with (tmp_path / "series.csv").open() as file:
        plain = list(csv.DictReader(file))
    assert len(table) == len(plain) == 120
    assert [float(row["time_s"]) for row in plain] == [row["time_s"] for row in table]
    assert (
        float(plain[7]["west.power_w"]) == table[7]["west.power_w"] == results[0].series.values["west.power_w"][7]
    )
    assert plain[0]["east.token_w"] == ""
    assert table[0]["east.token_w"] is None


def test_a_run_without_requests_is_a_table_with_heads_only(tmp_path):
    write_requests(tmp_path / "rows.csv", [empty()])
    assert (tmp_path / "rows.csv").read_text() == ",".join(REQUEST_COLUMNS) + "\n"
    write_requests(tmp_path / "rows.parquet", [])
    assert parquet.read_table(tmp_path / "rows.parquet").num_rows == 0


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch):
    def full(path, columns, tables):
        path.write_text("half")
        next(tables)
        raise OSError("No space left on device")

    monkeypatch.setattr(exports, "_write_csv", full)
    with pytest.raises(OSError, match="No space"):
        write_requests(tmp_path / "rows.csv", two())
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written_is_told_before_anything_runs(tmp_path, monkeypatch):
    check_path(tmp_path / "rows.csv")
    check_path(tmp_path / "rows.parquet")
    for path in (tmp_path / "rows.xlsx", tmp_path / "no" / "rows.csv"):
        with pytest.raises(BadRequest):
            check_path(path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BadRequest):
        check_path(tmp_path / "folder.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(exports, "find_spec", lambda name: None)
    with pytest.raises(BadRequest, match=r"pip install 'underlay\[parquet\]'"):
        check_path(tmp_path / "rows.parquet")
    check_path(tmp_path / "rows.csv")
