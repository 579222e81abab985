"""The page of scores has the form that its generator gives it; its numbers are made by ``bench/fidelity/run``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from fidelity import refit, runs, scores, serving, vidur  # noqa: E402

OFF = re.compile(r"[-+]?[0-9]+\.[0-9] %")
METHODS = {"measured", "calibrated", "modelled", "assumed", ""}


def tables(page: str) -> dict[str, list[list[str]]]:
    """The rows of each table, its head first."""
    found = {}
    for part in page.split("\n## ")[1:]:
        title, _, rest = part.partition("\n")
        found[title] = [line[2:-2].split(" | ") for line in rest.splitlines() if line.startswith("| ")]
    return found


def test_the_page_of_scores_has_the_form_of_its_generator() -> None:
    page = scores.PAGE.read_text(encoding="utf-8")
    assert page.startswith(scores.HEAD)
    found = tables(page)
    assert [list(row) for row in scores.NOT_ATTEMPTED] == found.pop("Not attempted")[2:]
    assert set(found) == {
        "Real runs, request for request", "Silicon sample", "Vidur, with its costs", "Splitwise, prompts and batches",
        "ML.ENERGY, time between tokens", "MLPerf, throughput",
    }  # fmt: skip
    for head, ruler, *rows in found.values():
        assert head == list(scores.COLUMNS)
        assert set(ruler) == {"---"}
        assert rows
        for _, published, ours, off, method in rows:
            assert bool(published) == bool(ours)
            assert OFF.fullmatch(off)
            assert method in METHODS


def test_a_page_is_read_as_it_was_written() -> None:
    section = scores.Section("A table", "A note.", (("one", "1 s", "2 s", "+100.0 %", "modelled"),))
    found = tables(scores.render([section]))
    assert found["A table"][2:] == [["one", "1 s", "2 s", "+100.0 %", "modelled"]]


def test_every_group_of_runs_that_can_be_scored_is_on_the_page() -> None:
    names = {
        row[0].partition(",")[0] for row in tables(scores.PAGE.read_text(encoding="utf-8"))["Silicon sample"][2:]
    }
    used = set(refit.fitted_to())
    assert names == {"all groups"} | {" ".join(r.name) for r in runs.read() if r.possible and r not in used}


def test_vidur_is_met_at_every_percentile_with_its_costs() -> None:
    for one in vidur.compared():
        assert abs(one.off) < 0.04, one


@pytest.mark.parametrize("run", serving.RUNS, ids=lambda run: run[0])
def test_real_runs_are_met(run) -> None:
    for name, was, said in serving.statistics_of(*serving.replay(*run, serving.RUNS[run])):
        assert abs(said / was - 1) < (0.1 if name.startswith("TTFT") else 0.05), name
