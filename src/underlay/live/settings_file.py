"""The settings file, the environment and the flags, read strictly and put together.

Every finding says where it is, down to line, column and a caret, and all of them come at once. Words that other
YAML readers turn into something else (``no``, ``on``, ``08``, ``12:30``) stay text here, so a wrong type is always
an error and never a surprise. Unknown keys, keys given twice, anchors and tags are errors too.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pydantic
import yaml

from underlay.live import accounts, locate
from underlay.live.settings import Settings

PREFIX = "UNDERLAY_"
SEPARATOR = "__"
#: Variables that mean something else than a setting.
NOT_SETTINGS = frozenset({"UNDERLAY_CONFIG", "UNDERLAY_KEY", "UNDERLAY_URL", "UNDERLAY_HOME"})
FILE_BYTES_MAX = 1_000_000

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


class SettingsError(Exception):
    """The settings cannot be used; every reason at once."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(finding.render() for finding in findings))
        self.findings = findings

    def render(self) -> str:
        """All findings as a person reads them."""
        return str(self)


class Loaded(NamedTuple):
    """Settings, where each leaf came from, what looked odd without being wrong, and the file that was read.

    An origin is ``flag``, ``env UNDERLAY_PUBLIC__PORT``, ``underlay.yaml:2:3`` or ``default``.
    """

    settings: Settings
    origins: dict[str, str]
    warnings: list[str]
    path: Path | None


def load(path: str | Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Loaded:
    """Read settings: ``overrides`` (flags, by dotted name; ``None`` is no override) win over the environment,
    over the file (``path``, or where ``locate.settings_path`` finds one), over the defaults.

    Raises ``SettingsError``.
    """  # noqa: D205
    draft = _Draft()
    file = locate.settings_path(path, environ)
    if file is not None:
        draft.read_file(file)
    draft.read_environment(environ)
    draft.read_flags(overrides)
    settings = draft.settle()
    return Loaded(settings, dict(_origins(settings, draft.sources)), draft.warnings, file)


def schema() -> dict[str, Any]:
    """The JSON schema of the settings file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(),
        "title": "Underlay settings",
    }


class _Source(NamedTuple):
    """Where a value was written, and the line to show."""

    where: str
    line: str = ""
    row: int = 0
    column: int = 0
    width: int = 1

    def finding(self, setting: str, message: str) -> Finding:
        return Finding(self.where, setting, message, self.line, self.row, self.column, self.width)


class _Draft:
    """Settings while they are being put together: plain values, and a source for each of them."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self.sources: dict[Steps, _Source] = {}
        self.key_sources: dict[Steps, _Source] = {}
        self.findings: list[Finding] = []
        self.warnings: list[str] = []

    def read_file(self, path: Path) -> None:
        text = self._text(path)
        if text is None:
            return
        source = _Text(str(path), text)
        try:
            root = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            message = " ".join(part for part in (error.problem, error.context) if part)
            self.findings.append(source.at(mark).finding("", message or "not YAML"))
        except (yaml.YAMLError, RecursionError) as error:
            self.findings.append(Finding(str(path), "", _first_line(str(error)) or "not YAML"))
        else:
            if root is None:
                return
            if not isinstance(root, yaml.MappingNode):
                self.findings.append(source.of(root).finding("", "expected settings as 'key: value' lines"))
                return
            self.tree = self._mapping(root, (), source, path.parent.absolute())

    def _text(self, path: Path) -> str | None:
        try:
            content = path.read_bytes()
        except OSError as error:
            self.findings.append(Finding(str(path), "", f"cannot be read: {error.strerror or error}"))
            return None
        if len(content) > FILE_BYTES_MAX:
            self.findings.append(Finding(str(path), "", f"longer than {FILE_BYTES_MAX} bytes"))
            return None
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.findings.append(Finding(str(path), "", f"not UTF-8 text (byte {error.start})"))
            return None

    def _value(self, node: yaml.Node, steps: Steps, source: _Text, beside: Path) -> Any:
        self.sources[steps] = source.of(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, steps, source, beside)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*steps, i), source, beside) for i, item in enumerate(node.value)]
        value = _scalar(node)
        if value is None and _keys(steps):
            return {}  # a section whose lines are all commented out
        if isinstance(value, str) and _is_path(steps):
            return str(beside / Path(value).expanduser())
        return value

    def _mapping(self, node: yaml.MappingNode, steps: Steps, source: _Text, beside: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.findings.append(source.of(key_node).finding(_dotted(steps), "a key must be one word"))
                continue
            key = str(key_node.value)
            if key in values:
                first = self.key_sources[(*steps, key)].where
                message = f"given twice (first at {first})"
                self.findings.append(source.of(key_node).finding(_dotted((*steps, key)), message))
                continue
            self.key_sources[(*steps, key)] = source.of(key_node)
            values[key] = self._value(value_node, (*steps, key), source, beside)
        return values

    def read_environment(self, environ: Mapping[str, str]) -> None:
        for variable in sorted(environ):
            if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
                continue
            steps = _steps(variable.removeprefix(PREFIX).lower().split(SEPARATOR))
            if not _exists(steps):
                self.warnings.append(f"{variable}: no such setting{_hint(variable, _variables())}")
                continue
            text = environ[variable]
            self._put(steps, _parsed(text, steps), _Source(f"env {variable}", text, width=max(1, len(text))))

    def read_flags(self, overrides: Mapping[str, Any]) -> None:
        for setting, value in overrides.items():
            if value is not None:
                steps = _steps(setting.split("."))
                self._put(steps, _plain(value, steps), _Source("flag"))

    def _put(self, steps: Steps, value: Any, source: _Source) -> None:
        """Set one value, whatever was there."""
        try:
            self.tree = _with(self.tree, steps, value)
        except _Gap as gap:
            self.findings.append(source.finding(_dotted(steps), f"there is no item {gap} before it"))
            return
        for known in [known for known in self.sources if known[: len(steps)] == steps]:
            del self.sources[known]
        self.sources[steps] = source

    def settle(self) -> Settings:
        """The settings, or every finding."""
        try:
            # JSON, because its strict reading is what a person means: 8080 is a port, "8080" and true are not.
            settings: Settings | None = Settings.model_validate_json(json.dumps(self.tree), strict=True)
        except pydantic.ValidationError as error:
            for found in error.errors(include_url=False):
                # A list whose items were all wrong counts as empty; the items' own findings say enough.
                if found["type"] != "too_short" or not found["input"]:
                    self.findings.append(self._located(found))
            settings = None
        if settings is not None:
            self.findings += [self._mistaken(mistake) for mistake in accounts.mistakes(settings)]
        if settings is None or self.findings:
            raise SettingsError(sorted(self.findings, key=lambda found: (found.row == 0, found.row, found.column)))
        # Paths that were written are absolute by now; the default one is not.
        return settings.model_copy(update={"data_dir": settings.data_dir.expanduser()})

    def _located(self, found: Mapping[str, Any]) -> Finding:
        steps: Steps = tuple(found["loc"])
        message = _message(found, steps)
        if found["type"] == "extra_forbidden" and steps in self.key_sources:
            return self.key_sources[steps].finding(_dotted(steps), message)
        return self._mistaken(accounts.Mistake(steps, message))

    def _mistaken(self, mistake: accounts.Mistake) -> Finding:
        steps, message = mistake
        for length in range(len(steps), -1, -1):
            source = self.sources.get(steps[:length]) or self.key_sources.get(steps[:length])
            if source is not None:
                return source.finding(_dotted(steps), message)
        return Finding("", _dotted(steps), message)


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


class _Text(NamedTuple):
    """A file's text, to show lines of."""

    name: str
    text: str

    def of(self, node: yaml.Node) -> _Source:
        start, end = node.start_mark, node.end_mark
        width = end.column - start.column if end.line == start.line else 1
        return self.at(start)._replace(width=max(1, width))

    def at(self, mark: Any) -> _Source:
        if mark is None:
            return _Source(self.name)
        lines = self.text.splitlines()
        line = lines[mark.line] if mark.line < len(lines) else ""
        shown = line.expandtabs(1)
        return _Source(f"{self.name}:{mark.line + 1}:{mark.column + 1}", shown, mark.line + 1, mark.column)


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


def _scalar(node: yaml.Node) -> Any:
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


def _parsed(text: str, steps: Steps) -> Any:
    """The value of an environment variable: text where the setting is text, else what it would be in the file."""
    if _is_text(steps):
        if text in {"", "null"} and type(None) in _kinds(steps):
            return None
        return str(Path(text).expanduser().absolute()) if _is_path(steps) else text
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
    return _scalar(node)


def _plain(value: Any, steps: Steps) -> Any:
    """A flag's value as JSON can carry it."""
    if isinstance(value, Path) or _is_path(steps):
        return str(Path(value).expanduser().absolute())
    if isinstance(value, Decimal):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


# What the settings are made of, asked of their classes.


def _kinds(steps: Steps) -> tuple[Any, ...]:
    """The types that may stand at a setting; nothing if there is no such setting."""
    kinds: tuple[Any, ...] = (Settings,)
    for step in steps:
        kinds = tuple(inner for kind in kinds for inner in _inside(kind, step))
    return kinds


def _inside(kind: Any, step: str | int) -> Iterator[Any]:
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel) and step in kind.model_fields:
        yield from _flat(kind.model_fields[str(step)].annotation)
    elif typing.get_origin(kind) is tuple and isinstance(step, int):
        yield from _flat(typing.get_args(kind)[0])


def _flat(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _flat(typing.get_args(annotation)[0])
    elif origin in {typing.Union, types.UnionType}:
        for part in typing.get_args(annotation):
            yield from _flat(part)
    else:
        yield annotation


def _exists(steps: Steps) -> bool:
    return bool(_kinds(steps))


def _is_path(steps: Steps) -> bool:
    return Path in _kinds(steps)


def _is_text(steps: Steps) -> bool:
    return any(kind in (str, Path) or typing.get_origin(kind) is typing.Literal for kind in _kinds(steps))


def _keys(steps: Steps) -> list[str]:
    """The keys that may stand in a section."""
    sections = [kind for kind in _kinds(steps) if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)]
    return [key for section in sections for key in section.model_fields]


def _leaves(steps: Steps = ()) -> Iterator[Steps]:
    for key in _keys(steps):
        inner = (*steps, key)
        if _keys(inner):
            yield from _leaves(inner)
        elif _keys((*inner, 0)):
            yield from _leaves((*inner, 0))
        else:
            yield inner


def _variables() -> list[str]:
    return [variable(_dotted(leaf)) for leaf in _leaves()]


def variable(setting: str) -> str:
    """The environment variable of a setting: ``public.port`` is ``UNDERLAY_PUBLIC__PORT``."""
    return PREFIX + setting.upper().replace(".", SEPARATOR)


def _origins(settings: Settings, sources: Mapping[Steps, _Source]) -> Iterator[tuple[str, str]]:
    for steps in _written(settings):
        origin = "default"
        for length in range(len(steps), 0, -1):
            if steps[:length] in sources:
                # A section's place is not its leaves' origin: a leaf that it leaves out is a default.
                written = length == len(steps)
                origin = sources[steps[:length]].where if written else _from_whole(sources, steps[:length])
                break
        yield _dotted(steps), origin


def _from_whole(sources: Mapping[Steps, _Source], steps: Steps) -> str:
    """The origin of a leaf below a value that was set as a whole, by a variable or a flag."""
    source = sources[steps]
    return source.where if source.where == "flag" or source.where.startswith("env ") else "default"


def _written(value: Any, steps: Steps = ()) -> Iterator[Steps]:
    if isinstance(value, pydantic.BaseModel):
        for key in type(value).model_fields:
            yield from _written(getattr(value, key), (*steps, key))
    elif isinstance(value, tuple) and value and isinstance(value[0], pydantic.BaseModel):
        for index, item in enumerate(value):
            yield from _written(item, (*steps, index))
    else:
        yield steps


def _steps(parts: list[str]) -> Steps:
    return tuple(int(part) if part.isdigit() else part for part in parts)


def _dotted(steps: Steps) -> str:
    return ".".join(str(step) for step in steps)


def _hint(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


_EXPECTED = {
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing_size": "expected a whole number of a usual size",
    "float_type": "expected a number",
    "decimal_type": "expected a number",
    "decimal_parsing": "expected a number",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "path_type": "expected a path",
    "tuple_type": "expected a list",
    "model_type": "expected a section of 'key: value' lines",
    "model_attributes_type": "expected a section of 'key: value' lines",
}


def _message(found: Mapping[str, Any], steps: Steps) -> str:
    kind, context = found["type"], found.get("ctx", {})
    if kind == "extra_forbidden":
        known = _keys(steps[:-1])
        return f"unknown key{_hint(str(steps[-1]), known) or '; known here: ' + ', '.join(known)}"
    if kind in _EXPECTED:
        return f"{_EXPECTED[kind]}, not {_shown(found['input'])}"
    match kind:
        case "greater_than_equal":
            return f"must be {context['ge']} or more, not {_shown(found['input'])}"
        case "greater_than":
            return f"must be more than {context['gt']}, not {_shown(found['input'])}"
        case "less_than_equal":
            return f"must be {context['le']} or less, not {_shown(found['input'])}"
        case "decimal_max_places":
            return f"must have at most {context['decimal_places']} decimals, not {_shown(found['input'])}"
        case "literal_error":
            return f"must be {context['expected']}, not {_shown(found['input'])}"
        case "missing":
            return "is missing"
        case "string_too_short" | "too_short":
            return "must not be empty"
        case _:
            return str(found["msg"])


def _shown(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case str():
            return f"the text '{value if len(value) <= 40 else value[:40] + '…'}'"
        case dict():
            return "a section"
        case list():
            return "a list"
        case _:
            return json.dumps(value)
