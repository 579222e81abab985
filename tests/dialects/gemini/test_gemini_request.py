from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.dialects.gemini import GEMINI, IGNORED
from underlay.dialects.gemini.fields import camel
from underlay.dialects.gemini.schemas import json_schema
from underlay.dialects.wire import Route
from underlay.domain.errors import BadRequest, CallerError
from underlay.domain.prompt import Ask, Format, Message, Sampling, Tool, ToolCall, ToolChoice

GENERATE = Route("gemini", "generate", model="m")
ROUTES = [
    Route("gemini", name, model="m")
    for name in ("generate", "stream_generate", "count_tokens", "embed", "batch_embed")
]
HI = [{"role": "user", "parts": [{"text": "hi"}]}]
FUNCTION = {
    "name": "f",
    "description": "does f",
    "parameters": {"type": "OBJECT", "properties": {"x": {"type": "STRING"}}},
}


def ask(route: Route = GENERATE, headers: dict[str, str] | None = None, **fields: Any) -> Ask:
    return GEMINI.parse(route, json.dumps(fields).encode(), headers or {})


def config(**fields: Any) -> Ask:
    return ask(contents=HI, generationConfig=fields)


def choice(names: list[str], **calling: Any) -> tuple[ToolChoice, list[str]]:
    tools = [{"functionDeclarations": [{**FUNCTION, "name": name} for name in names]}]
    prompt = ask(contents=HI, tools=tools, toolConfig={"functionCallingConfig": calling}).prompt
    return prompt.tool_choice, [tool.name for tool in prompt.tools]


def test_a_plain_question() -> None:
    plain = ask(contents=HI, headers={"x-server-timeout": "30"})
    assert (plain.stream, plain.deadline_s, plain.ignored) == (False, 30.0, ())
    assert (plain.prompt.model, plain.prompt.operation, plain.prompt.n) == ("m", "chat", 1)
    assert plain.prompt.messages == (Message("user", "hi"),)
    assert ask(Route("gemini", "stream_generate", model="m"), contents=HI).stream


@pytest.mark.parametrize(
    "system", ["Be kind", {"parts": [{"text": "Be kind"}]}, {"role": "user", "parts": [{"text": "Be kind"}]}]
)
@pytest.mark.parametrize("name", ["systemInstruction", "system_instruction"])
def test_system_instruction(name: str, system: Any) -> None:
    prompt = ask(contents=HI, **{name: system}).prompt
    assert prompt.messages == (Message("system", "Be kind"), Message("user", "hi"))


def test_a_conversation_with_functions() -> None:
    contents = [
        {"parts": [{"text": "weather?"}, {"text": "quick"}]},
        {"role": "model", "parts": [
            {"text": "secret", "thought": True},
            {"text": "I look.", "thoughtSignature": "AAAA"},
            {"functionCall": {"name": "f", "args": {"city": "Oslo"}}},
            {"function_call": {"name": "f", "id": "given"}},
            {"functionCall": {"name": "g"}},
        ]},
        {"role": "function", "parts": [{"functionResponse": {"name": "g", "response": {"result": 1}}}]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": "f", "id": "given", "response": {"result": 2}}},
            {"function_response": {"name": "f", "response": {"result": 3}}},
            {"functionResponse": {"name": "h"}},
            {"text": "so?"},
        ]},
        {"role": "model", "parts": [{"text": "It"}]},
        {"role": "model", "parts": [{"text": " rains"}]},
    ]  # fmt: skip
    assert ask(contents=contents).prompt.messages == (
        Message("user", "weather?\nquick"),
        Message(
            "assistant",
            "I look.",
            tool_calls=(
                ToolCall("call_1", "f", '{"city":"Oslo"}'),
                ToolCall("given", "f", "{}"),
                ToolCall("call_3", "g", "{}"),
            ),
        ),
        Message("tool", '{"result":1}', tool_call_id="call_3", name="g"),
        Message("tool", '{"result":2}', tool_call_id="given", name="f"),
        Message("tool", '{"result":3}', tool_call_id="call_1", name="f"),
        Message("tool", "{}", tool_call_id="call_4", name="h"),
        Message("user", "so?"),
        Message("assistant", "It rains"),
    )


def test_sampling_in_either_spelling() -> None:
    camelled = {
        "temperature": 0.5, "topP": 0.9, "topK": 40.0, "maxOutputTokens": 7, "stopSequences": ["x"], "seed": -3,
        "presencePenalty": 1, "frequencyPenalty": -1, "candidateCount": 2, "responseLogprobs": True, "logprobs": 3,
        "responseModalities": ["TEXT"], "responseMimeType": "text/plain",
    }  # fmt: skip
    snaked = {
        "".join("_" + c.lower() if c.isupper() else c for c in name): value for name, value in camelled.items()
    }
    assert {camel(name) for name in snaked} == set(camelled)
    for given_config in (camelled, snaked):
        prompt = config(**given_config).prompt
        assert prompt.n == 2
        assert prompt.format == Format()
        assert prompt.sampling == Sampling(
            max_tokens=7, temperature=0.5, top_p=0.9, top_k=40, seed=-3, presence_penalty=1.0,
            frequency_penalty=-1.0, stop=("x",), logprobs=3,
        )  # fmt: skip
    assert config(responseLogprobs=True).prompt.sampling.logprobs == 0


def test_formats() -> None:
    assert config(responseMimeType="application/json").prompt.format == Format("json_object")
    schema = {
        "type": "OBJECT",
        "properties": {"a": {"type": "INTEGER", "nullable": True}},
        "propertyOrdering": ["a"],
    }
    described = Format("json_schema", {"type": "object", "properties": {"a": {"type": ["integer", "null"]}}})
    assert config(responseMimeType="application/json", responseSchema=schema).prompt.format == described
    exact = {"type": "object", "properties": {"a_b": {"type": "string"}}}
    for name in ("responseJsonSchema", "response_json_schema", "_responseJsonSchema"):
        assert config(**{name: exact}).prompt.format == Format("json_schema", exact)


def test_schemas_become_json_schemas() -> None:
    given_schema = {
        "type": "OBJECT",
        "title": "T",
        "properties": {
            "any_of": {"any_of": [{"type": "STRING"}, {"type": "NUMBER"}], "nullable": True},
            "kind": {"type": "STRING", "format": "enum", "enum": ["a", "b"], "nullable": True},
            "list": {"type": "ARRAY", "min_items": "2", "items": {"type": "BOOLEAN"}, "example": [True]},
            "free": {"type": "TYPE_UNSPECIFIED"},
            "ref": {"ref": "#/$defs/x"},
            "open": {"type": ["STRING", "NULL"], "additional_properties": {"type": "STRING"}},
        },
        "defs": {"x": {"type": "STRING", "format": "date-time"}},
        "required": ["list"],
    }
    assert json_schema(given_schema) == {
        "type": "object",
        "title": "T",
        "properties": {
            "any_of": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
            "kind": {"type": ["string", "null"], "enum": ["a", "b", None]},
            "list": {"type": "array", "minItems": 2, "items": {"type": "boolean"}},
            "free": {},
            "ref": {"$ref": "#/$defs/x"},
            "open": {"type": ["string", "null"], "additionalProperties": {"type": "string"}},
        },
        "$defs": {"x": {"type": "string", "format": "date-time"}},
        "required": ["list"],
    }


def test_tools() -> None:
    exact = {"type": "object", "properties": {"y_z": {"type": "string"}}}
    tools = [
        {"function_declarations": [FUNCTION]},
        {"functionDeclarations": [{"name": "g", "parametersJsonSchema": exact}, {"name": "h"}]},
    ]
    assert ask(contents=HI, tools=tools).prompt.tools == (
        Tool("f", "does f", {"type": "object", "properties": {"x": {"type": "string"}}}),
        Tool("g", "", exact),
        Tool("h", "", {"type": "object", "properties": {}}),
    )


def test_tool_choices() -> None:
    assert choice(["f", "g"], mode="AUTO") == (ToolChoice("auto"), ["f", "g"])
    assert choice(["f", "g"], mode="VALIDATED") == (ToolChoice("auto"), ["f", "g"])
    assert choice(["f", "g"], mode="NONE") == (ToolChoice("none"), ["f", "g"])
    assert choice(["f", "g"], mode="ANY") == (ToolChoice("required"), ["f", "g"])
    assert choice(["f", "g"], mode="ANY", allowedFunctionNames=["g"]) == (ToolChoice("named", "g"), ["f", "g"])
    assert choice(["f", "g", "h"], mode="ANY", allowed_function_names=["f", "h"]) == (
        ToolChoice("required"),
        ["f", "h"],
    )


def test_counting_in_both_forms() -> None:
    route = Route("gemini", "count_tokens", model="m")
    short = ask(route, contents=HI)
    long = ask(route, generateContentRequest={"model": "models/m", "contents": HI, "systemInstruction": "Be kind"})
    assert short.prompt.operation == long.prompt.operation == "count"
    assert long.prompt.messages == (Message("system", "Be kind"), Message("user", "hi"))


def test_embeddings() -> None:
    content = {"parts": [{"text": "a"}, {"text": "b"}]}
    one = ask(Route("gemini", "embed", model="m"), content=content, taskType="RETRIEVAL_QUERY")
    assert (one.prompt.operation, one.prompt.texts, one.ignored) == ("embedding", ("a\nb",), ("taskType",))
    requests = [
        {"model": "models/m", "content": content},
        {"content": {"parts": [{"text": "c"}]}, "embed_content_config": {"title": "t"}},
    ]
    several = ask(Route("gemini", "batch_embed", model="m"), requests=requests)
    assert (several.prompt.texts, several.ignored) == (("a\nb", "c"), ("title",))


def test_what_is_ignored_is_reported() -> None:
    declaration = {**FUNCTION, "behavior": "BLOCKING", "response": {}, "responseJsonSchema": {}}
    given_fields: dict[str, Any] = {
        "contents": HI,
        "safetySettings": [{}],
        "labels": {},
        "store": True,
        "tools": [{"functionDeclarations": [declaration]}],
        "toolConfig": {
            "retrievalConfig": {},
            "includeServerSideToolInvocations": True,
            "functionCallingConfig": {"streamFunctionCallArguments": True},
        },
        "generationConfig": {
            "thinkingConfig": {"thinkingBudget": 0}, "mediaResolution": "LOW", "routingConfig": {},
            "modelSelectionConfig": {}, "enableEnhancedCivicAnswers": True,
        },
    }  # fmt: skip
    embedding = {"taskType", "title", "autoTruncate"}
    assert set(ask(**given_fields).ignored) == set(IGNORED) - embedding
    fields = {"content": HI[0], **dict.fromkeys(embedding, "x")}
    assert set(ask(Route("gemini", "embed", model="m"), **fields).ignored) == embedding
    assert config(brand_new_field=1).ignored == ("generationConfig.brandNewField",)


def of_parts(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": list(parts)}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": [{"role": "user", "parts": []}]}, "contents"),
        ({"contents": "hi"}, "contents"),
        ({"contents": [{"role": "system", "parts": []}]}, "contents[0].role"),
        (of_parts({"text": "a"}, {"inlineData": {}}), "contents[0].parts[1].inlineData"),
        (of_parts({"file_data": {}}), "contents[0].parts[0].fileData"),
        (of_parts({"executableCode": {}}), "contents[0].parts[0].executableCode"),
        (of_parts({"functionCall": {"name": "f"}}), "contents[0].parts[0].functionCall"),
        (of_parts({"functionResponse": {}}), "contents[0].parts[0].functionResponse.name"),
        (of_parts({"functionResponse": {"name": "f", "parts": [1]}}), "contents[0].parts[0].functionResponse.parts"),
        (of_parts({}), "contents[0].parts[0].text"),
        (of_parts({"text": 3}), "contents[0].parts[0].text"),
        ({"contents": HI, "cachedContent": "cachedContents/x"}, "cachedContent"),
        ({"contents": HI, "systemInstruction": {"parts": [{"inlineData": {}}]}}, "systemInstruction.parts[0].inlineData"),
        ({"contents": HI, "tools": [{"googleSearch": {}}]}, "tools[0].googleSearch"),
        ({"contents": HI, "tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
        ({"contents": HI, "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "toolConfig.functionCallingConfig.mode"),
        (
            {"contents": HI, "toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["x"]}}},
            "toolConfig.functionCallingConfig.allowedFunctionNames[0]",
        ),
        ({"contents": HI, "generationConfig": {"responseMimeType": "text/x.enum"}}, "generationConfig.responseMimeType"),
        ({"contents": HI, "generationConfig": {"speechConfig": {}}}, "generationConfig.speechConfig"),
        ({"contents": HI, "generationConfig": {"responseModalities": ["AUDIO"]}}, "generationConfig.responseModalities[0]"),
        ({"contents": HI, "generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
        ({"contents": HI, "generationConfig": {"candidateCount": 9}}, "generationConfig.candidateCount"),
        ({"contents": HI, "generationConfig": {"maxOutputTokens": 0}}, "generationConfig.maxOutputTokens"),
        ({"contents": HI, "generationConfig": {"logprobs": 3}}, "generationConfig.logprobs"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        ask(**fields)
    assert caught.value.param == param
    assert param in caught.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "requests"),
        ({"requests": [{}]}, "requests[0].content"),
        ({"requests": [{"content": {"parts": [{"inlineData": {}}]}}]}, "requests[0].content.parts[0].inlineData"),
        ({"requests": [{"outputDimensionality": 9}]}, "requests[0].outputDimensionality"),
        (
            {"requests": [{"embedContentConfig": {"outputDimensionality": 9}}]},
            "requests[0].embedContentConfig.outputDimensionality",
        ),
    ],
)
def test_embeddings_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        ask(Route("gemini", "batch_embed", model="m"), **fields)
    assert caught.value.param == param


def test_an_unknown_form_of_stream_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        ask(Route("gemini", "stream_generate", model="m", query={"alt": "proto"}), contents=HI)
    assert caught.value.param == "alt"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "role", "parts", "text", "functionCall", "function_response", "thought", "name", "args", "id", "response",
    "tools", "toolConfig", "functionCallingConfig", "mode", "functionDeclarations", "parameters", "type", "nullable",
    "any_of", "enum", "properties", "items", "minItems", "generationConfig", "topK", "responseSchema", "logprobs",
    "content", "embedContentConfig", "_", "a__b_", "systemInstruction", "generateContentRequest",
)  # fmt: skip
likely = st.recursive(
    json_values | st.sampled_from(["user", "model", "OBJECT", "ANY"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.sampled_from(ROUTES),
    st.dictionaries(st.sampled_from(["contents", "requests", "tools", *FIELDS]), likely, max_size=5),
)
def test_any_object_is_understood_or_refused(route: Route, fields: dict[str, Any]) -> None:
    assert understood_or_refused(route, json.dumps(fields).encode())


@given(likely)
def test_any_conversation_is_understood_or_refused(parts: Any) -> None:
    contents = [{"role": "model", "parts": [parts, {"functionCall": parts}]}]
    assert understood_or_refused(GENERATE, json.dumps({"contents": contents}).encode())
    schema = {"contents": HI, "generationConfig": {"responseSchema": parts}}
    assert understood_or_refused(GENERATE, json.dumps(schema).encode())


@given(st.sampled_from(ROUTES), st.binary())
def test_any_bytes_are_understood_or_refused(route: Route, body: bytes) -> None:
    assert understood_or_refused(route, body)


def understood_or_refused(route: Route, body: bytes) -> bool:
    try:
        return isinstance(GEMINI.parse(route, body, {}), Ask)
    except CallerError:
        return True
