"""Prompts that are bare texts: a string, token ids, or a list of either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from underlay.dialects.json_body import missing, wrong

TEXTS_MAX = 2048
_TOKEN_ID_MAX = 2**31 - 1
_WANTED = "a string, an array of token ids, or an array of strings or of arrays of token ids"

Text = str | tuple[int, ...]


def read_texts(fields: Mapping[str, Any], name: str) -> tuple[Text, ...]:
    """Read the texts of a completion or embedding request."""
    value = fields.get(name)
    if value is None:
        raise missing("", name, _WANTED)
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise wrong("", name, _WANTED + ", and not empty", value)
    if type(value[0]) is int:
        return (_token_ids(value, name),)
    if len(value) > TEXTS_MAX:
        raise wrong("", name, f"at most {TEXTS_MAX} texts", value)
    return tuple(_text(item, f"{name}[{index}]", type(value[0])) for index, item in enumerate(value))


def _text(item: Any, name: str, kind: type) -> Text:
    if kind is str and isinstance(item, str):
        return item
    if kind is list and isinstance(item, list) and item:
        return _token_ids(item, name)
    raise wrong("", name, "a string or a non-empty array of token ids, like its neighbours", item)


def _token_ids(items: list[Any], name: str) -> tuple[int, ...]:
    for index, item in enumerate(items):
        # A boolean is an int to Python, so its exact type is asked.
        if type(item) is not int or not 0 <= item <= _TOKEN_ID_MAX:
            raise wrong("", f"{name}[{index}]", "a token id", item)
    return tuple(items)
