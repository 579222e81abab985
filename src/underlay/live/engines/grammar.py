"""Context-free grammars over characters, and how they are written in GBNF.

The notation of llama.cpp; xgrammar (vLLM) reads the same. What a grammar is made from is ``json_grammar``'s
business, how far a text has come in it ``residual``'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

#: llama.cpp writes ``x{m,n}`` out as n rules and refuses more than 2000 of them in one go.
_REPEATS_AT_ONCE = 1000

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CLASS_ESCAPES = {"]": "\\]", "[": "\\[", "^": "\\^", "-": "\\x2D", **_ESCAPES}


class Chars(Struct, frozen=True):
    """One character within one of ``ranges`` (both ends included), or with ``outside`` in none of them."""

    ranges: tuple[tuple[str, str], ...]
    outside: bool = False

    def take(self, character: str) -> bool:
        """Whether this character may stand here."""
        return any(low <= character <= high for low, high in self.ranges) is not self.outside


class Ref(Struct, frozen=True):
    """Whatever the rule of this name derives."""

    rule: str


class Repeat(Struct, frozen=True):
    """``of``, at least ``least`` and at most ``most`` times (``None``: without end); never empty itself."""

    of: Ref | Chars
    least: int = 0
    most: int | None = None


#: A ``str`` stands for itself.
Symbol = str | Chars | Ref | Repeat
Sequel = tuple[Symbol, ...]
Rules = dict[str, tuple[Sequel, ...]]

DIGIT = Chars((("0", "9"),))
ANYTHING = Chars((), outside=True)


class Grammar(Struct, frozen=True):
    """Rules by name, each a choice of sequences; ``start`` is what a whole text is."""

    start: Sequel
    rules: Rules


def gbnf(start: Sequence[Sequel], rules: Rules) -> str:
    """The grammar of a choice of beginnings, with the rules that they need and no others."""
    writer = _Writer()
    lines = [f"root ::= {writer.choice(start)}"]
    while writer.due:
        rule = writer.due.pop()
        lines.append(f"{writer.names[rule]} ::= {writer.choice(rules[rule])}")
    return "\n".join(lines) + "\n"


class _Writer:
    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.due: list[str] = []

    def choice(self, options: Sequence[Sequel]) -> str:
        return " | ".join(self._sequel(option) for option in options)

    def _sequel(self, symbols: Sequel) -> str:
        return " ".join(self._symbol(symbol) for symbol in symbols if symbol != "") or '""'

    def _symbol(self, symbol: Symbol) -> str:
        match symbol:
            case str():
                return f'"{"".join(_quoted(c, _ESCAPES) for c in symbol)}"'
            case Chars():
                return _class(symbol)
            case Ref():
                return self._name(symbol.rule)
            case Repeat():
                return self._repeat(self._symbol(symbol.of), symbol.least, symbol.most)

    def _name(self, rule: str) -> str:
        if rule not in self.names:
            self.names[rule] = f"r{len(self.names)}"
            self.due.append(rule)
        return self.names[rule]

    def _repeat(self, of: str, least: int, most: int | None) -> str:
        """In portions that the engine takes: a portion is whole before the next begins."""
        portion = _REPEATS_AT_ONCE
        if least > portion:
            rest = self._repeat(of, least - portion, None if most is None else most - portion)
            return f"{of}{{{portion}}} {rest}"
        if most is None:
            return f"{of}{{{least},}}"
        if most <= portion:
            return f"{of}{{{least},{most}}}"
        rest = self._repeat(of, 0, most - portion)
        return f"({of}{{{least},{portion - 1}}} | {of}{{{portion}}} {rest})"


def _class(chars: Chars) -> str:
    ends = ((_quoted(low, _CLASS_ESCAPES), _quoted(high, _CLASS_ESCAPES)) for low, high in chars.ranges)
    inner = "".join(low if low == high else f"{low}-{high}" for low, high in ends)
    if not inner:
        return "[\\x00-\\U0010FFFF]" if chars.outside else '""'
    return f"[{'^' if chars.outside else ''}{inner}]"


def _quoted(character: str, escapes: dict[str, str]) -> str:
    if character in escapes:
        return escapes[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02X}" if code < 0x80 else f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
