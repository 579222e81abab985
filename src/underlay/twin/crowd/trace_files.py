"""Which file is meant by a trace, and what calls are in it? Decides nothing about their use.

A trace is named by what it is shipped as, or by a path; gzipped or not. What formats there are says
``trace_formats``. A line that breaks its format is an error that says where; none is skipped.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import IO

from underlay.domain.errors import BadRequest

from .trace_formats import Place, Recorded, TraceError, csv_rows, json_rows

_SHIPPED = Path(__file__).parent.parent / "data" / "traces"


@cache
def shipped() -> dict[str, Path]:
    """The traces that come with the package, by name."""
    return {path.name.split(".")[0]: path for path in sorted(_SHIPPED.glob("*.gz"))}


def locate(trace: str) -> Path:
    """The file of a trace, by its name or path. Errors: BadRequest."""
    known = shipped()
    if trace in known:
        return known[trace]
    path = Path(trace)
    if path.is_file():
        return path
    near = get_close_matches(trace, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"give a path, or one of {', '.join(known)}."
    raise BadRequest(f"There is no trace {trace!r}: {hint}", param="trace")


def changed_ns(path: Path) -> int:
    """When the file was written last: what was made of it before holds no longer. Errors: TraceError."""
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise TraceError(path, 0, 0, f"cannot be read: {error.strerror or error}.") from None


def read(path: Path) -> Iterator[Recorded]:
    """The calls of a trace, in order. Errors: TraceError, when its line is met."""
    before, begun = 0.0, False
    with opened(path) as (file, place):
        for row in json_rows(file, place) if _is_json(file) else csv_rows(file, place):
            if row.at_s < before:
                raise place.wrong("comes before the line above it: sort the file by time.")
            before, begun = row.at_s, True
            yield row
    if not begun:
        raise TraceError(path, 0, 0, "there are no calls in it.")


def lengths(path: Path) -> list[tuple[int, int]]:
    """Prompt and output tokens of every call; the file need not say when they came. Errors: TraceError."""
    with opened(path) as (file, place):
        rows = json_rows(file, place) if _is_json(file) else csv_rows(file, place, timeless=True)
        pairs = [(row.prompt_tokens, row.output_tokens) for row in rows]
    if not pairs:
        raise TraceError(path, 0, 0, "there are no calls in it.")
    return pairs


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[str], Place]]:
    """A text file, gzipped or not. What is wrong with it as a file becomes a TraceError."""
    place = Place(path)
    try:
        with path.open("rb") as probe:
            zipped = probe.read(2) == b"\x1f\x8b"
        with (gzip.open if zipped else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file, place
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise place.wrong(f"is cut off or damaged from about here on ({error}): get it again.", 0) from None
    except UnicodeDecodeError as error:
        raise place.wrong(f"is not UTF-8 text from about here on ({error.reason}).", 0) from None
    except OSError as error:
        raise TraceError(path, 0, 0, f"cannot be read: {error.strerror or error}.") from None


def _is_json(file: IO[str]) -> bool:
    """By the first character that is not space; the file is at its beginning again."""
    first = file.read(256).lstrip()[:1]
    file.seek(0)
    return first == "{"
