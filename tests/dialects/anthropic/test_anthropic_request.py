from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.dialects.anthropic import ANTHROPIC, IGNORED
from underlay.dialects.wire import Route
from underlay.domain.errors import BadRequest, CallerError
from underlay.domain.prompt import Ask, Format, Message, Sampling, Tool, ToolCall, ToolChoice

MESSAGES = Route("anthropic", "messages")
COUNT = Route("anthropic", "count_tokens")
BASE = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
TOOL = {"name": "f", "description": "does f", "input_schema": {"type": "object"}}


def ask(route: Route = MESSAGES, headers: dict[str, str] | None = None, **fields: Any) -> Ask:
    return ANTHROPIC.parse(route, json.dumps({**BASE, **fields}).encode(), headers or {})


def refused(**fields: Any) -> str | None:
    with pytest.raises(BadRequest) as caught:
        ask(**fields)
    assert caught.value.param is not None
    assert caught.value.param in caught.value.message
    return caught.value.param


def user(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


def test_a_plain_question() -> None:
    plain = ask(stream=True)
    assert plain.stream
    assert plain.ignored == ()
    assert plain.deadline_s is None
    assert plain.prompt.operation == "chat"
    assert plain.prompt.messages == (Message("user", "hi"),)
    assert plain.prompt.sampling == Sampling(max_tokens=9)


def test_system_prompt_and_sampling() -> None:
    prompt = ask(
        system=[{"type": "text", "text": "Be"}, {"type": "text", "text": "kind"}],
        temperature=1.5,
        top_p=0.5,
        top_k=3,
        stop_sequences=["a", "b"],
    ).prompt
    assert prompt.messages[0] == Message("system", "Be\nkind")
    assert prompt.sampling == Sampling(max_tokens=9, temperature=1.5, top_p=0.5, top_k=3, stop=("a", "b"))
    assert ask(system="Be kind").prompt.messages[0] == Message("system", "Be kind")


def test_a_conversation_with_tools_and_a_prefill() -> None:
    messages = [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "toolu_2", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "rain"}]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no city", "is_error": True},
                {"type": "tool_result", "tool_use_id": "toolu_3"},
                {"type": "text", "text": "so?"},
            ],
        },
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": "It is"},
    ]
    assert ask(messages=messages).prompt.messages == (
        Message("user", "weather?"),
        Message(
            "assistant",
            "I look.",
            tool_calls=(ToolCall("toolu_1", "f", '{"city":"Oslo"}'), ToolCall("toolu_2", "f", "{}")),
        ),
        Message("tool", "rain", tool_call_id="toolu_1"),
        Message("tool", "Error: no city", tool_call_id="toolu_2"),
        Message("tool", "", tool_call_id="toolu_3"),
        Message("user", "so?\nand?"),
        Message("assistant", "It is"),
    )


def test_tools_and_choices() -> None:
    prompt = ask(tools=[TOOL, {**TOOL, "type": "custom", "name": "g"}]).prompt
    assert prompt.tools == (Tool("f", "does f", {"type": "object"}), Tool("g", "does f", {"type": "object"}))
    assert (prompt.tool_choice, prompt.parallel_tool_calls) == (ToolChoice("auto"), True)
    for given_choice, choice in [
        ({"type": "auto"}, ToolChoice("auto")),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "tool", "name": "f"}, ToolChoice("named", "f")),
    ]:
        prompt = ask(tools=[TOOL], tool_choice={**given_choice, "disable_parallel_tool_use": True}).prompt
        assert (prompt.tool_choice, prompt.parallel_tool_calls) == (choice, False)


def test_json_schema_in_either_place() -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object"}}
    expected = Format("json_schema", {"type": "object"})
    assert ask(output_config={"format": wanted}).prompt.format == expected
    assert ask(output_format=wanted).prompt.format == expected


def test_counting_needs_no_limit() -> None:
    counted = ANTHROPIC.parse(COUNT, json.dumps({"model": "m", "messages": BASE["messages"]}).encode(), {})
    assert counted.prompt.operation == "count"
    assert not counted.stream


def test_deadline() -> None:
    for said, heard in [("12.5", 12.5), ("1e9", 86_400.0), ("-1", None), ("nan", None), ("soon", None)]:
        assert ask(headers={"x-stainless-read-timeout": said}).deadline_s == heard


def test_what_is_ignored_is_reported() -> None:
    fields: dict[str, Any] = {
        "speed": "fast",
        "diagnostics": {},
        "cache_control": {"type": "ephemeral"},
        "context_management": {},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "low"},
        "mcp_servers": [],
        "user_profile_id": "u",
        "workspace_id": "w",
        "tools": [{**TOOL, "strict": True, "cache_control": {}, "defer_loading": True, "input_examples": [],
                   "allowed_callers": [], "eager_input_streaming": True}],
        "messages": user({"type": "text", "text": "x", "cache_control": {"type": "e"}, "citations": [{}]}),
    }  # fmt: skip
    assert set(ask(**fields).ignored) == set(IGNORED)
    assert ask(thinking={"type": "disabled"}).ignored == ()
    assert ask(brand_new_field=1).ignored == ("brand_new_field",)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": user({"type": "text"})}, "messages[0].content[0].text"),
        ({"messages": user({"type": "text", "text": "a"}, {"type": "image"})}, "messages[0].content[1]"),
        ({"messages": user({"type": "document"})}, "messages[0].content[0]"),
        ({"messages": user({"type": "tool_use"})}, "messages[0].content[0]"),
        (
            {"messages": user({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]})},
            "messages[0].content[0].content[0]",
        ),
        ({"messages": user({"type": "tool_result"})}, "messages[0].content[0].tool_use_id"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "i", "name": "n", "input": 3}]}]},
         "messages[0].content[0].input"),
        ({"system": 3}, "system"),
        ({"system": [{"type": "image"}]}, "system[0]"),
        ({"temperature": 2.1}, "temperature"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"stream": "yes"}, "stream"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{"type": "web_search_20260209", "name": "w"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"container": "c"}, "container"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"mcp_servers": [{"url": "http://x"}]}, "mcp_servers"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields) == param


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
blocks = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "tool_use", "tool_result", "thinking", "image"]) | json_values,
        "text": json_values,
        "id": json_values,
        "name": json_values,
        "input": json_values,
        "content": json_values,
        "tool_use_id": st.text(max_size=3),
        "is_error": json_values,
    },
)
requests = st.fixed_dictionaries(
    {
        "model": st.just("m") | json_values,
        "max_tokens": st.just(3) | json_values,
        "messages": json_values
        | st.lists(
            st.fixed_dictionaries(
                {
                    "role": st.sampled_from(["user", "assistant", "system"]),
                    "content": st.lists(blocks) | json_values,
                }
            )
        ),
    },
    optional=dict.fromkeys(
        ("system", "tools", "tool_choice", "output_config", "thinking", "mcp_servers", "inference_geo"), json_values
    ),
)


@given(requests)
def test_any_object_is_understood_or_refused(fields: dict[str, Any]) -> None:
    assert understood_or_refused(json.dumps(fields).encode())


@given(st.binary())
def test_any_bytes_are_understood_or_refused(body: bytes) -> None:
    assert understood_or_refused(body)


def understood_or_refused(body: bytes) -> bool:
    try:
        return isinstance(ANTHROPIC.parse(MESSAGES, body, {}), Ask)
    except CallerError:
        return True
