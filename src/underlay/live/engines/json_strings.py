"""The strings of JSON as grammars: any, one that is given, any but some.

What must be escaped may be so in each way that JSON has. A pair of escaped surrogates is one character, half a
pair is none.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from underlay.live.engines.grammar import Chars, Ref, Repeat, Rules, Sequel

_HEX = Chars((("0", "9"), ("a", "f"), ("A", "F")))
_CONTROLS = ("\x00", "\x1f")
_PLAIN = Chars((_CONTROLS, ('"', '"'), ("\\", "\\"), ("\x7f", "\x7f")), outside=True)
_SHORT = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", '"': '"', "\\": "\\"}

RULES: Rules = {
    "string": (('"', Repeat(Ref("character")), '"'),),
    "character": ((_PLAIN,), ("\\", Ref("escape"))),
    "escape": ((Ref("short escape"),), ("u", Ref("code"))),
    "short escape": ((Chars(tuple((c, c) for c in '"\\/bfnrt')),),),
    "code": (
        (Chars((("0", "9"), ("a", "c"), ("A", "C"), ("e", "f"), ("E", "F"))), _HEX, _HEX, _HEX),
        (Ref("d"), Chars((("0", "7"),)), _HEX, _HEX),
        (
            Ref("d"),
            Chars((("8", "9"), ("a", "b"), ("A", "B"))),
            _HEX,
            _HEX,
            "\\u",
            Ref("d"),
            Ref("low"),
            _HEX,
            _HEX,
        ),
    ),
    "d": ((Chars((("d", "d"), ("D", "D"))),),),
    "low": ((Chars((("c", "f"), ("C", "F"))),),),
    "control code": (("u00", Chars((("0", "1"),)), _HEX), ("u007", Chars((("f", "f"), ("F", "F"))))),
}

MakeRule = Callable[..., Ref]


def name_of(property_name: str) -> str:
    """A property's name as the engine writes it."""
    return json.dumps(property_name, ensure_ascii=False)


def quoted(value: str, rule: MakeRule) -> Sequel:
    """A given string."""
    if excludable([value]):
        return (f'"{value}"',)
    return ('"', *(symbol for character in value for symbol in _literal(character, rule)), '"')


def _literal(character: str, rule: MakeRule) -> Sequel:
    if character not in _SHORT and not _CONTROLS[0] <= character <= _CONTROLS[1]:
        return (character,)
    code = f"{ord(character):04x}"
    ways: list[Sequel] = [(f"u{code}",), (f"u{code.upper()}",)]
    if character in _SHORT:
        ways.append((_SHORT[character],))
    return ("\\", rule(*dict.fromkeys(ways)))


def excludable(names: list[str]) -> bool:
    """Whether ``other_than`` can tell these names from others."""
    return all(_PLAIN.take(character) for name in names for character in name)


def other_than(names: list[str], rule: MakeRule) -> Ref:
    """A string that is none of ``names``: it leaves their common beginnings, or ends within them, or after."""
    return rule(('"', _apart(sorted(set(names)), 0, rule)))


def _apart(names: list[str], depth: int, rule: MakeRule) -> Ref:
    """The rest of a string that shares its first ``depth`` characters with all of ``names``."""
    branches: dict[str, list[str]] = {}
    for name in names:
        if len(name) > depth:
            branches.setdefault(name[depth], []).append(name)
    free: Sequel = (Repeat(Ref("character")), '"')
    other = Chars((*_PLAIN.ranges, *((c, c) for c in branches)), outside=True)
    options: list[Sequel] = [(other, *free)]
    # An escaped letter might spell one of the names after all.
    options += [("\\", Ref("short escape"), *free), ("\\", Ref("control code"), *free)]
    options += [(c, _apart(group, depth + 1, rule)) for c, group in branches.items()]
    if all(len(name) > depth for name in names):
        options.append(('"',))
    return rule(*options)
