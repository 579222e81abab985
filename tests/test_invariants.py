"""The map of invariants says what there is: every number once, and only tests and files that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/reference/invariants.md").read_text()
ROWS = {row.split("|")[1].strip(): row for row in PAGE.splitlines() if re.match(r"\| I\d", row)}
NAMED = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", PAGE)


@cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_number_is_listed_once_and_in_order():
    assert list(ROWS) == [f"I{number}" for number in range(1, 30)]
    assert len(re.findall(r"^\| I\d+ \|", PAGE, re.MULTILINE)) == len(ROWS)


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)), ids=str)
def test_every_test_that_is_named_exists(path, name):
    if name:
        assert name in functions(ROOT / "tests" / path)
    else:
        assert (ROOT / path).exists()


@pytest.mark.parametrize("number", ROWS)
def test_what_holds_is_proved_and_what_is_not_built_claims_nothing(number):
    *_, today, _, proof, _ = ROWS[number].split("|")
    assert ("::" in proof) != today.strip().startswith("not yet")


def test_every_number_in_a_name_of_a_test_is_one_of_them():
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name in functions(path):
            for number in re.findall(r"(?:^|_)i(\d+)(?=_)", name):
                assert f"I{number}" in ROWS, f"{path.name}: {name}"
