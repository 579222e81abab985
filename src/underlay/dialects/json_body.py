"""Bodies of strangers: JSON decoded strictly and cheaply, and readers that name the field they refuse.

Every refusal is a ``BadRequest`` whose message says what to send instead and whose ``param`` is the path of
the field (``messages[0].content``). A field that is ``null`` counts as absent, as every SDK means it. Of two
equal keys in one object the last one wins: the body is decoded once and encoded anew for the engine, so
nobody downstream can read it differently.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from underlay.domain.errors import BadRequest

DEPTH_MAX = 64
"""Deepest nesting of objects and arrays that a body may have."""

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1

_SHOWN_MAX = 40
"""Longest part of a wrong value that a message repeats."""

# A string up to its closing quote, or up to the end if it has none: with the optional quote and possessive
# loops every byte is looked at once, whatever a stranger sends.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")

_decode = msgspec.json.Decoder().decode


def decode_object(body: bytes) -> dict[str, Any]:
    """Decode a body that must be one JSON object, no deeper than ``DEPTH_MAX``."""
    if not body:
        raise BadRequest("The body is empty. Send one JSON object.")
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX:
        _refuse_depth(body)
    try:
        decoded = _decode(body)
    except UnicodeDecodeError as error:
        raise BadRequest("The body is not valid UTF-8. Encode it as UTF-8.") from error
    except RecursionError as error:
        raise _too_deep() from error
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {_explain(error)}. Send one JSON object.") from error
    if not isinstance(decoded, dict):
        raise BadRequest(f"The body is {_kind(decoded)}. Send one JSON object.")
    return decoded


def _refuse_depth(body: bytes) -> None:
    """Measure nesting without recursion: each round takes away the innermost pairs of brackets."""
    brackets = _STRING.sub(b"", body).translate(_AS_SQUARE, _NO_BRACKETS)
    for _ in range(DEPTH_MAX):
        fewer = brackets.replace(b"[]", b"")
        if len(fewer) == len(brackets):
            break
        brackets = fewer
    # What is left is nested deeper still, or is not balanced, which the decoder will explain better.
    if brackets.count(b"[") > DEPTH_MAX or b"[]" in brackets:
        raise _too_deep()


def _too_deep() -> BadRequest:
    return BadRequest(f"The body nests deeper than {DEPTH_MAX} levels. Send a flatter one.")


def _explain(error: msgspec.DecodeError) -> str:
    text = str(error)
    if "out of range" in text:
        return "a number is too large"
    return text.removeprefix("JSON is malformed: ").removesuffix(" - at `$[...]`")


def path(where: str, name: str) -> str:
    """Name a field inside ``where``: ``path("messages[0]", "content")``."""
    return f"{where}.{name}" if where else name


def wrong(where: str, name: str, wanted: str, value: Any) -> BadRequest:
    """Make the refusal of a value: ``'temperature' must be a number from 0 to 2, not "warm"``."""
    param = path(where, name)
    return BadRequest(f"'{param}' must be {wanted}, not {shown(value)}.", param=param)


def missing(where: str, name: str, wanted: str) -> BadRequest:
    """Make the refusal of a request that lacks a field."""
    param = path(where, name)
    return BadRequest(f"'{param}' is missing. It must be {wanted}.", param=param)


def shown(value: Any) -> str:
    """Say what a value is, in a few characters that can stand in a message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _shortened(str(value)) if isinstance(value, float) or abs(value) < 2**64 else "a huge number"
    if isinstance(value, str):
        return '"' + _shortened(value) + '"'
    return _kind(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")


def required_str(fields: Mapping[str, Any], name: str, *, where: str = "") -> str:
    """Read a string that must be there and must not be empty."""
    value = optional_str(fields, name, where=where)
    if not value:
        raise missing(where, name, "a non-empty string")
    return value


def optional_str(fields: Mapping[str, Any], name: str, *, where: str = "") -> str | None:
    """Read a string."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise wrong(where, name, "a string", value)


def optional_choice(
    fields: Mapping[str, Any], name: str, choices: Collection[str], *, where: str = ""
) -> str | None:
    """Read a string that must be one of ``choices``."""
    value = fields.get(name)
    if value is None or (isinstance(value, str) and value in choices):
        return value
    raise wrong(where, name, "one of " + ", ".join(f'"{choice}"' for choice in choices), value)


def optional_bool(fields: Mapping[str, Any], name: str, *, where: str = "") -> bool | None:
    """Read a boolean."""
    value = fields.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise wrong(where, name, "true or false", value)


def optional_int(
    fields: Mapping[str, Any],
    name: str,
    *,
    minimum: int = INT64_MIN,
    maximum: int = INT64_MAX,
    where: str = "",
) -> int | None:
    """Read an integer of the range; a boolean is none."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum:
        return value
    raise wrong(where, name, f"an integer from {minimum} to {maximum}", value)


def optional_number(
    fields: Mapping[str, Any],
    name: str,
    *,
    minimum: float,
    maximum: float,
    where: str = "",
) -> float | None:
    """Read a number of the range, whole or not; a boolean is none."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and minimum <= value <= maximum:
        return float(value)
    raise wrong(where, name, f"a number from {minimum:g} to {maximum:g}", value)


def optional_object(fields: Mapping[str, Any], name: str, *, where: str = "") -> dict[str, Any] | None:
    """Read an object."""
    value = fields.get(name)
    if value is None or isinstance(value, dict):
        return value
    raise wrong(where, name, "an object", value)


def optional_list(fields: Mapping[str, Any], name: str, *, where: str = "") -> list[Any] | None:
    """Read an array of anything."""
    value = fields.get(name)
    if value is None or isinstance(value, list):
        return value
    raise wrong(where, name, "an array", value)


def object_list(fields: Mapping[str, Any], name: str, *, where: str = "") -> list[dict[str, Any]]:
    """Read an array of objects; absent is empty."""
    values = optional_list(fields, name, where=where) or []
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise wrong(where, f"{name}[{index}]", "an object", value)
    return values


def string_list(
    fields: Mapping[str, Any], name: str, *, longest: int | None = None, where: str = ""
) -> tuple[str, ...]:
    """Read an array of at most ``longest`` non-empty strings; absent is empty."""
    values = optional_list(fields, name, where=where) or []
    if longest is not None and len(values) > longest:
        raise wrong(where, name, f"an array of at most {longest} strings", values)
    for index, value in enumerate(values):
        if not isinstance(value, str) or not value:
            raise wrong(where, f"{name}[{index}]", "a non-empty string", value)
    return tuple(values)
