"""Numbers between bounds, as grammars over their digits.

A magnitude between two others of as many digits either shares their first digit and goes on likewise, or has a
digit between theirs and is free from there on. Bounds of decimal numbers must be whole: then the whole part
decides, but for the bound itself, whose fraction must be nought.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from underlay.live.engines.grammar import DIGIT, Chars, Ref, Repeat, Rules, Sequel

#: The engine's own grammar compiler counts in 64 bits.
BOUND_MAX = 10**18
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")

_NINES = "9" * 19
_NONZERO = Chars((("1", "9"),))
_DIGITS = Repeat(DIGIT, 1)

RULES: Rules = {
    "integer": ((Ref("sign"), Ref("magnitude")),),
    "number": ((Ref("sign"), Ref("magnitude"), Ref("fraction"), Ref("exponent")),),
    "sign": (("-",), ()),
    "magnitude": (("0",), (_NONZERO, Repeat(DIGIT))),
    "fraction": ((".", _DIGITS), ()),
    "exponent": ((Chars((("e", "e"), ("E", "E"))), Ref("exponent sign"), _DIGITS), ()),
    "exponent sign": ((Chars((("+", "+"), ("-", "-"))),), ()),
    "no fraction": ((".", Repeat(Chars((("0", "0"),)), 1)), ()),
    "some fraction": ((".", Repeat(Chars((("0", "0"),))), _NONZERO, Repeat(DIGIT)),),
}


def numbers(kind: str, schema: dict[str, Any]) -> tuple[Sequel, ...]:
    """The numbers of this kind that a schema allows; nothing where there are none.

    Raises ``ValueError`` for bounds that are not covered.
    """
    if not any(word in schema for word in BOUNDS):
        return ((Ref(kind),),)
    least, above = _bound(schema, "minimum", "exclusiveMinimum", 1)
    most, below = _bound(schema, "maximum", "exclusiveMaximum", -1)
    if kind == "integer":
        return tuple(integers(_whole(least, leaves_out=above, sign=1), _whole(most, leaves_out=below, sign=-1)))
    if any(bound is not None and bound != int(bound) for bound in (least, most)):
        raise ValueError("a bound that is no whole number")
    low, high = (None if bound is None else int(bound) for bound in (least, most))
    return tuple(decimals(low, high, above=above, below=below))


def _bound(schema: dict[str, Any], closed: str, opened: str, sign: int) -> tuple[float | None, bool]:
    """The stricter of a schema's two bounds, and whether it is itself left out."""
    given: list[tuple[float, bool]] = []
    for keyword, leaves_out in ((closed, False), (opened, True)):
        value = schema.get(keyword)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < BOUND_MAX:
            raise ValueError(f"{keyword} that is no plain number")
        given.append((value, leaves_out))
    return max(given, key=lambda one: (sign * one[0], one[1]), default=(None, False))


def _whole(bound: float | None, *, leaves_out: bool, sign: int) -> int | None:
    """The bound of whole numbers that is as strict."""
    if bound is None:
        return None
    nearest = math.ceil(bound) if sign > 0 else math.floor(bound)
    return nearest + sign if leaves_out and nearest == bound else nearest


def integers(least: int | None, most: int | None) -> Iterator[Sequel]:
    """Whole numbers from ``least`` to ``most``, both included."""
    for sign, low, high in _sides(least, most):
        if high is None or low <= high:
            yield from ((sign, *digits) for digits in _magnitudes(low, high))


def decimals(least: int | None, most: int | None, *, above: bool, below: bool) -> Iterator[Sequel]:
    """Decimal numbers from ``least`` to ``most``; ``above`` and ``below`` leave out the bound itself."""
    for sign, low, high in _sides(least, most):
        if high is not None and low > high:
            continue
        # A side that begins at nought need not have been bounded there.
        near = most is not None and most <= 0 if sign else least is not None and least >= 0
        low_open, high_open = (near and below, above) if sign else (near and above, below)
        yield from ((sign, *option) for option in _between(low, high, low_open=low_open, high_open=high_open))


def _between(low: int, high: int | None, *, low_open: bool, high_open: bool) -> Iterator[Sequel]:
    if low == high:
        if not (low_open or high_open):
            yield (str(low), Ref("no fraction"))
        return
    if low_open:
        yield (str(low), Ref("some fraction"))
    first = low + 1 if low_open else low
    if high is None or first < high:
        yield from ((*digits, Ref("fraction")) for digits in _magnitudes(first, None if high is None else high - 1))
    if high is not None and not high_open:
        yield (str(high), Ref("no fraction"))


def _sides(least: int | None, most: int | None) -> Iterator[tuple[str, int, int | None]]:
    """The magnitudes allowed behind a minus and without one, each with its sign."""
    if least is None or least < 0:
        low = 0 if most is None or most >= 0 else -most
        yield "-", low, None if least is None else -least
    if most is None or most >= 0:
        yield "", max(0, least or 0), most


def _magnitudes(low: int, high: int | None) -> Iterator[Sequel]:
    digits = len(str(low))
    if high is None:
        yield from _alike(str(low), _NINES[:digits])
        yield (_NONZERO, Repeat(DIGIT, digits))
        return
    while digits <= len(str(high)):
        first = str(low) if digits == len(str(low)) else f"1{'0' * (digits - 1)}"
        yield from _alike(first, str(high) if digits == len(str(high)) else _NINES[:digits])
        digits += 1


def _alike(low: str, high: str) -> Iterator[Sequel]:
    """Digits from ``low`` to ``high``, as many as both have."""
    if not low:
        yield ()
        return
    rest = len(low) - 1
    if set(low) == {"0"} and set(high) == {"9"}:
        yield (Repeat(DIGIT, rest + 1, rest + 1),)
    elif low[0] == high[0]:
        yield from ((low[0], *digits) for digits in _alike(low[1:], high[1:]))
    else:
        yield from ((low[0], *digits) for digits in _alike(low[1:], _NINES[:rest]))
        if ord(high[0]) - ord(low[0]) > 1:
            between = Chars(((chr(ord(low[0]) + 1), chr(ord(high[0]) - 1)),))
            yield (between, Repeat(DIGIT, rest, rest)) if rest else (between,)
        yield from ((high[0], *digits) for digits in _alike("0" * rest, high[1:]))
