"""How are traces of arrivals written?

* Azure's LLM inference traces of 2023 and 2024: ``TIMESTAMP,ContextTokens,GeneratedTokens``; seconds count from
  the first call.
* Vidur's processed traces: ``arrived_at,num_prefill_tokens,num_decode_tokens``, in seconds; without the first of
  these they are lengths only.
* Mooncake's: JSON lines with ``timestamp`` (ms), ``input_length``, ``output_length`` and ``hash_ids``, one for
  each 512 tokens begun, equal where everything up to there is equal.
* Ours: ``arrived_s,prompt_tokens,output_tokens``, and any of ``tenant``, ``session`` (a whole number that calls of
  one conversation share), ``region``, ``model``, ``band``.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from datetime import datetime
from math import inf
from pathlib import Path
from typing import IO, Annotated, Any, NamedTuple

import msgspec

from underlay.domain.errors import BadRequest

#: Mooncake's blocks, and what one link stands for in calls made from a trace.
BLOCK_TOKENS = 512
_TOKENS_MAX = 2**31 - 1
_SESSION_MAX = 2**63 - 1


class TraceError(BadRequest):
    """A trace cannot be used: which file, where in it (from 1; 0: not known), what is wrong and what to do."""

    def __init__(self, path: Path, line: int, column: int, wrong: str) -> None:
        place = ":".join(str(part) for part in (path, line, column) if part)
        super().__init__(f"{place}: {wrong}", param="trace")
        self.path = path
        self.line = line
        self.column = column
        self.wrong = wrong


class Place:
    """How far reading a file has come."""

    __slots__ = ("line", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 0

    def wrong(self, what: str, column: int = 1) -> TraceError:
        """What to raise about this line."""
        return TraceError(self.path, self.line, column, what)


class Recorded(NamedTuple):
    """A line of a trace: ``at_s`` from its beginning; ``blocks`` tell beginnings of prompts apart, if it says."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    tenant: str = ""
    session: int = 0
    region: str = ""
    model: str = ""
    band: str = ""


# Comma-separated values.


def _stamp_s(text: str) -> float:
    """Seconds of a time stamp; one without a zone is UTC. Digits beyond microseconds are dropped."""
    return datetime.fromisoformat(text if text.endswith(("Z", "+00:00")) else text + "+00:00").timestamp()


class _Format(NamedTuple):
    """The columns that a trace must have, how its time reads, and which may stand beside them (none: any)."""

    at: str
    prompt: str
    output: str
    seconds: Callable[[str], float] = float
    beside: tuple[str, ...] = ()


_NAMES = ("tenant", "region", "model", "band")
_FORMATS = (
    _Format("TIMESTAMP", "ContextTokens", "GeneratedTokens", _stamp_s),
    _Format("arrived_at", "num_prefill_tokens", "num_decode_tokens"),
    _Format("arrived_s", "prompt_tokens", "output_tokens", beside=("session", *_NAMES)),
)


def csv_rows(file: IO[str], place: Place, timeless: bool = False) -> Iterator[Recorded]:
    """Calls of a file with a header; ``timeless`` takes one that does not say when they came."""
    rows = csv_lines(file, place)
    header = next(rows, [])
    form = _format_of(header, place, timeless)
    at, prompt, output = (header.index(name) if name in header else -1 for name in form[:3])
    more = [(name, header.index(name)) for name in form.beside if name in header]
    seconds, zero_s = form.seconds, None if form.seconds is _stamp_s else 0.0
    for row in rows:
        try:
            at_s = seconds(row[at]) if at >= 0 else 0.0
            prompt_tokens, output_tokens = int(row[prompt]), int(row[output])
            beside = _beside(row, more) if more else None
            holds = 0 < prompt_tokens <= _TOKENS_MAX and 0 < output_tokens <= _TOKENS_MAX and 0 <= at_s < inf
        except (ValueError, IndexError):
            holds = False
        if not holds:
            raise _fault(header, row, form, place)
        if zero_s is None:
            zero_s = at_s
        call = Recorded(at_s - zero_s, prompt_tokens, output_tokens)
        yield call._replace(**beside) if beside else call


def csv_lines(file: IO[str], place: Place) -> Iterator[list[str]]:
    """The lines of the file that are not empty, taken apart."""
    lines = csv.reader(file, strict=True)
    try:
        for row in lines:
            place.line = lines.line_num
            if row:
                yield row
    except csv.Error as error:
        place.line = lines.line_num
        raise place.wrong(f"is not comma-separated values: {error}.", 0) from None


def _format_of(header: list[str], place: Place, timeless: bool) -> _Format:
    for form in _FORMATS:
        needed = form[1:3] if timeless else form[:3]
        if not set(needed) <= set(header):
            continue
        for index, name in enumerate(header):
            if form.beside and name not in (*form[:3], *form.beside):
                known = ", ".join((*form[:3], *form.beside))
                raise place.wrong(f"unknown column {name!r}; there may be {known}.", column_of(header, index))
        return form
    known = "; ".join(",".join(form[:3]) for form in _FORMATS)
    raise place.wrong(f"is no known header of a trace: it must have the columns of one of {known}.")


def _beside(row: list[str], more: list[tuple[str, int]]) -> dict[str, Any]:
    """What our own format may say besides."""
    beside: dict[str, Any] = {name: row[index] for name, index in more}
    if "session" in beside:
        beside["session"] = session = int(beside["session"])
        if not 0 <= session <= _SESSION_MAX:
            raise ValueError
    return beside


def _fault(header: list[str], row: list[str], form: _Format, place: Place) -> TraceError:
    """Which value cannot be, and why; looked for once it is known that there is one."""
    if len(row) < len(header):
        return place.wrong(f"has {len(row)} values, but the header names {len(header)} columns.")
    checks: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
        (form.at, "a time", lambda text: 0 <= form.seconds(text) < inf),
        (form.prompt, "a whole number of tokens, at least 1", lambda text: 0 < int(text) <= _TOKENS_MAX),
        (form.output, "a whole number of tokens, at least 1", lambda text: 0 < int(text) <= _TOKENS_MAX),
        ("session", "a whole number from 0", lambda text: 0 <= int(text) <= _SESSION_MAX),
    )
    for name, expected, holds in checks:
        index = header.index(name) if name in header else -1
        if index >= 0 and not _is(holds, row[index]):
            wrong = f"{name} is {row[index]!r}, not {expected}: correct the line or leave it out."
            return place.wrong(wrong, column_of(row, index))
    raise AssertionError("One of these values made reading stop.")


def _is(holds: Callable[[str], bool], text: str) -> bool:
    try:
        return holds(text)
    except ValueError:
        return False


def column_of(row: list[str], index: int) -> int:
    """Where a value begins in its line, from 1, if none before it is quoted."""
    return 1 + sum(len(value) + 1 for value in row[:index])


# JSON lines.


class _Line(msgspec.Struct):
    timestamp: Annotated[float, msgspec.Meta(ge=0)]
    input_length: Annotated[int, msgspec.Meta(ge=1, le=_TOKENS_MAX)]
    output_length: Annotated[int, msgspec.Meta(ge=1, le=_TOKENS_MAX)]
    hash_ids: tuple[int, ...] = ()


def json_rows(file: IO[str], place: Place) -> Iterator[Recorded]:
    """Calls of a file with one object a line."""
    decode = msgspec.json.Decoder(_Line).decode
    for place.line, text in enumerate(file, start=1):
        if text.isspace():
            continue
        try:
            line = decode(text)
        except msgspec.ValidationError as error:
            raise _not_so(place, text, str(error)) from None
        except msgspec.DecodeError as error:
            raise place.wrong(f"is not JSON: {error}.", _byte_of(str(error))) from None
        tokens, blocks = line.input_length, line.hash_ids
        if blocks and len(blocks) != -(-tokens // BLOCK_TOKENS):
            raise _not_so(
                place, text, f"{len(blocks)} blocks of {BLOCK_TOKENS} for {tokens} tokens - at `$.hash_ids`"
            )
        # The last block may only be begun: whoever goes on after it has another number there.
        yield Recorded(line.timestamp / 1000.0, tokens, line.output_length, blocks[: tokens // BLOCK_TOKENS])


def _not_so(place: Place, text: str, wrong: str) -> TraceError:
    """The decoder says at which key; its column is looked up in the line."""
    key = wrong.rpartition("`$.")[2].split("`")[0].split("[")[0] if "`$." in wrong else ""
    found = text.find(f'"{key}"') if key else -1
    return place.wrong(wrong.replace("`$.", "`") + ": correct the line or leave it out.", max(found, 0) + 1)


def _byte_of(wrong: str) -> int:
    """The decoder ends with "(byte 12)" where it knows."""
    digits = wrong.rpartition("(byte ")[2].rstrip(")")
    return int(digits) + 1 if digits.isdigit() else 1
