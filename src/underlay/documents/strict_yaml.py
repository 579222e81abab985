"""YAML as a person means it: only ``true``, ``false``, ``null`` and decimal numbers are other than text.

Words that other YAML readers turn into something else (``no``, ``on``, ``08``, ``12:30``) stay text here, so a
wrong type is always an error and never a surprise. Anchors, aliases and tags are errors.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import yaml

from underlay.documents.findings import DocumentError, Finding, Source

FILE_BYTES_MAX = 1_000_000


class Text(NamedTuple):
    """A file's text, to show lines of."""

    name: str
    text: str

    def of(self, node: yaml.Node) -> Source:
        """Where a value or a key stands."""
        start, end = node.start_mark, node.end_mark
        width = end.column - start.column if end.line == start.line else 1
        return self.at(start)._replace(width=max(1, width))

    def at(self, mark: Any) -> Source:
        """The place that YAML's reader marks."""
        if mark is None:
            return Source(self.name)
        lines = self.text.splitlines()
        line = lines[mark.line] if mark.line < len(lines) else ""
        shown = line.expandtabs(1)
        return Source(f"{self.name}:{mark.line + 1}:{mark.column + 1}", shown, mark.line + 1, mark.column)


def text_of(path: Path) -> Text:
    """The text of a file. Raises ``DocumentError`` if it cannot be read, is too long or is no UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror or error}") from None
    if len(content) > FILE_BYTES_MAX:
        raise _wrong(path, f"longer than {FILE_BYTES_MAX} bytes")
    try:
        return Text(str(path), content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _wrong(path, f"not UTF-8 text (byte {error.start})") from None


def composed(source: Text) -> yaml.Node | None:
    """The nodes of a document; ``None`` if it is empty. Raises ``DocumentError`` if it is not such YAML."""
    try:
        return yaml.compose(source.text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        message = " ".join(part for part in (error.problem, error.context) if part)
        place = source.at(error.problem_mark or error.context_mark)
        raise DocumentError([place.finding("", message or "not YAML")]) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise _wrong(Path(source.name), _first_line(str(error)) or "not YAML") from None


def scalar(node: yaml.Node) -> Any:
    """The value of a single word."""
    text = str(node.value)
    match str(node.tag).rpartition(":")[2]:
        case "bool":
            return text == "true"
        case "null":
            return None
        case "int" if len(text) < 300:
            return int(text)
        case "float" if math.isfinite(float(text)):
            return float(text)
        case _:
            return text


def value_of(text: str) -> Any:
    """What a text would be in a file, as on a command line or in a variable; text that is no YAML stays text."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        return text
    return None if node is None else _bare(node)


def _bare(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _bare(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_bare(item) for item in node.value]
    return scalar(node)


def _wrong(path: Path, message: str) -> DocumentError:
    return DocumentError([Finding(str(path), "", message)])


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


class _Loader(yaml.SafeLoader):
    """YAML with the core of its second edition only: true, false, null, decimal numbers; the rest is text."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not used here", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise yaml.composer.ComposerError(None, None, "tags are not used here", event.start_mark)
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
