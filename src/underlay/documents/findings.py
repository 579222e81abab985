"""What is wrong with a document, and where it stands: file, line, column, and the line itself with a caret.

All findings of a document come at once, in the order of its lines.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

#: The way to a value: keys of sections and places in lists.
Steps = tuple[str | int, ...]


class Finding(NamedTuple):
    """Something wrong: where (``underlay.yaml:2:3``), with which setting, what, and the source line with a caret.

    ``row`` counts lines from 1 (0: no line) and ``column`` characters from 0; ``width`` is how many of them the
    caret underlines.
    """

    where: str
    setting: str
    message: str
    line: str = ""
    row: int = 0
    column: int = 0
    width: int = 1

    def render(self) -> str:
        """The finding as a person reads it."""
        head = ": ".join(part for part in (self.where, self.setting, self.message) if part)
        if not self.line:
            return head
        return f"{head}\n    {self.line}\n    {' ' * self.column}{'^' * self.width}"


class DocumentError(Exception):
    """A document cannot be used; every reason at once."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = in_order(findings)
        super().__init__("\n".join(finding.render() for finding in self.findings))

    def __reduce__(self) -> tuple[Any, ...]:
        """It may come from another process."""
        return type(self), (self.findings,)

    def render(self) -> str:
        """All findings as a person reads them."""
        return str(self)


class Source(NamedTuple):
    """Where a value was written, and the line to show."""

    where: str
    line: str = ""
    row: int = 0
    column: int = 0
    width: int = 1

    def finding(self, setting: str, message: str) -> Finding:
        """What is wrong with the value that was written here."""
        return Finding(self.where, setting, message, self.line, self.row, self.column, self.width)


class Mistake(NamedTuple):
    """What is wrong, and with which value."""

    steps: Steps
    message: str


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """By line and column; what stands on no line comes last."""
    return sorted(findings, key=lambda found: (found.row == 0, found.row, found.column))


def dotted(steps: Steps) -> str:
    """The way to a value as people write it: ``models.0.name``."""
    return ".".join(str(step) for step in steps)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was perhaps meant."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return near[0] if near else None


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """That nothing of a kind has this name, with what was perhaps meant, or else with all that there is."""
    known = list(known)
    longer = [f"'{word}'" for word in known if name and word.startswith(name)][:3]
    near = " or ".join(longer) or (f"'{word}'" if (word := nearest(name, known)) else "")
    hint = f"did you mean {near}?" if near else f"there is: {', '.join(known) or 'none'}"
    return f"no {kind} is called '{name}'; {hint}"
