"""A document while it is being put together: plain values, and where each of them was written.

Keys given twice, unknown keys and wrong values become findings, and reading goes on, so that all of them are told
at once. What the values mean is the caller's: it hands in the class that describes the document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import pydantic
import yaml

from underlay.documents import shapes, strict_yaml
from underlay.documents.findings import DocumentError, Finding, Mistake, Source, Steps, dotted
from underlay.documents.messages import message
from underlay.documents.strict_yaml import Text

Described = TypeVar("Described", bound=pydantic.BaseModel)


class Draft(Generic[Described]):
    """Values for the class ``root``; ``what`` is the document's name in messages ("settings")."""

    def __init__(self, root: type[Described], what: str) -> None:
        self.root = root
        self.what = what
        self.tree: dict[str, Any] = {}
        self.sources: dict[Steps, Source] = {}
        self.key_sources: dict[Steps, Source] = {}
        self.findings: list[Finding] = []

    def read_file(self, path: Path) -> None:
        """Take the values of a YAML file; paths in it are meant from where it lies."""
        try:
            source = strict_yaml.text_of(path)
            node = strict_yaml.composed(source)
        except DocumentError as error:
            self.findings += error.findings
            return
        if isinstance(node, yaml.MappingNode):
            self.tree = self._mapping(node, (), source, path.parent.absolute())
        elif node is not None:
            expected = f"expected {self.what} as 'key: value' lines"
            self.findings.append(source.of(node).finding("", expected))

    def put(self, steps: Steps, value: Any, source: Source) -> None:
        """Set one value, whatever was there."""
        try:
            self.tree = _with(self.tree, steps, value)
        except _Gap as gap:
            self.findings.append(source.finding(dotted(steps), f"there is no item {gap} before it"))
            return
        for known in [known for known in self.sources if known[: len(steps)] == steps]:
            del self.sources[known]
        self.sources[steps] = source

    def put_text(self, steps: Steps, text: str, source: Source) -> None:
        """Set one value that came as text (of a variable, say): text where text belongs, else as in a file."""
        self.put(steps, self._meant(steps, text), source)

    def _meant(self, steps: Steps, text: str) -> Any:
        if not shapes.is_text(self.root, steps):
            return strict_yaml.value_of(text)
        if text in {"", "null"} and shapes.may_be_nothing(self.root, steps):
            return None
        return str(Path(text).expanduser().absolute()) if shapes.is_path(self.root, steps) else text

    def validated(self) -> Described | None:
        """The document, or nothing and more findings."""
        try:
            # JSON, because its strict reading is what a person means: 8080 is a port, "8080" and true are not.
            return self.root.model_validate_json(json.dumps(self.tree), strict=True)
        except pydantic.ValidationError as error:
            for found in error.errors(include_url=False):
                # A list whose items were all wrong counts as empty; the items' own findings say enough.
                if found["type"] != "too_short" or not found["input"]:
                    self.findings.append(self._located(found))
            return None

    def finding(self, mistake: Mistake) -> Finding:
        """A mistake, shown at its value or, where that was not written, at the nearest thing around it."""
        steps = mistake.steps
        for length in range(len(steps), -1, -1):
            source = self.sources.get(steps[:length]) or self.key_sources.get(steps[:length])
            if source is not None:
                return source.finding(dotted(steps), mistake.message)
        return Finding("", dotted(steps), mistake.message)

    def _value(self, node: yaml.Node, steps: Steps, source: Text, beside: Path) -> Any:
        self.sources[steps] = source.of(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, steps, source, beside)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*steps, i), source, beside) for i, item in enumerate(node.value)]
        value = strict_yaml.scalar(node)
        if value is None and shapes.is_section(self.root, steps):
            return {}  # a section whose lines are all commented out
        if isinstance(value, str) and shapes.is_path(self.root, steps):
            return str(beside / Path(value).expanduser())
        return value

    def _mapping(self, node: yaml.MappingNode, steps: Steps, source: Text, beside: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.findings.append(source.of(key_node).finding(dotted(steps), "a key must be one word"))
                continue
            key = str(key_node.value)
            if key in values:
                again = f"given twice (first at {self.key_sources[(*steps, key)].where})"
                self.findings.append(source.of(key_node).finding(dotted((*steps, key)), again))
                continue
            self.key_sources[(*steps, key)] = source.of(key_node)
            values[key] = self._value(value_node, (*steps, key), source, beside)
        return values

    def _located(self, found: Mapping[str, Any]) -> Finding:
        steps = self._written(tuple(found["loc"]), missing=found["type"] == "missing")
        said = message(found, self._known(steps[:-1]))
        if found["type"] == "extra_forbidden" and steps in self.key_sources:
            return self.key_sources[steps].finding(dotted(steps), said)
        return self.finding(Mistake(steps, said))

    def _written(self, loc: Steps, *, missing: bool) -> Steps:
        """Pydantic's way to a value without its names for what might have stood there, which nobody wrote."""
        place: Any = self.tree
        steps: list[str | int] = []
        for number, step in enumerate(loc, 1):
            if isinstance(place, dict) and step in place:
                place = place[str(step)]
            elif isinstance(place, list) and isinstance(step, int):
                place = place[step]
            elif not (missing and number == len(loc)):
                continue
            steps.append(step)
        return tuple(steps)

    def _known(self, steps: Steps) -> list[str]:
        """The keys that may stand in a section as it is written: of its kind, where there are several."""
        place: Any = self.tree
        for step in steps:
            place = place[step]
        kind = place.get("kind") if isinstance(place, dict) else None
        return shapes.keys(self.root, steps, kind)


class _Gap(Exception):
    """A list item is set before the one in front of it is there."""


def _with(place: Any, steps: Steps, value: Any) -> Any:
    """``place`` with one value in it set; sections and list items on the way are made."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):
        items = list(place) if isinstance(place, list) else []
        if step > len(items):
            raise _Gap(len(items))
        items[step : step + 1] = [_with(items[step] if step < len(items) else None, rest, value)]
        return items
    section = dict(place) if isinstance(place, dict) else {}
    return {**section, step: _with(section.get(step), rest, value)}
