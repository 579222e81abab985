"""Guards on the JSON schemas that callers send, before an engine compiles them into a grammar.

An engine that cannot compile a schema goes on without it (llama.cpp does, with a line in its log only), so a
caller would get unconstrained text and believe it. Hence what the engine is known to refuse is refused here,
with the field's name, and the readers check what comes back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from underlay.domain.errors import BadRequest

SCHEMA_BYTES_MAX = 64 * 1024
SCHEMA_DEPTH_MAX = 32

_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})

#: Keywords of JSON Schema that llama.cpp's grammar compiler does not know (measured on 2026.10).
_UNSUPPORTED = frozenset({
    "not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems", "propertyNames",
    "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems",
})  # fmt: skip

_SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties")


def guard(schema: object, param: str) -> None:
    """Raise ``BadRequest`` naming ``param`` if no engine here could hold an answer to ``schema``."""
    if not isinstance(schema, dict):
        raise BadRequest(f"{param} must be a JSON object.", param=param)
    if len(msgspec.json.encode(schema)) > SCHEMA_BYTES_MAX:
        raise BadRequest(f"{param} is larger than {SCHEMA_BYTES_MAX // 1024} KiB.", param=param)
    for part in _parts(schema, param, 0):
        _guard_part(part, schema, param)


def moved(schema: Any, place: str) -> Any:
    """The same schema with its references made right for where it is put: at ``place`` of a larger one."""
    if isinstance(schema, list):
        return [moved(child, place) for child in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else moved(value, place)
        for key, value in schema.items()
    }


def referred(reference: str, root: Any) -> Any:
    """What ``#/…`` stands for in the schema ``root``. Raises ``LookupError`` if it leads nowhere."""
    here = root
    for step in reference[1:].split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(here, list) and key.isdecimal():
            here = here[int(key)]
        elif isinstance(here, dict):
            here = here[key]
        else:
            raise LookupError(reference)
    return here


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema without properties that it does not name, where it leaves that open.

    Such an answer still fits the caller's schema; a small model given the choice invents properties until it
    runs out of tokens.
    """
    open_ended = ("additionalProperties", "patternProperties", "allOf", "anyOf", "oneOf", "$ref")
    if not schema.get("properties") or any(keyword in schema for keyword in open_ended):
        return schema
    return {**schema, "additionalProperties": False}


def _parts(schema: dict[str, Any], param: str, depth: int) -> Iterator[dict[str, Any]]:
    """Every schema inside ``schema``, itself first; names of properties are not keywords."""
    if depth > SCHEMA_DEPTH_MAX:
        raise BadRequest(f"{param} is nested deeper than {SCHEMA_DEPTH_MAX} levels.", param=param)
    yield schema
    for child in _children(schema, param):
        if isinstance(child, dict):
            yield from _parts(child, param, depth + 1)
        elif not isinstance(child, bool):
            raise BadRequest(f"{param}: a schema must be an object or a boolean.", param=param)


def _children(schema: dict[str, Any], param: str) -> Iterator[object]:
    for keyword in _SCHEMAS_BY_NAME:
        named = schema.get(keyword, {})
        if not isinstance(named, dict):
            raise BadRequest(f"{param}: {keyword} must be an object.", param=param)
        yield from named.values()
    for keyword in _SCHEMA_LISTS:
        listed = schema.get(keyword)
        if listed is not None and (not isinstance(listed, list) or not listed):
            raise BadRequest(f"{param}: {keyword} must be a list with something in it.", param=param)
        yield from listed or ()
    yield from (schema[keyword] for keyword in _SCHEMAS if keyword in schema)


def _guard_part(part: dict[str, Any], root: dict[str, Any], param: str) -> None:
    unsupported = sorted(_UNSUPPORTED & part.keys())
    if unsupported:
        raise BadRequest(f"{param} uses {unsupported[0]}, which no engine here supports.", param=param)
    kinds = part.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in _TYPES:
            raise BadRequest(f"{param}: {kind!r} is not a type of JSON.", param=param)
    if not isinstance(part.get("required", []), list):
        raise BadRequest(f"{param}: required must be a list.", param=param)
    if "$ref" in part and not _resolves(part["$ref"], root):
        raise BadRequest(f"{param}: $ref {part['$ref']!r} leads nowhere in this schema.", param=param)
    _guard_pattern(part.get("pattern", ""), param)


def _guard_pattern(pattern: object, param: str) -> None:
    try:
        re.compile(pattern if isinstance(pattern, str) else "(")
    except re.error as error:
        raise BadRequest(f"{param}: {pattern!r} is not a pattern.", param=param) from error


def _resolves(reference: object, root: dict[str, Any]) -> bool:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return False
    try:
        referred(reference, root)
    except LookupError:
        return False
    return True
