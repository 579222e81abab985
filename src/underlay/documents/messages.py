"""What pydantic finds wrong, in words for whoever wrote the document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from underlay.documents.findings import nearest

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
    "list_type": "expected a list",
    "dict_type": "expected a section of 'key: value' lines",
    "model_type": "expected a section of 'key: value' lines",
    "model_attributes_type": "expected a section of 'key: value' lines",
}

_BOUNDS = {
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be less than {lt}",
    "decimal_max_places": "must have at most {decimal_places} decimals",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must be written like {pattern}",
    "string_too_long": "must be {max_length} characters or fewer",
}


def message(found: Mapping[str, Any], known: list[str]) -> str:
    """One of pydantic's errors; ``known`` are the keys that may stand beside the place it is about."""
    kind, context = found["type"], found.get("ctx", {})
    if kind == "extra_forbidden":
        near = nearest(str(found["loc"][-1]), known)
        return f"unknown key; did you mean '{near}'?" if near else f"unknown key; known here: {', '.join(known)}"
    if kind in _EXPECTED:
        return f"{_EXPECTED[kind]}, not {shown(found['input'])}"
    if kind in _BOUNDS:
        return f"{_BOUNDS[kind].format(**context)}, not {shown(found['input'])}"
    if kind == "union_tag_invalid":
        return f"kind must be {context['expected_tags']}, not {shown(context['tag'])}"
    if kind == "union_tag_not_found":
        return "kind is missing"
    if kind in {"string_too_short", "too_short"}:
        return "must not be empty"
    return "is missing" if kind == "missing" else str(found["msg"]).removeprefix("Value error, ")


def shown(value: Any) -> str:
    """A value as a message quotes it."""
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
