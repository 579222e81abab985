"""The text of messages, whichever way it was packed. What is not text is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from underlay.dialects.json_body import missing, optional_str, required_str, shown, wrong
from underlay.domain.errors import BadRequest

#: The key under which a part of each readable type keeps its text.
_TEXT_OF = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}


def read_text(fields: Mapping[str, Any], name: str, where: str) -> str | None:
    """Read text that came as a string or as a list of parts; parts are joined by line breaks."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise wrong(where, name, "a string or an array of parts", value)
    return "\n".join(_part_text(part, f"{where}.{name}[{index}]") for index, part in enumerate(value))


def required_text(fields: Mapping[str, Any], name: str, where: str) -> str:
    """Read text that must be there, though it may be empty."""
    text = read_text(fields, name, where)
    if text is None:
        raise missing(where, name, "a string or an array of parts")
    return text


def _part_text(part: Any, where: str) -> str:
    if not isinstance(part, dict):
        raise BadRequest(f"'{where}' must be an object, not {shown(part)}.", param=where)
    kind = required_str(part, "type", where=where)
    key = _TEXT_OF.get(kind)
    if key is None:
        raise BadRequest(
            f"'{where}' is of type {shown(kind)}, but this platform's engines read text only. Send text parts.",
            param=where,
        )
    text = optional_str(part, key, where=where)
    if text is None:
        raise missing(where, key, "a string")
    return text
