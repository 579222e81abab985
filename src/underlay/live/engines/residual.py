"""How far has a text come in a grammar, and what may still follow?

A pushdown recogniser over characters: the set of stacks of symbols that are still owed. Stacks share their
lower parts, as in Tomita's graph-structured stack, so that stacks which owe the same are one. The grammar of
all continuations is then the choice of the stacks, written out.
"""

from __future__ import annotations

from underlay.live.engines.grammar import Chars, Grammar, Ref, Repeat, Sequel, Symbol, gbnf

#: A text that is in so many places of a grammar at once belongs to a schema made to be ambiguous.
STACKS_MAX = 64


class Underivable(Exception):
    """The text is no beginning of anything that the grammar derives, or too ambiguous to tell."""


class _Stack:
    """What is owed: ``symbol`` first, then ``below``. Equal stacks are the same object."""

    __slots__ = ("below", "symbol")

    def __init__(self, symbol: Symbol, below: _Stack | None) -> None:
        self.symbol = symbol
        self.below = below


_Stacks = tuple[_Stack | None, ...]


class Residual:
    """What a grammar still allows after the text fed so far."""

    def __init__(self, grammar: Grammar) -> None:
        self._rules = grammar.rules
        self._known: dict[tuple[Symbol, int], _Stack] = {}
        self._opened: dict[_Stack | None, _Stacks] = {}
        self._steps: dict[tuple[_Stacks, str], _Stacks] = {}
        self._stacks = self._open(self._push(grammar.start, None))

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        return None in self._stacks

    @property
    def exhausted(self) -> bool:
        """Whether the text must end here."""
        return self._stacks == (None,)

    def feed(self, text: str) -> None:
        """Take more of the text. Raises ``Underivable``."""
        for character in text:
            step = (self._stacks, character)
            reached = self._steps.get(step)
            if reached is None:
                reached = self._steps[step] = self._step(character)
            self._stacks = reached

    def gbnf(self) -> str:
        """The grammar of all continuations."""
        return gbnf([_owed(stack) for stack in self._stacks], self._rules)

    def _step(self, character: str) -> _Stacks:
        reached: dict[_Stack | None, None] = {}
        for stack in self._stacks:
            if stack is None:
                continue
            symbol = stack.symbol
            if isinstance(symbol, str):
                if symbol[0] == character:
                    reached.update(dict.fromkeys(self._open(self._push((symbol[1:],), stack.below))))
            elif isinstance(symbol, Chars) and symbol.take(character):
                reached.update(dict.fromkeys(self._open(stack.below)))
        if not reached or len(reached) > STACKS_MAX:
            raise Underivable("ambiguous" if reached else "not derivable")
        return tuple(reached)

    def _push(self, symbols: Sequel, below: _Stack | None) -> _Stack | None:
        for symbol in reversed(symbols):
            if symbol == "":
                continue
            key = (symbol, id(below))
            known = self._known.get(key)
            if known is None:
                known = self._known[key] = _Stack(symbol, below)
            below = known
        return below

    def _open(self, stack: _Stack | None) -> _Stacks:
        """The stacks that this one may become so that each has a character on top, or is done."""
        known = self._opened.get(stack)
        if known is None:
            found: dict[_Stack | None, None] = {}
            due, seen = [stack], {stack}
            while due:
                top = due.pop()
                choices = self._choices(top)
                if choices is None:
                    found[top] = None
                    continue
                fresh = [choice for choice in choices if choice not in seen]
                seen.update(fresh)
                due.extend(reversed(fresh))
            known = self._opened[stack] = tuple(found)
        return known

    def _choices(self, stack: _Stack | None) -> list[_Stack | None] | None:
        """What the top of a stack may be replaced by; ``None`` where it is a character."""
        if stack is None:
            return None
        symbol, below = stack.symbol, stack.below
        if isinstance(symbol, Ref):
            return [self._push(option, below) for option in self._rules[symbol.rule]]
        if isinstance(symbol, Repeat):
            return self._repeated(symbol, below)
        return None

    def _repeated(self, symbol: Repeat, below: _Stack | None) -> list[_Stack | None]:
        if symbol.most == 0:
            return [below]
        most = None if symbol.most is None else symbol.most - 1
        rest: Sequel = () if most == 0 else (Repeat(symbol.of, max(0, symbol.least - 1), most),)
        once_more = self._push((symbol.of, *rest), below)
        return [once_more] if symbol.least else [once_more, below]


def _owed(stack: _Stack | None) -> Sequel:
    symbols: list[Symbol] = []
    while stack is not None:
        symbols.append(stack.symbol)
        stack = stack.below
    return tuple(symbols)
