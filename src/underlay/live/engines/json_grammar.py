"""The JSON that a schema allows, as a grammar: compact, properties in the order of their definition.

That is how llguidance (llama.cpp's grammar engine) reads a schema too, so whatever it has written can be derived
here. What is not covered is refused outright and so known before anything is written: patterns and formats of
strings, numbers of properties, multiples, bounds of decimals that are no whole numbers, ``allOf`` of several, and
keywords beside ``$ref``, ``anyOf``, ``oneOf`` and ``allOf``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from underlay.live.engines import json_numbers, json_strings
from underlay.live.engines.grammar import Grammar, Ref, Repeat, Rules, Sequel, Symbol
from underlay.live.engines.schemas import referred

#: Longest string and longest list whose length can be bounded; the grammar is written out item by item.
LENGTH_MAX = 16_384

#: Callers wait while a schema is compiled.
SYMBOLS_MAX = 10_000

_ANY = Ref("value")

#: What any schema may need.
_COMMON: Rules = {
    **json_numbers.RULES,
    **json_strings.RULES,
    "value": (("null",), (Ref("boolean"),), (Ref("number"),), (Ref("string"),), (Ref("array"),), (Ref("object"),)),
    "boolean": (("true",), ("false",)),
    "array": (("[", Ref("items"), "]"),),
    "items": ((), (_ANY, Repeat(Ref("more items")))),
    "more items": ((",", _ANY),),
    "object": (("{", Ref("members"), "}"),),
    "members": ((), (Ref("member"), Repeat(Ref("more members")))),
    "member": ((Ref("string"), ":", _ANY),),
    "more members": ((",", Ref("member")),),
}

_TYPES = ("null", "boolean", "number", "string", "array", "object")
_KINDS: dict[type, set[str]] = {
    type(None): {"null"}, bool: {"boolean"}, int: {"integer", "number"}, float: {"number"}, str: {"string"},
    list: {"array"}, dict: {"object"},
}  # fmt: skip
_WHOLLY = ("$ref", "anyOf", "oneOf", "allOf", "const", "enum")  # each says everything; beside it nothing else may
_SHAPING = frozenset({
    "type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems",
    "minLength", "maxLength", *json_numbers.BOUNDS,
})  # fmt: skip
#: Keywords with a meaning that is not covered; all others are annotations.
_NOT_COVERED = frozenset({
    "pattern", "format", "patternProperties", "minProperties", "maxProperties", "multipleOf",
    "additionalItems", "not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems",
    "propertyNames", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties",
    "unevaluatedItems", "$dynamicRef", "$recursiveRef",
})  # fmt: skip


class NotCovered(Exception):
    """The schema uses something that this compiler does not know; the message says what."""


class _Nothing(Exception):
    """No value fits this part of the schema."""


def compile_schema(schema: object) -> Grammar:
    """The grammar of the compact JSON texts that fit a schema which ``guard`` let pass. Raises ``NotCovered``."""
    compiler = _Compiler(schema)
    try:
        start = compiler.value(schema)
        compiler.finish()
    except _Nothing:
        raise NotCovered("nothing fits the schema") from None
    except RecursionError:
        raise NotCovered("nested too deeply") from None
    return Grammar(start, compiler.rules)


class _Compiler:
    def __init__(self, root: object) -> None:
        self.rules: Rules = dict(_COMMON)
        self._root = root
        self._due: list[tuple[str, Any]] = []
        self._symbols = 0

    def finish(self) -> None:
        """Compile what is referred to, then look for a rule that begins with itself."""
        while self._due:
            name, target = self._due.pop()
            self.rules[name] = (self.value(target),)
        done: set[str] = set()
        for name in self.rules:
            self._check_beginning(name, set(), done)

    def _check_beginning(self, name: str, path: set[str], done: set[str]) -> None:
        if name in path:
            raise NotCovered("a $ref that leads to itself")
        if name in done:
            return
        path.add(name)
        for option in self.rules[name]:
            if option and isinstance(option[0], Ref):
                self._check_beginning(option[0].rule, path, done)
        path.remove(name)
        done.add(name)

    def _rule(self, *options: Sequel) -> Ref:
        self._symbols += sum(map(len, options))
        if self._symbols > SYMBOLS_MAX:
            raise NotCovered("a schema of this size")
        name = f"rule {len(self.rules)}"
        self.rules[name] = options
        return Ref(name)

    # Values.

    def value(self, schema: Any) -> Sequel:
        """Whatever fits ``schema``; never nothing at all."""
        if schema is True:
            return (_ANY,)
        if schema is False:
            raise _Nothing
        unknown = sorted(_NOT_COVERED & schema.keys())
        if unknown:
            raise NotCovered(unknown[0])
        for keyword in _WHOLLY:
            if keyword in schema:
                return self._wholly(keyword, schema)
        if not _SHAPING & schema.keys():
            return (_ANY,)
        kinds = schema.get("type", _TYPES)
        return self._choice([kinds] if isinstance(kinds, str) else kinds, lambda kind: self._typed(kind, schema))

    def _wholly(self, keyword: str, schema: dict[str, Any]) -> Sequel:
        beside = (_SHAPING | set(_WHOLLY)) & (schema.keys() - {keyword})
        constants = keyword in ("const", "enum")
        if beside - ({"type"} if constants else set()):
            raise NotCovered(f"keywords beside {keyword}")
        if constants:
            values = [schema["const"]] if keyword == "const" else schema["enum"]
            if not isinstance(values, list):
                raise NotCovered("an enum that is no list")
            return self._choice([v for v in values if _is_of(v, schema.get("type"))], self._constant)
        if keyword == "$ref":
            return (self._referred(schema["$ref"]),)
        if keyword == "allOf" and len(schema["allOf"]) > 1:
            raise NotCovered("several schemas at once")
        return self._choice(schema[keyword], self.value)

    def _choice(self, members: Iterable[Any], compiled: Callable[[Any], Sequel]) -> Sequel:
        """One of several; those that nothing fits are left out."""
        options: list[Sequel] = []
        for member in members:
            try:
                options.append(_merged(compiled(member)))
            except _Nothing:
                continue
        if not options:
            raise _Nothing
        return options[0] if len(options) == 1 else (self._rule(*self._factored(options)),)

    def _factored(self, options: Sequence[Sequel]) -> list[Sequel]:
        """The same choice with what several begin with said once, so that a text is in few places at a time."""
        alike: dict[object, list[Sequel]] = {}
        for option in dict.fromkeys(options):
            first = option[0] if option else ""
            alike.setdefault(first[0] if isinstance(first, str) and first else option, []).append(option)
        return [group[0] if len(group) == 1 else self._shared(group) for group in alike.values()]

    def _shared(self, group: list[Sequel]) -> Sequel:
        begun = _common_beginning([str(option[0]) for option in group])
        rests = [_merged((str(option[0])[len(begun) :], *option[1:])) for option in group]
        return (begun, self._rule(*self._factored(rests)))

    def _referred(self, reference: str) -> Ref:
        if reference not in self.rules:
            self.rules[reference] = ()
            self._due.append((reference, referred(reference, self._root)))
        return Ref(reference)

    def _typed(self, kind: str, schema: dict[str, Any]) -> Sequel:
        match kind:
            case "null":
                return ("null",)
            case "boolean":
                return (Ref("boolean"),)
            case "string":
                least, most = _lengths(schema, "minLength", "maxLength")
                return ('"', Repeat(Ref("character"), least, most), '"') if most != 0 else ('""',)
            case "array":
                return self._array(schema)
            case "object":
                return self._object(schema)
        return self._numbers(kind, schema)

    def _numbers(self, kind: str, schema: dict[str, Any]) -> Sequel:
        try:
            options = json_numbers.numbers(kind, schema)
        except ValueError as error:
            raise NotCovered(str(error)) from None
        if not options:
            raise _Nothing
        return (self._rule(*options),)

    def _constant(self, value: Any) -> Sequel:
        match value:
            case bool() | None | int():
                return (json.dumps(value),)
            case str():
                return json_strings.quoted(value, self._rule)
            case list():
                return ("[", *_joined([self._constant(item) for item in value]), "]")
            case dict():
                pairs = [(json_strings.name_of(k), ":", *self._constant(v)) for k, v in value.items()]
                return ("{", *_joined(pairs), "}")
        return self._decimal(value)

    def _decimal(self, value: float) -> Sequel:
        text = repr(value)
        if "e" in text or not math.isfinite(value):
            raise NotCovered("a constant with an exponent")
        return (self._rule((text.removesuffix(".0"),), (text,)),) if text.endswith(".0") else (text,)

    # Arrays.

    def _array(self, schema: dict[str, Any]) -> Sequel:
        least, most = _lengths(schema, "minItems", "maxItems")
        first = [self.value(item) for item in schema.get("prefixItems", ())]
        rest = self._fitting(schema.get("items", True))
        if rest is None:
            most = len(first) if most is None else min(most, len(first))
        if most is not None and least > most:
            raise _Nothing
        return ("[", *self._items(first[:most], rest, least, most), "]")

    def _fitting(self, schema: Any) -> Sequel | None:
        try:
            return self.value(schema)
        except _Nothing:
            return None

    def _items(self, first: list[Sequel], rest: Sequel | None, least: int, most: int | None) -> Sequel:
        """The items from the last backwards: each goes on with what may follow it."""
        following: Sequel = ()
        if rest is not None and most != len(first):
            following = self._like(rest, len(first), least, most)
        for index, item in reversed(list(enumerate(first))):
            here: Sequel = (*((",",) if index else ()), *item, *following)
            following = here if index < least else (self._rule(here, ()),)
        return following

    def _like(self, item: Sequel, before: int, least: int, most: int | None) -> Sequel:
        """Items that are all alike, ``before`` others; the very first of a list follows no comma."""
        place = max(before, 1)
        more = () if most == place else (
            Repeat(self._rule((",", *item)), max(0, least - place), None if most is None else most - place),
        )  # fmt: skip
        if before:
            return more
        return (*item, *more) if least else (self._rule((*item, *more), ()),)

    # Objects.

    def _object(self, schema: dict[str, Any]) -> Sequel:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not all(isinstance(name, str) for name in required):
            raise NotCovered("a required property without a name")
        further = schema.get("additionalProperties", True)
        named = {**properties, **{name: further for name in required if name not in properties}}
        members: list[tuple[Sequel, bool]] = []
        for name, wanted in named.items():
            fitting = self._fitting(wanted)
            if fitting is not None:
                members.append(((json_strings.name_of(name), ":", *fitting), name in required))
            elif name in required:
                raise _Nothing
        return ("{", *self._members(members, self._further(further, list(named))), "}")

    def _members(self, members: list[tuple[Sequel, bool]], further: Sequel | None) -> Sequel:
        """From the last backwards: what may follow a member, and what may come where there has been none."""
        after: Sequel = ()
        at_first: Sequel = ()
        if further is not None:
            one = self._rule(further)
            after = (Repeat(self._rule((",", one))),)
            at_first = (self._rule((one, *after), ()),)
        for member, required in reversed(members):
            begun: Sequel = (*member, *after)
            if required:
                at_first, after = begun, (",", *begun)
            else:
                at_first, after = (self._rule(begun, at_first),), (self._rule((",", *begun), after),)
        return at_first

    def _further(self, schema: Any, taken: list[str]) -> Sequel | None:
        """A member that was not named."""
        value = self._fitting(schema)
        if value is None:
            return None
        if not json_strings.excludable(taken):
            raise NotCovered("further properties beside names with quotes or control characters")
        name = json_strings.other_than(taken, self._rule) if taken else Ref("string")
        return (name, ":", *value)


def _merged(symbols: Sequel) -> Sequel:
    """The same with neighbouring texts made one."""
    merged: list[Symbol] = []
    for symbol in symbols:
        if isinstance(symbol, str) and merged and isinstance(merged[-1], str):
            merged[-1] += symbol
        elif symbol != "":
            merged.append(symbol)
    return tuple(merged)


def _joined(parts: list[Sequel]) -> Sequel:
    return tuple(symbol for index, part in enumerate(parts) for symbol in ((",", *part) if index else part))


def _lengths(schema: dict[str, Any], lower: str, upper: str) -> tuple[int, int | None]:
    least, most = schema.get(lower, 0), schema.get(upper)
    for length in (least, 0 if most is None else most):
        if not isinstance(length, int) or isinstance(length, bool) or not 0 <= length <= LENGTH_MAX:
            raise NotCovered(f"{lower} or {upper} beyond {LENGTH_MAX}")
    if most is not None and least > most:
        raise _Nothing
    return least, most


def _is_of(value: Any, kinds: str | list[str] | None) -> bool:
    if kinds is None:
        return True
    wanted = {kinds} if isinstance(kinds, str) else set(kinds)
    return bool(wanted & _KINDS[type(value)])


def _common_beginning(texts: list[str]) -> str:
    low, high = min(texts), max(texts)
    length = next((i for i, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low))
    return low[:length]
