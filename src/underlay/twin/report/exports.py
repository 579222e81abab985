"""Rows and samples for other programs: CSV always, Parquet where ``pyarrow`` is installed.

The ending of a file's name says which. Times are in seconds, names are text, what is not known is an empty cell
(CSV) or a null (Parquet). In CSV a name that a spreadsheet would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import chain
from math import isnan, nan
from pathlib import Path
from typing import Any

from underlay.domain.errors import BadRequest
from underlay.twin.ledger.requests import COLUMNS as LEDGER_COLUMNS
from underlay.twin.records import OUTCOMES, RunResult
from underlay.twin.rows import rows_of

from .files import replacing

ENDINGS = (".csv", ".parquet")

#: Rows that are turned into Python's own values at a time.
_CHUNK = 50_000

_HEADS = {"variant": "text", "seed": "int"}
_TIMES = ("arrived_s", "ttft_s", "tpot_s", "e2e_s")
_TOKENS = ("prompt_tokens", "output_tokens", "cached_tokens")
_NAMED = {"region": "region", "served_in": "region", "replica": "replica", "tenant": "tenant", "model": "model"}

#: Columns of a table of requests, and their kinds.
REQUEST_COLUMNS: dict[str, str] = {
    **_HEADS,
    **dict.fromkeys(_TIMES, "real"),
    **dict.fromkeys(_TOKENS, "int"),
    "attempts": "int",
    "outcome": "text",
    **dict.fromkeys(_NAMED, "text"),
    "try": "int",
    "within_s": "real",
    "held_s": "real",
    "good": "flag",
    "weight": "real",
}

Table = dict[str, list[Any]]


def check_path(path: Path) -> None:
    """See now, not after hours, that a table can be written there; raises ``BadRequest`` that says what to do."""
    if path.suffix not in ENDINGS:
        raise BadRequest(f"{path} must end in .csv or .parquet", param=str(path))
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise BadRequest(
            f"{path} needs pyarrow, which is not installed: pip install 'underlay[parquet]', or write a .csv",
            param=str(path),
        )
    check_place(path)


def check_place(path: Path) -> None:
    """See that a file could be written there; raises ``BadRequest``."""
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise BadRequest(f"{path} cannot be written: its folder is missing or read-only", param=str(path))


def write_requests(path: Path, results: Sequence[RunResult]) -> None:
    """A row for each request of all runs; with what it took, where that was asked for.

    Raises ``OSError``; nothing half-written stays.
    """
    known = [result.ledger.columns for result in results if result.ledger is not None]
    ledger = [name for name in LEDGER_COLUMNS if any(name in columns for columns in known)]
    columns = {**REQUEST_COLUMNS, **({"band": "text"} if known else {}), **dict.fromkeys(ledger, "real")}
    _write(path, columns, chain.from_iterable(_request_tables(result, ledger) for result in results))


def write_series(path: Path, results: Sequence[RunResult]) -> None:
    """A row for each sample of all runs, a column for each name sampled in any. Raises ``OSError``."""
    names = list(dict.fromkeys(name for result in results for name in result.series.values))
    columns = {**_HEADS, "time_s": "real", **dict.fromkeys(names, "real")}
    _write(path, columns, (_series_table(result, names) for result in results))


def _request_tables(result: RunResult, ledger: Sequence[str]) -> Iterator[Table]:
    requests = result.requests
    rows = rows_of(requests, result.slo)
    for start in range(0, len(requests), _CHUNK):
        part = slice(start, start + _CHUNK)
        table: Table = {name: getattr(rows, name)[part].tolist() for name in (*_TIMES, *_TOKENS)}
        table["attempts"] = requests.column("attempts")[part].tolist()
        table["outcome"] = [OUTCOMES[number] for number in rows.outcome[part].tolist()]
        for name, kind in _NAMED.items():
            table[name] = _names(requests.names[kind], requests.column(name)[part].tolist())
        table["try"] = rows.try_[part].tolist()
        table |= {name: getattr(rows, name)[part].tolist() for name in ("within_s", "held_s")}
        table["good"] = rows.good[part].tolist()
        table["weight"] = rows.weight[part].tolist()
        if ledger:
            table |= _ledger_table(result, ledger, part)
        yield _headed(result, len(table["try"]), table)


def _ledger_table(result: RunResult, columns: Sequence[str], part: slice) -> Table:
    """What requests took, by the ledger's columns; of a run without a ledger nothing is known."""
    if result.ledger is None:
        unknown: list[Any] = [None] * len(range(*part.indices(len(result.requests))))
        return {"band": unknown, **dict.fromkeys(columns, unknown)}
    known = result.ledger.columns
    names, bands = result.ledger.band_names, result.ledger.bands
    nowhere = [nan] * len(bands[part])
    return {
        "band": _names(names, bands[part].tolist()),
        **{name: known[name][part].tolist() if name in known else nowhere for name in columns},
    }


def _names(names: Sequence[str], places: Sequence[int]) -> list[str | None]:
    """Names by their places; below 0 there is none, and a place without a name is told by its number."""
    return [None if place < 0 else names[place] if place < len(names) else str(place) for place in places]


def _series_table(result: RunResult, names: Sequence[str]) -> Table:
    times_s = result.series.times_s
    unknown: list[Any] = [None] * len(times_s)
    columns = {name: result.series.values.get(name, unknown) for name in names}
    return _headed(result, len(times_s), {"time_s": times_s, **columns})


def _headed(result: RunResult, count: int, table: Table) -> Table:
    return {"variant": [result.variant] * count, "seed": [result.seed] * count, **table}


def _write(path: Path, columns: Mapping[str, str], tables: Iterator[Table]) -> None:
    with replacing(path) as part:
        (_write_parquet if path.suffix == ".parquet" else _write_csv)(part, columns, tables)


def _write_csv(path: Path, columns: Mapping[str, str], tables: Iterator[Table]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(_harmless, columns))
        for table in tables:
            writer.writerows(zip(*(_cells(table[column], kind) for column, kind in columns.items()), strict=True))


def _cells(values: list[Any], kind: str) -> list[Any]:
    """A column as CSV has it; by column, because by cell it takes three times as long."""
    if kind == "real":
        return ["" if value is None or isnan(value) else value for value in values]
    if kind == "text":
        told = {value: _harmless(value) for value in set(values)}
        return [told[value] for value in values]
    return [int(value) for value in values] if kind == "flag" else values


def _harmless(name: str | None) -> str:
    """A name that a spreadsheet will not take for a formula."""
    return f"'{name}" if name and name.startswith(("=", "+", "-", "@", "\t", "\r")) else name or ""


def _write_parquet(path: Path, columns: Mapping[str, str], tables: Iterator[Table]) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 -- optional, and slow to import
    from pyarrow import parquet  # noqa: PLC0415

    kinds = {
        "text": pa.dictionary(pa.int32(), pa.string()),
        "int": pa.int64(),
        "flag": pa.bool_(),
        "real": pa.float64(),
    }
    schema = pa.schema([(column, kinds[kind]) for column, kind in columns.items()])
    with parquet.ParquetWriter(path, schema) as writer:
        for table in tables:
            arrays = [
                pa.array(table[column], type=kind, from_pandas=True)
                for column, kind in zip(columns, schema.types, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
