"""From the vendor's OpenAPI-like schemas to JSON schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from underlay.dialects.gemini.fields import camel

#: Says nothing that a JSON schema could express.
DROPPED = frozenset({"propertyOrdering", "nullable", "example", "partialArgs"})
WHOLE_NUMBERS = frozenset({
    "minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"
})  # fmt: skip
NAMED_SCHEMAS = frozenset({"properties", "defs", "$defs", "patternProperties", "definitions"})
SCHEMA_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
ONE_SCHEMA = frozenset({"items", "additionalProperties", "not"})
RENAMED = {"ref": "$ref", "defs": "$defs"}


def json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a schema; one that is a JSON schema already stays as it is."""
    converted: dict[str, Any] = {}
    for given, value in schema.items():
        name = camel(given)
        if value is None or name in DROPPED:
            continue
        if name == "type":
            _put_type(converted, value)
        elif name != "format" or value != "enum":  # the vendor's way to mark an enumeration
            converted[RENAMED.get(name, name)] = _value(name, value)
    if schema.get("nullable") is True:
        _allow_null(converted)
    return converted


def _put_type(converted: dict[str, Any], value: Any) -> None:
    if isinstance(value, str):
        if value != "TYPE_UNSPECIFIED":
            converted["type"] = value.lower()
    elif isinstance(value, list):
        converted["type"] = [each.lower() if isinstance(each, str) else each for each in value]


def _value(name: str, value: Any) -> Any:
    if name in NAMED_SCHEMAS and isinstance(value, dict):
        return {key: _nested(each) for key, each in value.items()}
    if name in SCHEMA_LISTS and isinstance(value, list):
        return [_nested(each) for each in value]
    if name in ONE_SCHEMA:
        return _nested(value)
    if name in WHOLE_NUMBERS and isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:18])  # 64-bit integers travel as strings
    return value


def _nested(value: Any) -> Any:
    return json_schema(value) if isinstance(value, dict) else value


def _allow_null(converted: dict[str, Any]) -> None:
    kind = converted.get("type")
    if isinstance(kind, str):
        converted["type"] = [kind, "null"]
    if isinstance(converted.get("anyOf"), list):
        converted["anyOf"].append({"type": "null"})
    if isinstance(converted.get("enum"), list):
        converted["enum"] = [*converted["enum"], None]
