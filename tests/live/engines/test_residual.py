"""What may still follow a text in the grammar of its schema."""

import json

import jsonschema_rs
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.live.engines.json_grammar import compile_schema
from underlay.live.engines.residual import Residual, Underivable

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["new", "next", 'a "b"']}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "tags"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {
                "leaf": {"type": "number"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
            },
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/tree",
}


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def after(schema, text):
    residual = Residual(compile_schema(schema))
    residual.feed(text)
    return residual


def derives(schema, text):
    try:
        return after(schema, text).complete
    except Underivable:
        return False


# Schemas with a document that fits each: both are drawn together.

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=6)
names = st.text("abcé", min_size=1, max_size=3)


def lengths(draw, count):
    bounds = {}
    if draw(st.booleans()):
        bounds["least"] = draw(st.integers(0, count))
    if draw(st.booleans()):
        bounds["most"] = draw(st.integers(count, count + 3))
    return bounds


@st.composite
def strings(draw):
    value = draw(texts)
    names = {"least": "minLength", "most": "maxLength"}
    return {"type": "string", **{names[k]: v for k, v in lengths(draw, len(value)).items()}}, value


@st.composite
def bounded(draw, kind):
    whole = st.integers(-2000, 2000)
    decimal = st.decimals(-2000, 2000, places=2).map(float).map(lambda value: value + 0.0)
    value = draw(whole if kind == "integer" else decimal)
    schema = {"type": kind}
    under, over = (draw(st.none() | st.integers(0, 300)) for _ in range(2))
    if under is not None:
        schema["minimum"] = int(value // 1) - under
    if over is not None:
        schema["exclusiveMaximum"] = int(value // 1) + 1 + over
    return schema, value


@st.composite
def arrays(draw, parts):
    first = draw(st.lists(parts, max_size=2))
    (schema, _), rest = first[0] if first else draw(parts), []
    if first:
        rest = [first[0][1]] * draw(st.integers(0, 2))
    value = [item for _, item in first] + rest
    names = {"least": "minItems", "most": "maxItems"}
    more = {names[k]: v for k, v in lengths(draw, len(value)).items()}
    if not rest and "minItems" not in more and draw(st.booleans()):
        schema = False
    return {"type": "array", "prefixItems": [s for s, _ in first] or [True], "items": schema, **more}, value


@st.composite
def objects(draw, parts):
    drawn = draw(st.dictionaries(names, st.tuples(parts, st.booleans(), st.booleans()), max_size=4))
    value = {name: part[1] for name, (part, there, _) in drawn.items() if there}
    schema = {
        "type": "object",
        "properties": {name: part[0] for name, (part, _, _) in drawn.items()},
        "required": [name for name, (_, there, needed) in drawn.items() if there and needed],
    }
    kind = draw(st.sampled_from(["open", "closed", "typed"]))
    if kind == "closed":
        schema["additionalProperties"] = False
    else:
        more = draw(st.dictionaries(names.filter(lambda name: name not in drawn), st.integers(), max_size=2))
        value |= more
        if kind == "typed":
            schema["additionalProperties"] = {"type": "integer"}
    return schema, value


@st.composite
def choices(draw, parts):
    several = draw(st.lists(parts, min_size=1, max_size=3))
    keyword = draw(st.sampled_from(["anyOf", "oneOf", "enum", "type"]))
    value = draw(st.sampled_from([value for _, value in several]))
    if keyword == "enum":
        return {"enum": [value for _, value in several]}, value
    if keyword == "type":
        return {"type": ["integer", "null"]}, draw(st.none() | st.integers())
    return {"anyOf": [schema for schema, _ in several]}, value


simple = st.one_of(
    strings(),
    bounded("integer"),
    bounded("number"),
    st.tuples(st.just({"type": "boolean"}), st.booleans()),
    st.tuples(st.just({"type": "null"}), st.none()),
    texts.map(lambda text: ({"const": text}, text)),
)
cases = st.recursive(simple, lambda parts: arrays(parts) | objects(parts) | choices(parts), max_leaves=6)


@quick
@given(case=cases, data=st.data())
def test_what_follows_a_cut_is_what_was_cut_off(case, data):
    """I2: for every cut of every document, the rest goes on with the beginning, and nothing else is let in."""
    schema, value = case
    text = compact(value)
    assert derives(schema, text)
    cut = data.draw(st.integers(0, len(text)))
    residual = after(schema, text[:cut])
    residual.feed(text[cut:])
    assert residual.complete
    other = data.draw(st.text('{}[]",:0123456789-.aetrufalsn\\ ', min_size=1, max_size=4))
    whole = text[:cut] + other + text[cut:]
    if derives(schema, whole):
        assert jsonschema_rs.is_valid(schema, json.loads(whole))
        assert compact_again(whole)


def compact_again(text):
    """Whether there is no white space between the tokens of this JSON text."""
    return not any(space in json_without_strings(text) for space in " \n\r\t")


def json_without_strings(text):
    outside, inside, escaped = [], False, False
    for character in text:
        if inside:
            escaped, inside = character == "\\" and not escaped, character != '"' or escaped
        elif character == '"':
            inside = True
        else:
            outside.append(character)
    return "".join(outside)


@quick
@given(
    text=st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    )
)
def test_any_json_is_derived_from_a_schema_that_leaves_all_open(text):
    assert derives({}, compact(text))
