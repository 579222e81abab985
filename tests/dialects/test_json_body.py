import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underlay.dialects import json_body as jb
from underlay.domain.errors import BadRequest

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def nested(depth, opening="[", closing="]"):
    return ('{"a":' + opening * (depth - 1) + closing * (depth - 1) + "}").encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"[]", "an array"),
        (b"3", "a number"),
        (b"null", "null"),
        (b'"x"', "a string"),
        (b'{"a":NaN}', "not valid JSON"),
        (b'{"a":Infinity}', "not valid JSON"),
        (b'{"a":1e400}', "too large"),
        (b'{"a":' + b"9" * 9000 + b"}", "too large"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'{"a":"\\ud800"}', "not valid JSON"),
        (b'{"a":1}{', "trailing"),
        ('{"a":1}'.encode("utf-16"), "not valid JSON"),
        (b'{"a":' + b"[" * 100_000, "deeper than 64"),
        (nested(65), "deeper than 64"),
    ],
)
def test_a_body_that_cannot_be_read_says_why(body, said):
    with pytest.raises(BadRequest, match=said):
        jb.decode_object(body)


def test_nesting_up_to_the_limit_is_fine_and_brackets_in_strings_do_not_count():
    assert jb.decode_object(nested(64))
    assert jb.decode_object(json.dumps({"a": '[{"' * 500, "b": "\\" * 9 + '"['}).encode())
    assert jb.decode_object(json.dumps({"a": [[{}]] * 500}).encode()) == {"a": [[{}]] * 500}


def test_objects_and_arrays_nest_together():
    with pytest.raises(BadRequest, match="deeper"):
        jb.decode_object(('{"a":[' * 33 + "]}" * 33).encode())
    assert jb.decode_object(('{"a":[' * 32 + "]}" * 32).encode())


def test_of_two_equal_keys_the_last_wins():
    assert jb.decode_object(b'{"a":1,"a":2}') == {"a": 2}


@pytest.mark.parametrize("body", [b'{"a":"' + b'\\"[' * 300_000, b'{"a":' + b"[]," * 300_000, b'"[' * 400_000])
def test_hostile_bodies_cost_linear_time(body):
    before = time.process_time()
    with pytest.raises(BadRequest):
        jb.decode_object(body)
    assert time.process_time() - before < 1.0


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=60) | ANY_JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_an_object_or_a_bad_request(body):
    try:
        assert isinstance(jb.decode_object(body), dict)
    except BadRequest as error:
        assert error.message


@settings(deadline=None)  # the machine may be busy
@given(ANY_JSON)
def test_readers_give_their_type_or_a_bad_request_that_names_the_field(value):
    readers = [
        lambda f: jb.required_str(f, "x", where="w"),
        lambda f: jb.optional_str(f, "x", where="w"),
        lambda f: jb.optional_choice(f, "x", ("a",), where="w"),
        lambda f: jb.optional_bool(f, "x", where="w"),
        lambda f: jb.optional_int(f, "x", where="w"),
        lambda f: jb.optional_number(f, "x", minimum=0, maximum=2, where="w"),
        lambda f: jb.optional_object(f, "x", where="w"),
        lambda f: jb.object_list(f, "x", where="w"),
        lambda f: jb.string_list(f, "x", longest=2, where="w"),
    ]
    for read in readers:
        try:
            read({"x": value})
        except BadRequest as error:
            assert error.param.startswith("w.x")
            assert len(error.message) < 200


@pytest.mark.parametrize("value", [True, 1.5, "1", 11, -1, 10**40])
def test_an_integer_is_an_integer_of_its_range(value):
    with pytest.raises(BadRequest, match="'x' must be an integer from 0 to 10"):
        jb.optional_int({"x": value}, "x", minimum=0, maximum=10)


def test_null_is_absent():
    assert jb.optional_int({"x": None}, "x") is None
    assert jb.optional_number({}, "x", minimum=0, maximum=1) is None
    assert jb.string_list({"x": None}, "x") == ()


def test_a_whole_number_is_a_number_and_a_boolean_is_not():
    assert jb.optional_number({"x": 1}, "x", minimum=0, maximum=2) == 1.0
    with pytest.raises(BadRequest, match="not true"):
        jb.optional_number({"x": True}, "x", minimum=0, maximum=2)
