"""Whatever a stranger sends, it is understood or refused, and never an accident."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dialects.openai.openai_platform import parse

from underlay.dialects.openai import IGNORED, OPENAI, REFUSED, chat, completions, embeddings, responses
from underlay.dialects.wire import Dialect, Route
from underlay.domain.errors import CallerError, NotFound
from underlay.domain.prompt import Ask

NAMES = ["chat", "completions", "embeddings", "responses", "response_input_tokens"]
WORDS = sorted(
    {*chat.HONOURED, *completions.HONOURED, *embeddings.HONOURED, *responses.HONOURED, *REFUSED, *IGNORED}
    | {"role", "content", "type", "function", "name", "arguments", "call_id", "tool_calls", "format", "schema"}
    | {"json_schema", "output", "id", "tool_call_id", "parameters", "15"}
)
VALUES = ["user", "assistant", "tool", "system", "function", "text", "json_schema", "message", "input_text", "auto"]
VALUES += ["function_call", "function_call_output", "reasoning", "small", "message.output_text.logprobs", ""]
TREE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(-3, 3) | st.sampled_from(VALUES) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NAMES), st.dictionaries(st.sampled_from(WORDS), TREE, max_size=6), st.booleans())
def test_any_object_gives_an_ask_or_a_refusal(name, fields, helped):
    if helped:  # past the fields that are always needed, so that the others are reached
        fields = {
            "messages": [{"role": "user", "content": "x"}],
            "input": "x",
            "prompt": "x",
            **fields,
            "model": "m",
        }
    if name == "responses" or name == "response_input_tokens":
        fields.pop("prompt", None)
    body = json.dumps(fields).encode()
    try:
        ask = parse(name, body)
    except CallerError as error:
        assert error.status == 400
        assert error.message
    else:
        assert isinstance(ask, Ask)
        assert ask.prompt.model
        assert ask.prompt.strands >= 1


@settings(deadline=None)  # the machine may be busy
@given(st.sampled_from(NAMES), st.binary(max_size=80))
def test_any_bytes_give_a_refusal(name, body):
    with pytest.raises(CallerError):
        parse(name, body)


def test_a_path_without_generation_is_not_found():
    with pytest.raises(NotFound):
        parse("models", b"{}")


def test_the_dialect_is_what_the_gateway_needs():
    dialect: Dialect = OPENAI
    assert dialect.name == "openai"
    headers = dict(
        dialect.stream_headers(Route("openai", "chat"), parse("completions", {"model": "m", "prompt": ""}))
    )
    assert headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
    }


def test_no_field_is_both_honoured_and_refused():
    for room in (chat, completions, embeddings, responses):
        assert not room.HONOURED & room.REFUSED_HERE
        assert set(REFUSED) >= room.REFUSED_HERE
    assert all(reason.endswith(".") for reason in (*IGNORED.values(), *REFUSED.values()))
