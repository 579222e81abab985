"""The official clients against a running platform: one case fails, the whole promise of a drop-in service does."""

from __future__ import annotations

import re

import pytest
from tests.conformance.matrix import FILES, HEADINGS, cases, check, published
from tests.conformance.running import BAD, GOOD, PYTHONS, SDKS, Run, available, run_scripted

PREVIOUS = pytest.mark.skipif(
    not available("previous"), reason="no .venv-previous with the SDKs' previous majors: see .ci/run"
)
MAJORS = ["current", pytest.param("previous", marks=PREVIOUS)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Run]:
    """Every SDK under every major that is installed, the majors side by side."""
    majors = tuple(major for major in PYTHONS if available(major))
    return run_scripted(tmp_path_factory.mktemp("conformance"), majors)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("sdk", SDKS)
def test_sdk(runs, sdk, major):
    check(next(run for run in runs if (run.sdk, run.major) == (sdk, major)))


def test_every_case_is_published():
    tables = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", published(), re.MULTILINE | re.DOTALL))
    for sdk, file in FILES.items():
        rows = [
            line.strip("|").split(" | ") for line in tables[HEADINGS[sdk]].splitlines() if line.startswith("| ")
        ]
        assert [row[0].strip() for row in rows[1:]] == list(cases(file).values())
        assert all(BAD not in row and GOOD in row for row in [[cell.strip() for cell in r] for r in rows[1:]])


@pytest.mark.parametrize("file", FILES.values())
def test_titles_are_unique(file):
    titles = list(cases(file).values())
    assert len(set(titles)) == len(titles)
    assert not any("|" in title for title in titles)
