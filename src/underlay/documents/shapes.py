"""What may stand where in a document, asked of the classes that describe it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic

from underlay.documents.findings import Steps

Root = type[pydantic.BaseModel]


def kinds(root: Root, steps: Steps) -> tuple[Any, ...]:
    """The types that may stand at a place; nothing if there is no such place."""
    found: tuple[Any, ...] = (root,)
    for step in steps:
        found = tuple(inner for kind in found for inner in _inside(kind, step))
    return found


def keys(root: Root, steps: Steps, kind: object = None) -> list[str]:
    """The keys that may stand in a section; where there are several kinds of it, in the one of that ``kind``."""
    sections = [section for section in kinds(root, steps) if _is_section(section)]
    fitting = [section for section in sections if kind is not None and _is_of_kind(section, kind)]
    return list(dict.fromkeys(key for section in fitting or sections for key in section.model_fields))


def is_section(root: Root, steps: Steps) -> bool:
    """Whether 'key: value' lines may stand there."""
    return any(_is_section(kind) or typing.get_origin(kind) is dict for kind in kinds(root, steps))


def leaves(root: Root, steps: Steps = ()) -> Iterator[Steps]:
    """The way to everything that has no keys of its own; of lists, to their first entry."""
    for key in keys(root, steps):
        inner = (*steps, key)
        if keys(root, inner):
            yield from leaves(root, inner)
        elif keys(root, (*inner, 0)):
            yield from leaves(root, (*inner, 0))
        else:
            yield inner


def is_path(root: Root, steps: Steps) -> bool:
    """Whether a path to a file may stand there."""
    return Path in kinds(root, steps)


def is_text(root: Root, steps: Steps) -> bool:
    """Whether text may stand there."""
    return any(kind in (str, Path) or typing.get_origin(kind) is typing.Literal for kind in kinds(root, steps))


def may_be_nothing(root: Root, steps: Steps) -> bool:
    """Whether a value may be left out by writing ``null``."""
    return type(None) in kinds(root, steps)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _is_of_kind(section: Root, kind: object) -> bool:
    field = section.model_fields.get("kind")
    return field is not None and kind in typing.get_args(field.annotation)


def _inside(kind: Any, step: str | int) -> Iterator[Any]:
    origin = typing.get_origin(kind)
    if _is_section(kind) and step in kind.model_fields:
        yield from _flat(kind.model_fields[str(step)].annotation)
    elif origin is tuple and isinstance(step, int):
        yield from _flat(typing.get_args(kind)[0])
    elif origin is dict and isinstance(step, str):
        yield from _flat(typing.get_args(kind)[1])


def _flat(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _flat(typing.get_args(annotation)[0])
    elif origin in {typing.Union, types.UnionType}:
        for part in typing.get_args(annotation):
            yield from _flat(part)
    else:
        yield annotation
