"""Scenarios written down for one test."""

import textwrap

import pytest

from underlay.twin.scenario import ScenarioError, read

CROWD = "crowds: [{arrivals: {rate_per_s: 1}}]\n"


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, crowd=CROWD):
        (tmp_path / "s.yaml").write_text(textwrap.dedent(text) + crowd)
        return "s.yaml"

    return write


@pytest.fixture
def scenario(written):
    return lambda text="", crowd=CROWD: read(written(text, crowd))


@pytest.fixture
def refused(written):
    """What is said of a scenario: place, setting and message of each finding."""

    def refuse(text, crowd=CROWD):
        with pytest.raises(ScenarioError) as caught:
            read(written(text, crowd))
        return [(found.where, found.setting, found.message) for found in caught.value.findings]

    return refuse
