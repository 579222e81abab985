"""Transcripts of the desk that a person can read. ``REWRITE_STORIES=1`` rewrites them; review that as a diff.

A line with ``>`` tells the desk something, the indented lines beneath are what it decides. Lines with ``#`` are
for readers. ``wait`` lets time pass and rings the alarms that the desk asked for, as a driver does.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.stories.teller import Teller

from underlay.control.routing import POLICIES

HERE = Path(__file__).parent
STORIES = sorted(HERE.glob("*.txt"))
REWRITE = os.environ.get("REWRITE_STORIES") == "1"


def retold(text: str) -> str:
    """The story with the answers that the desk gives today."""
    teller, lines = Teller(), []
    for line in text.splitlines():
        if line.startswith(">"):
            lines += [line, *(f"  {said}" for said in teller.tell(line[1:]))]
        elif not line.startswith("  "):
            lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_the_desk_tells_it_the_same_way(path):
    told = path.read_text(encoding="utf-8")
    again = retold(told)
    if REWRITE:
        path.write_text(again, encoding="utf-8")
    else:
        assert told == again, "REWRITE_STORIES=1 rewrites the stories; then review the diff"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_story_begins_with_a_word_to_its_reader_and_ends_with_empty_books(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    books = lines[len(lines) - lines[::-1].index("> books") :]
    assert books
    assert all(" slots in use" in line and ", 0 of " in line for line in books)


def test_every_routing_policy_has_a_story():
    told = "".join(path.read_text(encoding="utf-8") for path in STORIES)
    usual = "sticky"  # in every story that sets nothing else
    assert [name for name in POLICIES if name != usual and f"routing={name}" not in told] == []


def test_there_are_stories_and_not_too_many_to_read():
    assert 8 <= len(STORIES) <= 45
