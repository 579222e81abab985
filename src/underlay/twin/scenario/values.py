"""How lengths of time, powers and names are written in a scenario."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from underlay.documents.messages import shown

_SECONDS: Mapping[str, float] = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_WATTS: Mapping[str, float] = {"W": 1.0, "kW": 1e3, "MW": 1e6, "GW": 1e9}
_NAME = re.compile(r"^[a-z0-9][a-z0-9-]{0,63}$")
_MODEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")
_MEASURE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)")


def _measure(value: Any, units: Mapping[str, float], expected: str) -> Any:
    """A number, or a number with one of these units."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    match = _MEASURE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise PydanticCustomError("measure", "expected {expected}, not {given}", _told(expected, value))
    return float(match[1]) * units[match[2]]


def _told(expected: str, value: Any) -> dict[str, Any]:
    return {"expected": expected, "given": shown(value)}


def _span_s(value: Any) -> Any:
    return _measure(value, _SECONDS, "a length of time such as 500 ms, 90 s, 10 min or 24 h")


def _power_w(value: Any) -> Any:
    return _measure(value, _WATTS, "a power such as 700 W, 40 kW or 20 MW")


def _name(value: str) -> str:
    if not _NAME.match(value):
        told = _told("small letters, digits and hyphens, as in west or hall-2", value)
        raise PydanticCustomError("name", "expected {expected}, not {given}", told)
    return value


def _model_name(value: str) -> str:
    if not _MODEL.match(value):
        told = _told("letters, digits and the signs . : _ -, as in llama-3.1-8b", value)
        raise PydanticCustomError("name", "expected {expected}, not {given}", told)
    return value


def _schema(examples: list[Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}], "examples": examples})


#: More than no time, in seconds.
Span = Annotated[float, BeforeValidator(_span_s), Field(gt=0), _schema([90, "90 s", "10 min", "24 h"])]
#: A time after the beginning of the run, in seconds.
Moment = Annotated[float, BeforeValidator(_span_s), Field(ge=0), _schema([0, "30 s", "12 h"])]
#: In watts.
Power = Annotated[float, BeforeValidator(_power_w), Field(gt=0), _schema([700, "40 kW", "20 MW"])]
#: Of a place: it becomes part of paths such as ``west/site/hall/r1``.
Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": _NAME.pattern})]
#: What callers call a model.
ModelName = Annotated[
    str, AfterValidator(_model_name), WithJsonSchema({"type": "string", "pattern": _MODEL.pattern})
]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
