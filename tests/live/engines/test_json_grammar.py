"""Which JSON a schema allows, and which schemas are covered."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.live.engines.json_grammar import NotCovered, compile_schema
from underlay.live.engines.residual import Residual, Underivable


def derives(schema, text):
    residual = Residual(compile_schema(schema))
    try:
        residual.feed(text)
    except Underivable:
        return False
    return residual.complete


def sorted_out(schema, *texts):
    """Those of the texts that the schema allows."""
    return [text for text in texts if derives(schema, text)]


NAMED = {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "required": ["b"]}


def test_properties_come_in_the_order_of_their_definition():
    texts = ('{"a":null,"b":null}', '{"b":null}', '{"b":null,"a":null}', '{"a":null}', "{}", '{ "b":null}')
    assert sorted_out({**NAMED, "additionalProperties": False}, *texts) == ['{"a":null,"b":null}', '{"b":null}']


def test_further_properties_come_last_and_under_names_of_their_own():
    schema = {**NAMED, "additionalProperties": {"type": "boolean"}}
    good = ('{"b":null,"ab":true}', '{"b":null,"":true,"c":false}', '{"b":null,"\\n":true}')
    bad = ('{"ab":true,"b":null}', '{"b":null,"a":true}', '{"b":null,"c":1}', '{"b":null,"\\u0061":true}')
    assert sorted_out(schema, *good, *bad) == list(good)


def test_required_properties_need_not_be_defined():
    assert sorted_out({"type": "object", "required": ["x"]}, '{"x":1}', "{}", '{"y":1}', '{"x":[],"y":1}') == [
        '{"x":1}',
        '{"x":[],"y":1}',
    ]


def test_arrays_are_as_long_as_they_may_be():
    numbers = {"type": "array", "items": {"type": "integer"}}
    texts = ("[]", "[1]", "[1,2]", "[1,2,3]")
    assert sorted_out(numbers, *texts, '["x"]', "[1,]") == list(texts)
    assert sorted_out({**numbers, "minItems": 1, "maxItems": 2}, *texts) == ["[1]", "[1,2]"]
    assert sorted_out({**numbers, "maxItems": 0}, *texts) == ["[]"]
    first = {**numbers, "prefixItems": [{"type": "null"}, {"type": "boolean"}], "minItems": 1}
    good = ("[null]", "[null,true]", "[null,true,1]", "[null,true,1,2]")
    assert sorted_out(first, *good, "[]", "[true]", "[null,1]") == list(good)
    assert sorted_out({**first, "items": False}, *good) == ["[null]", "[null,true]"]


def test_strings_are_counted_in_characters_however_they_are_written():
    schema = {"type": "string", "minLength": 1, "maxLength": 2}
    good = ('"a"', '"é😀"', '"\\n\\u00e9"', '"\\ud83d\\ude00a"')
    assert sorted_out(schema, *good, '""', '"abc"', '"\\ud83d"', '"\n"', '"\\x"') == list(good)


def test_constants_are_themselves():
    values = ["a", 'q"\n', 1, 2.5, 3.0, True, None, [1, "x"], {"k": {"l": []}}]
    texts = [json.dumps(value, separators=(",", ":")) for value in values]
    assert sorted_out({"enum": values}, *texts, '"b"', "7", "false", "[1]") == texts
    assert sorted_out({"enum": values, "type": ["integer", "string"]}, *texts) == ['"a"', '"q\\"\\n"', "1"]
    assert derives({"const": 'q"'}, '"q\\u0022"')


def test_many_alike_do_not_make_a_text_ambiguous():
    """Thousands of constants and hundreds of tools share their beginnings."""
    countries = [f"country number {index}" for index in range(2000)]
    assert derives({"enum": countries}, '"country number 1234"')
    tools = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": {"type": "object"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name in countries[:300]
    ]
    assert derives({"anyOf": tools}, '{"name":"country number 77","arguments":{"x":[1]}}')
    assert not derives({"anyOf": tools}, '{"name":"country number 301","arguments":{}}')


def test_references_may_recur():
    tree = {"$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}, "$ref": "#/$defs/t"}
    assert sorted_out(tree, "[]", "[[],[[]]]", "[1]") == ["[]", "[[],[[]]]"]
    assert derives({"type": "object", "properties": {"a": {"$ref": "#"}}}, '{"a":{"a":{}}}')


def test_what_nothing_fits_is_left_out():
    assert derives({"anyOf": [False, {"type": "null"}]}, "null")
    assert derives({"type": "object", "properties": {"a": False}}, "{}")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "a+"},
        {"type": "string", "format": "date"},
        {"type": "number", "minimum": 0.5},
        {"type": "integer", "multipleOf": 3},
        {"type": "integer", "minimum": "1"},
        {"type": "integer", "minimum": 10**30},
        {"type": "object", "minProperties": 1},
        {"type": "object", "required": [1]},
        {"type": "object", "properties": {'a"': True}},
        {"type": "object", "patternProperties": {"x": True}},
        {"type": "string", "maxLength": 10**9},
        {"type": "array", "minItems": 2, "maxItems": 1},
        {"allOf": [{"type": "string"}, {"minLength": 1}]},
        {"$ref": "#/$defs/a", "minLength": 1, "$defs": {"a": {"type": "string"}}},
        {"enum": "abc"},
        {"const": 1e300},
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        False,
    ],
)
def test_what_is_not_covered_is_refused_at_once(schema):
    with pytest.raises(NotCovered):
        compile_schema(schema)


def test_one_schema_in_all_of_is_that_schema():
    schema = {
        "allOf": [{"$ref": "#/$defs/a"}],
        "description": "as Pydantic writes it",
        "$defs": {"a": {"type": "null"}},
    }
    assert sorted_out(schema, "null", "1") == ["null"]


# Numbers.

bounds = st.none() | st.integers(-1200, 1200)


@quick
@given(least=bounds, most=bounds, value=st.integers(-1500, 1500), opened=st.booleans())
def test_whole_numbers_keep_to_their_bounds(least, most, value, opened):
    below, above = ("exclusiveMinimum", "exclusiveMaximum") if opened else ("minimum", "maximum")
    schema = {"type": "integer", **{k: v for k, v in ((below, least), (above, most)) if v is not None}}
    room = int(opened)
    low = -1500 if least is None else least + room
    high = 1500 if most is None else most - room
    if least is not None and most is not None and low > high:
        with pytest.raises(NotCovered):
            compile_schema(schema)
        return
    assert derives(schema, str(value)) is (low <= value <= high)
    assert not derives(schema, f"0{abs(value)}")


@quick
@given(
    least=bounds,
    most=bounds,
    value=st.decimals(-1300, 1300, places=1) | st.integers(-1201, 1201),
    opened=st.booleans(),
)
def test_decimal_numbers_keep_to_their_bounds(least, most, value, opened):
    below, above = ("exclusiveMinimum", "exclusiveMaximum") if opened else ("minimum", "maximum")
    schema = {"type": "number", **{k: v for k, v in ((below, least), (above, most)) if v is not None}}
    if least is not None and most is not None and (least > most or (opened and least == most)):
        with pytest.raises(NotCovered):
            compile_schema(schema)
        return
    fits = (least is None or value > least or (value == least and not opened)) and (
        most is None or value < most or (value == most and not opened)
    )
    written = str(value)
    if value or not written.startswith("-"):  # minus nought is left to taste
        assert derives(schema, written) is fits
