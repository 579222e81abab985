import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.dialects.openai.openai_platform import (
    CALLS,
    OPENING,
    RECEIPT,
    TEXT,
    TEXTS,
    USAGE,
    Platform,
    data_of,
    parse,
    reply,
    respond,
    writer,
    written,
)

from underlay.dialects.openai import (
    cancel_refusal,
    continued,
    conversation_after,
    deleted_object,
    not_stored,
    response_id,
    stored_object,
)
from underlay.domain.answer import Piece, Strand, StrandEnd, TokenLogprob, Usage
from underlay.domain.errors import BadRequest, EngineFailed, LimitReached
from underlay.domain.prompt import Format, Message, Tool, ToolCall, ToolChoice

LOOK = {"type": "function", "name": "look", "description": "d", "parameters": {"type": "object"}, "strict": None}
FIND = {"type": "function", "name": "find", "parameters": None}
EVENT = TypeAdapter(ResponseStreamEvent)


def test_every_honoured_field_reaches_the_prompt():
    ask = respond(
        instructions="be brief", max_output_tokens=9, temperature=0, top_p=0.5, tools=[LOOK],
        tool_choice={"type": "function", "name": "look"}, parallel_tool_calls=False, previous_response_id="resp_1",
        store=False, metadata={"k": "v"}, stream=True, truncation="disabled", top_logprobs=2,
        include=["message.output_text.logprobs"],
        text={"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}},
    )  # fmt: skip
    prompt = ask.prompt
    assert ask.ignored == ()
    assert (ask.previous, ask.store, ask.stream) == ("resp_1", False, True)
    assert prompt.messages == (Message("system", "be brief"), Message("user", "hi"))
    assert prompt.tools == (Tool("look", "d", {"type": "object"}),)
    assert prompt.tool_choice == ToolChoice("named", "look")
    assert prompt.format == Format("json_schema", {"type": "object"}, "s")
    assert (prompt.sampling.max_tokens, prompt.sampling.temperature, prompt.sampling.logprobs) == (9, 0, 2)
    assert respond().store


def test_items_become_messages_and_calls_join_the_turn_they_belong_to():
    ask = respond(
        input=[
            {"role": "developer", "content": "d"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t", "annotations": []}]},
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "find", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
        ]
    )  # fmt: skip
    assert ask.prompt.messages == (
        Message("system", "d"),
        Message("user", "a"),
        Message("assistant", "t", tool_calls=(ToolCall("c1", "look", "{}"), ToolCall("c2", "find", "{}"))),
        Message("tool", "1", tool_call_id="c1"),
        Message("tool", "2", tool_call_id="c2"),
    )
    assert ask.ignored == ("input.reasoning",)


def test_fields_without_effect_are_reported():
    ask = respond(
        reasoning={"effort": "low"}, text={"verbosity": "low"}, truncation="auto", background=False, max_tool_calls=3,
        include=["reasoning.encrypted_content"], stream_options={"include_obfuscation": True}, user="u",
    )  # fmt: skip
    assert set(ask.ignored) == {
        "reasoning", "text.verbosity", "truncation", "max_tool_calls", "include.reasoning.encrypted_content",
        "stream_options.include_obfuscation", "user",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"truncation": "some"}, "truncation"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"type": "computer_call_output"}]}, "input[0].type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields, param):
    with pytest.raises(BadRequest) as refused:
        respond(**fields)
    assert refused.value.param == param


def test_a_whole_reply_echoes_the_request_and_tells_the_usage():
    ask = respond(instructions="i", metadata={"k": "v"}, tools=[LOOK], tool_choice="required", temperature=0.5)
    strand = Strand("t", StrandEnd("tool_calls"), (ToolCall("c1", "look", "{}"), ToolCall("", "look", "{}")))
    body = reply("responses", ask, strand)
    response = Response.model_validate(body)
    assert (response.id, response.status, response.output_text) == ("resp_abc123", "completed", "t")
    assert (body["instructions"], body["metadata"], body["tool_choice"]) == ("i", {"k": "v"}, "required")
    assert [item["type"] for item in body["output"]] == ["message", "function_call", "function_call"]
    assert [item["call_id"] for item in body["output"][1:]] == ["c1", "call_abc123_0_1"]
    assert body["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    }
    assert body["x_cost"] == {"usd": "0.000012"}


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_cut_short_is_incomplete(finish, reason):
    body = reply("responses", respond(), Strand("t", StrandEnd(finish)))
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert body["output"][0]["status"] == "incomplete"
    events = data_of(written("responses", respond(stream=True), TEXTS, finish=finish))
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": reason}


def checked(stream):
    """The events of a stream: numbered from zero, named twice alike, and valid in the SDK's own types."""
    events = data_of(stream)
    names = [line.removeprefix("event: ") for line in stream.decode().split("\n") if line.startswith("event: ")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert names == [event["type"] for event in events]
    for event in events:
        assert EVENT.validate_python(event).type == event["type"]
    return events


def test_a_text_streams_in_the_documented_order():
    events = checked(written("responses", respond(stream=True), TEXTS))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert events[-4]["text"] == TEXT
    assert events[-1]["response"]["output"] == [events[-2]["item"]]


def test_text_then_calls_stream_as_items_of_their_own():
    events = checked(
        written("responses", respond(stream=True, tools=[LOOK, FIND]), [*TEXTS[:1], *CALLS], "tool_calls")
    )
    assert [(event["type"].removeprefix("response."), event.get("output_index")) for event in events[2:]] == [
        ("output_item.added", 0), ("content_part.added", 0), ("output_text.delta", 0), ("output_text.done", 0),
        ("content_part.done", 0), ("output_item.done", 0),
        ("output_item.added", 1), ("function_call_arguments.delta", 1), ("function_call_arguments.delta", 1),
        ("output_item.added", 2), ("function_call_arguments.delta", 2),
        ("function_call_arguments.done", 1), ("output_item.done", 1),
        ("function_call_arguments.done", 2), ("output_item.done", 2),
        ("completed", None),
    ]  # fmt: skip
    calls = events[-1]["response"]["output"][1:]
    assert [(call["call_id"], call["name"], call["arguments"]) for call in calls] == [
        ("call_abc123_0_0", "look", '{"a":1}'),
        ("call_given", "find", "{}"),
    ]


def test_an_empty_answer_is_still_a_message():
    events = checked(written("responses", respond(stream=True), []))
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == ""


def test_probabilities_are_given_where_asked():
    token = TokenLogprob("é", -0.5, (TokenLogprob("e", -1.0),))
    events = checked(written("responses", respond(stream=True, top_logprobs=1), [Piece("é", logprobs=(token,))]))
    assert events[4]["logprobs"][0]["token"] == "é"
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"][0]["bytes"] == [195, 169]


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.text()))
def test_the_deltas_together_are_the_text(texts):
    events = data_of(written("responses", respond(stream=True), [Piece(text) for text in texts]))
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "".join(texts)
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "".join(texts)


def test_the_stream_leaves_the_object_that_is_stored():
    it = writer("responses", respond(stream=True))
    assert it.final is None
    it.open(USAGE)
    it.piece(0, Piece("x"))
    it.end(0, StrandEnd("stop"))
    assert it.final is None
    last = data_of(it.close(RECEIPT))[0]
    assert json.loads(it.final) == last["response"]
    same = reply("responses", respond(stream=True), Strand("x", StrandEnd("stop")))
    assert json.loads(it.final) == same


@pytest.mark.parametrize(
    ("error", "code"),
    [(EngineFailed("died"), "server_error"), (LimitReached("no"), "rate_limit_exceeded"), (BadRequest("no"), "invalid_prompt")],
)  # fmt: skip
def test_a_failure_is_the_last_event_and_carries_the_whole_response(error, code):
    it = writer("responses", respond(stream=True))
    events = checked(it.open(Usage()) + it.piece(0, Piece("par")) + it.piece(0, Piece("t")) + it.fail(error))
    assert events[-1]["type"] == "response.failed"
    response = events[-1]["response"]
    assert (response["status"], response["error"]["code"]) == ("failed", code)
    assert response["output"][0]["content"][0]["text"] == "part"
    assert response["output"][0]["status"] == "incomplete"


def test_a_conversation_grows_by_its_input_and_its_answer_without_instructions():
    first = respond(instructions="be brief")
    earlier = conversation_after(first, [Strand("hello", StrandEnd("stop"))])
    assert earlier == (Message("user", "hi"), Message("assistant", "hello"))
    second = continued(respond(instructions="be long", input="and?", previous_response_id="resp_1"), earlier)
    assert second.prompt.messages == (Message("system", "be long"), *earlier, Message("user", "and?"))
    calls = (ToolCall("c", "look", "{}"),)
    assert conversation_after(second, [Strand("", StrandEnd("tool_calls"), calls)]) == (
        *earlier,
        Message("user", "and?"),
        Message("assistant", "", tool_calls=calls),
    )


def test_stored_responses_are_given_and_deleted_but_not_cancelled():
    assert response_id(OPENING) == "resp_abc123"
    assert stored_object(b'{"id":"resp_1"}') == b'{"id":"resp_1"}'
    assert json.loads(deleted_object("resp_1")) == {"id": "resp_1", "object": "response", "deleted": True}
    assert cancel_refusal("resp_1").status == 400
    assert not_stored("resp_1").status == 404


def test_input_tokens_are_counted_without_an_answer():
    ask = parse("response_input_tokens", {"model": "m", "input": "x", "instructions": "i"})
    assert (ask.prompt.operation, ask.store, len(ask.prompt.messages)) == ("count", False, 2)
    answer = Platform().client().responses.input_tokens.count(model="small", input="x")
    assert (answer.input_tokens, answer.object) == (42, "response.input_tokens")


def test_the_sdk_talks_to_it():
    client = Platform(*TEXTS).client()
    assert client.responses.create(model="small", input="x").output_text == TEXT
    with client.responses.stream(model="small", input="x") as stream:
        final = stream.get_final_response()
    assert final.output_text == TEXT
    assert final.usage.output_tokens == 5


def test_the_sdk_collects_function_calls():
    platform = Platform(*TEXTS, *CALLS, finish="tool_calls")
    with platform.client().responses.stream(model="small", input="x", tools=[LOOK, FIND]) as stream:
        final = stream.get_final_response()
    assert final.output_text == TEXT
    assert [item.arguments for item in final.output[1:]] == ['{"a":1}', "{}"]


def test_the_sdk_sees_a_failure():
    client = Platform(*TEXTS, error=EngineFailed("died")).client()
    events = list(client.responses.create(model="small", input="x", stream=True))
    assert events[-1].type == "response.failed"
    with (
        pytest.raises(RuntimeError, match="completed"),
        client.responses.stream(model="small", input="x") as s,
    ):
        s.get_final_response()
