"""Field names: the vendor documents camelCase and takes snake_case as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from underlay.dialects import json_body


def camel(name: str) -> str:
    """``max_output_tokens`` as ``maxOutputTokens``; what has no underscore stays as it is."""
    if "_" not in name:
        return name
    first, *others = [word for word in name.split("_") if word] or [name]
    return first + "".join(word[0].upper() + word[1:] for word in others)


def camel_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """An object with its own field names in camelCase and without its nulls; values are left alone."""
    return {camel(name): value for name, value in fields.items() if value is not None}


def inner(fields: Mapping[str, Any], name: str, *, where: str = "") -> dict[str, Any]:
    """Read an object inside another, in camelCase; absent is empty."""
    return camel_fields(json_body.optional_object(fields, name, where=where) or {})


def inner_list(fields: Mapping[str, Any], name: str, *, where: str = "") -> list[dict[str, Any]]:
    """Read an array of objects, each in camelCase; absent is empty."""
    return [camel_fields(value) for value in json_body.object_list(fields, name, where=where)]
