"""The journey is told in the order in which a prompt makes it, names every room, and its code runs."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import underlay
from underlay import control

PAGE = Path(__file__).parents[1] / "docs/journey.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROOMS = {module.name for module in pkgutil.iter_modules(underlay.__path__) if module.ispkg}
DECISIONS = {module.name for module in pkgutil.iter_modules(control.__path__)}

#: The way of a prompt, as the headings tell it.
WAY = [
    ["live.gateway", "dialects", "domain"],
    ["control.desk"],
    ["control.identity"],
    ["control.admission"],
    ["control.routing"],
    ["live.engines"],
    ["control.delivery"],
    ["control.recovery"],
    ["control.metering"],
    ["control.journal"],
    ["twin", "physics", "documents"],
    ["console", "cli"],
]


def named(text: str) -> set[str]:
    """What a text names in its code marks, without what follows the room and the module."""
    return {".".join(name.split(".")[:2]) for name in re.findall(r"`+([a-z_.]+)`+", text)}


def test_headings_follow_the_prompt():
    headings = [re.findall(r"`([a-z_.]+)`", line) for line in TEXT.splitlines() if line.startswith("## ")]
    assert headings == WAY


def test_every_room_and_every_decision_is_on_the_page():
    names = named(TEXT)
    assert {name.split(".")[0] for name in names} >= ROOMS
    assert names >= {f"control.{name}" for name in DECISIONS}


def test_the_page_names_no_room_that_is_not_there():
    for name in named(TEXT):
        room, _, module = name.partition(".")
        if room in ROOMS and module:
            assert module in {each.name for each in pkgutil.iter_modules([f"{underlay.__path__[0]}/{room}"])}, name


def test_the_packages_own_words_name_every_room():
    names = named(underlay.__doc__)
    assert {name.split(".")[0] for name in names} >= ROOMS
    assert "docs/journey.md" in underlay.__doc__


def test_the_packages_own_words_meet_the_decisions_in_the_same_order():
    told = [name for name in re.findall(r"``control\.([a-z]+)``", underlay.__doc__) if name in DECISIONS]
    way = [name.removeprefix("control.") for (name, *_) in WAY if name.startswith("control.")]
    assert list(dict.fromkeys(told)) == [name for name in way if name in told]


def test_the_code_on_the_page_runs_from_the_first_block_to_the_last():
    namespace: dict[str, object] = {"__name__": "journey"}
    blocks = list(BLOCK.finditer(TEXT))
    assert len(blocks) > 8
    for block in blocks:
        line = TEXT.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(PAGE), "exec"), namespace)
