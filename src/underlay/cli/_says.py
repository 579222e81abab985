"""How the command line speaks: results, progress, errors, tables.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 not found; 4 key missing or not allowed; 5 settings invalid;
6 done, and there are findings; 7 unreachable or too slow; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

SCHEMA_VERSION = 1

FAILED, USAGE, NOT_FOUND, DENIED, INVALID, FINDINGS, UNREACHABLE, INTERRUPTED = 1, 2, 3, 4, 5, 6, 7, 130

#: Escape sequences and other control characters, which a model could use to repaint the terminal.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


class Failure(Exception):
    """What went wrong (``code`` for programs, ``message`` for people) and what to do about it (``hint``)."""

    def __init__(self, code: str, message: str, hint: str = "", *, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def failure_of(error: Exception) -> Failure | None:
    """An expected error in the command line's words; ``None`` for a defect, which shows its traceback."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "underlay"
        return Failure("usage", error.format_message(), f"{where} --help", exit_code=USAGE)
    if isinstance(error, click.ClickException):
        return Failure("failed", error.format_message())
    if isinstance(error, click.Abort):
        return Failure("interrupted", "interrupted", exit_code=INTERRUPTED)
    # By name, because importing these classes here would take longer than most verbs run.
    kind = type(error)
    if kind.__module__ == "underlay.live.settings_file" and kind.__name__ == "SettingsError":
        return Failure("settings_invalid", str(error), "underlay config schema", exit_code=INVALID)
    if kind.__module__ == "underlay.domain.errors":
        exit_code = {401: DENIED, 403: DENIED, 404: NOT_FOUND, 504: UNREACHABLE}.get(
            getattr(error, "status", 500), FAILED
        )
        return Failure(getattr(error, "reason", "failed"), str(error), exit_code=exit_code)
    return None


def fail(failure: Failure, *, as_json: bool) -> None:
    """Say on stderr what went wrong."""
    if as_json:
        error = {"code": failure.code, "message": failure.message, "hint": failure.hint}
        click.echo(json.dumps({"schema_version": SCHEMA_VERSION, "error": error}, ensure_ascii=False), err=True)
        return
    first = "interrupted" if failure.exit_code == INTERRUPTED else f"error: {failure.message}"
    click.echo(first, err=True, color=colour(sys.stderr))
    if failure.hint:
        click.echo(f"  try: {failure.hint}", err=True)


def progress(text: str) -> None:
    """Say on stderr what is going on: a line, never a spinner."""
    click.echo(text, err=True)


def result(text: str = "") -> None:
    """Say on stdout what was asked for; colours only where a person looks at them."""
    click.echo(text, color=colour(sys.stdout))


def result_json(command: str, fields: dict[str, Any]) -> None:
    """Say on stdout what was asked for, as one object."""
    said = {"schema_version": SCHEMA_VERSION, "command": command, **fields}
    click.echo(json.dumps(said, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def colour(stream: Any) -> bool:
    """Whether a stream is looked at by a person who has not asked for plain text."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def harmless(text: str) -> str:
    """Text of a stranger without what a terminal would take for commands; new lines and tabs stay."""
    return text.translate(_CONTROLS)


def dim(text: str) -> str:
    """Text that matters less."""
    return click.style(text, dim=True)


def bold(text: str) -> str:
    """Text that matters more."""
    return click.style(text, bold=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be; those that hold only numbers are aligned to the right."""
    cells = [[harmless(cell) for cell in row] for row in rows]
    columns = range(len(heads))
    widths = [max([len(heads[i]), *(len(row[i]) for row in cells)]) for i in columns]
    right = [bool(cells) and all(re.fullmatch(r"[-+$0-9.,]*", row[i]) for row in cells) for i in columns]

    def line(row: Sequence[str]) -> str:
        placed = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
        return "  ".join(placed).rstrip()

    return "\n".join([bold(line(heads)), *(line(row) for row in cells)])


def moment(at_s: float) -> str:
    """A Unix time as people read it, in this machine's time zone."""
    return datetime.fromtimestamp(at_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """A length of time in at most two units."""
    for unit, size, smaller, smaller_size in (
        ("d", 86_400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if seconds >= size:
            rest = int(seconds % size // smaller_size)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds:.0f} s"
