"""Where are the rows of a table beside this module? Whoever asks knows what they mean."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib import resources


def rows(name: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file in ``data``, by column."""
    text = resources.files("underlay.physics").joinpath("data", name).read_text(encoding="utf-8")
    return csv.DictReader(text.splitlines())


def number(cell: str) -> float | None:
    """A cell as a number; an empty one is none: nobody published it."""
    return float(cell) if cell else None
