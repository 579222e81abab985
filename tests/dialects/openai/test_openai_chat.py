import math
import timeit

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.dialects.openai.openai_platform import (
    CALLS,
    OPENING,
    TEXT,
    TEXTS,
    USAGE,
    Platform,
    chat,
    data_of,
    parse,
    reply,
    writer,
    written,
)

from underlay.domain.answer import Piece, Strand, StrandEnd, TokenLogprob
from underlay.domain.errors import BadRequest, EngineFailed
from underlay.domain.prompt import Format, Message, Tool, ToolCall, ToolChoice

HI = [{"role": "user", "content": "hi"}]
LOOK = {"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}}


def test_every_honoured_field_reaches_the_prompt():
    ask = chat(
        stream=True, stream_options={"include_usage": True}, max_tokens=5, max_completion_tokens=7, temperature=0.5,
        top_p=1, top_k=40, min_p=0.05, stop=["a", "b"], n=2, seed=-3, presence_penalty=-2, frequency_penalty=2,
        logit_bias={"15": -100}, logprobs=True, top_logprobs=3, tools=[LOOK],
        tool_choice={"type": "function", "function": {"name": "look"}}, parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        modalities=["text"],
    )  # fmt: skip
    prompt, sampling = ask.prompt, ask.prompt.sampling
    assert ask.stream
    assert ask.ignored == ()
    assert ask.extras["include_usage"] is True
    assert (prompt.operation, prompt.model, prompt.n, prompt.strands) == ("chat", "small", 2, 2)
    assert prompt.messages == (Message("user", "hi"),)
    assert prompt.tools == (Tool("look", "d", {"type": "object"}),)
    assert prompt.tool_choice == ToolChoice("named", "look")
    assert prompt.parallel_tool_calls is False
    assert prompt.format == Format("json_schema", {"type": "object"}, "s")
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (7, 0.5, 1.0)
    assert (sampling.top_k, sampling.min_p, sampling.seed) == (40, 0.05, -3)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (-2, 2)
    assert sampling.logit_bias == {"15": -100}
    assert sampling.stop == ("a", "b")
    assert sampling.logprobs == 3


def test_a_bare_request_leaves_everything_to_the_engine():
    ask = chat(temperature=None, stop=None, tools=None, response_format={"type": "text"})
    assert ask.prompt.sampling == type(ask.prompt.sampling)()
    assert not ask.stream
    assert not ask.store
    assert ask.ignored == ()


def test_the_sdk_tells_how_long_it_will_wait():
    def waits(text):
        return parse("chat", {"model": "m", "messages": HI}, {"x-stainless-read-timeout": text}).deadline_s

    assert waits("600") == 600.0
    assert [waits(text) for text in ("", "NOT_GIVEN", "nan", "-1", "0")] == [None] * 5


def test_fields_without_effect_are_reported_and_unknown_ones_too():
    ask = chat(
        user="u", metadata={"a": "b"}, store=False, service_tier="scale", verbosity=None, sparkle=1,
        stream_options={"include_obfuscation": False}, tools=[{**LOOK, "function": {"name": "x", "strict": True}}],
    )  # fmt: skip
    assert set(ask.ignored) == {
        "user", "metadata", "store", "service_tier.scale", "sparkle", "stream_options.include_obfuscation",
        "tools.strict",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 2**31}, "max_completion_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": ""}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"seed": 2**63}, "seed"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream": "yes"}, "stream"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [LOOK, LOOK]}, "tools[1]"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [LOOK], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"messages": [{"role": "wizard", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "function", "name": "f", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "function_call": {}}]}, "messages[0].function_call"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]}, "messages[0].content[1]"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(fields, param):
    with pytest.raises(BadRequest) as refused:
        chat(**fields)
    assert refused.value.param == param
    assert len(refused.value.message) < 250


def test_roles_and_parts_become_messages():
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    ask = chat(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "hi", "name": "Ann"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        ]
    )
    assert ask.prompt.messages == (
        Message("system", "be brief"),
        Message("system", "a\nb"),
        Message("user", "hi", name="Ann"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "look", "{}"),)),
        Message("tool", "42", tool_call_id="c1"),
        Message("assistant", "no"),
    )


def test_a_whole_reply_is_what_the_sdk_expects():
    body = reply("chat", chat(), Strand("hello", StrandEnd("stop")), Strand("bye", StrandEnd("length")))
    completion = ChatCompletion.model_validate(body, strict=True)
    assert completion.id == "chatcmpl-abc123"
    assert completion.created == OPENING.created_s
    assert [choice.message.content for choice in completion.choices] == ["hello", "bye"]
    assert [choice.finish_reason for choice in completion.choices] == ["stop", "length"]
    assert body["choices"][0]["logprobs"] is None
    assert body["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert body["x_cost"] == {"usd": "0.000012"}


def test_a_reply_with_tool_calls_has_no_content_and_ids_for_all():
    strand = Strand("", StrandEnd("tool_calls"), (ToolCall("", "look", "{}"), ToolCall("mine", "find", "{}")))
    message = reply("chat", chat(tools=[LOOK]), strand)["choices"][0]["message"]
    assert message["content"] is None
    assert [call["id"] for call in message["tool_calls"]] == ["call_abc123_0_0", "mine"]


def test_probabilities_have_bytes_and_alternatives():
    token = TokenLogprob("é", -0.5, (TokenLogprob("é", -0.5), TokenLogprob("e", -math.inf)))
    strand = Strand("é", StrandEnd("stop"), logprobs=(token,))
    choice = reply("chat", chat(logprobs=True, top_logprobs=2), strand)["choices"][0]
    assert choice["logprobs"]["content"] == [
        {
            "token": "é",
            "logprob": -0.5,
            "bytes": [195, 169],
            "top_logprobs": [
                {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
                {"token": "e", "logprob": -9999.0, "bytes": [101]},
            ],
        }
    ]
    chunks = data_of(written("chat", chat(logprobs=True, stream=True), [Piece("é", logprobs=(token,))]))
    assert chunks[1]["choices"][0]["logprobs"]["content"][0]["bytes"] == [195, 169]
    assert chunks[1]["choices"][0]["delta"] == {"content": "é"}
    silent = data_of(written("chat", chat(stream=True), [Piece("é", logprobs=(token,))]))
    assert silent[1]["choices"][0]["logprobs"] is None


def test_a_stream_begins_with_the_role_and_ends_with_the_mark():
    stream = written("chat", chat(stream=True), TEXTS)
    assert stream.endswith(b"data: [DONE]\n\n")
    assert b"event:" not in stream
    chunks = data_of(stream)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
        assert (chunk["id"], chunk["object"]) == ("chatcmpl-abc123", "chat.completion.chunk")
        assert "usage" not in chunk
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert "".join(delta.get("content", "") for delta in deltas) == TEXT
    assert deltas[-1] == {}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]


def test_usage_comes_last_and_is_null_before():
    chunks = data_of(written("chat", chat(stream=True, stream_options={"include_usage": True}, n=2), TEXTS))
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == USAGE.total_tokens
    assert chunks[-1]["x_cost"] == {"usd": "0.000012"}
    ChatCompletionChunk.model_validate(chunks[-1], strict=True)


def test_tool_calls_stream_id_and_name_once():
    chunks = data_of(written("chat", chat(stream=True, tools=[LOOK]), CALLS, finish="tool_calls"))
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert calls == [
        {"index": 0, "id": "call_abc123_0_0", "type": "function", "function": {"name": "look", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a":'}},
        {"index": 0, "function": {"arguments": "1}"}},
        {"index": 1, "id": "call_given", "type": "function", "function": {"name": "find", "arguments": "{}"}},
    ]


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.text()), st.integers(1, 3), st.booleans())
def test_the_chunks_together_are_the_text(texts, n, include_usage):
    ask = chat(stream=True, n=n, stream_options={"include_usage": include_usage})
    together = [""] * n
    for chunk in data_of(written("chat", ask, [Piece(text) for text in texts])):
        for choice in chunk["choices"]:
            together[choice["index"]] += choice["delta"].get("content") or ""
    assert together == ["".join(texts)] * n


def test_the_sdk_talks_to_it():
    platform = Platform(*TEXTS)
    client = platform.client()
    whole = client.chat.completions.create(model="small", messages=HI)
    assert whole.choices[0].message.content == TEXT
    assert whole.model_extra["x_cost"] == {"usd": "0.000012"}
    assert platform.ask.deadline_s == 600
    with client.chat.completions.stream(
        model="small", messages=HI, stream_options={"include_usage": True}
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == TEXT
    assert final.usage.total_tokens == 15


def test_the_sdk_collects_tool_calls():
    with (
        Platform(*CALLS, finish="tool_calls")
        .client()
        .chat.completions.stream(
            model="small", messages=HI, tools=[LOOK, {**LOOK, "function": {"name": "find"}}]
        ) as stream
    ):
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("look", '{"a":1}'),
        ("find", "{}"),
    ]


def test_the_sdk_raises_what_happens_in_a_stream():
    error = EngineFailed("The engine died.")
    client = Platform(*TEXTS, error=error).client()
    with pytest.raises(openai.APIError, match="The engine died") as raised:
        list(client.chat.completions.create(model="small", messages=HI, stream=True))
    assert (raised.value.type, raised.value.code) == ("server_error", "upstream_failed")


def test_a_token_costs_little():
    it = writer("chat", chat(stream=True))
    piece = Piece(" token")
    best = min(timeit.repeat(lambda: it.piece(0, piece), number=2000, repeat=5)) / 2000
    assert best < 20e-6  # about 1 µs on an idle core; the bound only catches a slow path taken by mistake
