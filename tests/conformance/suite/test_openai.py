from __future__ import annotations

import asyncio
import base64
import json
import struct
import time

import openai
import pytest
from common import (
    BUSY,
    CUTS,
    DIMENSIONS,
    KEY,
    KEYS,
    LONELY,
    MODEL,
    MORTAL,
    REMOTE,
    TWICE,
    URL,
    VECTORS,
    call,
    check_energy,
    check_record,
    each,
    entered,
    freed,
    gathered,
    journeys,
    mistyped,
    mortal_again,
    occupied,
    revoke,
    silence,
    trace,
    traced,
    words,
)
from pydantic import BaseModel

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
ARGUMENTS = {"city": "Paris", "days": 21}
NO_ENERGY = {"energy": None}  # it differs from request to request


class Weather(BaseModel):
    city: str
    degrees: int


SCHEMA = {"type": "json_schema", "json_schema": {"name": "weather", "schema": Weather.model_json_schema()}}


def client(api, *, base_url: str = f"{URL}/v1", key: str = KEY, retries: int = 0, **options):
    make = api.either(openai.OpenAI, openai.AsyncOpenAI)
    return api.shared(make, base_url=base_url, api_key=key, max_retries=retries, timeout=30, **options)


def said(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


async def chat(api, text: str, model: str = MODEL, key: str = KEY, **options):
    return await call(client(api, key=key).chat.completions.create, model=model, messages=said(text), **options)


async def streamed(stream) -> str:
    """The text of a chat stream."""
    return "".join([c.choices[0].delta.content or "" async for c in each(stream) if c.choices])


# Models.


async def test_models_list(api):
    """models.list"""
    page = await call(client(api).models.list)
    ids = [model.id for model in page.data]
    assert {MODEL, REMOTE, VECTORS} <= set(ids)
    assert all(model.object == "model" and model.created and model.owned_by for model in page.data)


async def test_models_retrieve(api):
    """models.retrieve"""
    assert (await call(client(api).models.retrieve, MODEL)).id == MODEL


# Chat.


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_chat(api, model):
    """chat.completions.create: text, ids, usage"""
    done = await chat(api, "[[tokens=6]]", model)
    choice = done.choices[0]
    assert (choice.message.content.strip(), choice.message.role) == (words(6), "assistant")
    assert (choice.finish_reason, done.object, done.model) == ("stop", "chat.completion", model)
    assert done.id.startswith("chatcmpl-")
    assert done._request_id.startswith("req_")
    assert abs(done.created - time.time()) < 60
    usage = done.usage
    assert (usage.completion_tokens, usage.total_tokens) == (6, 6 + usage.prompt_tokens)
    assert usage.prompt_tokens > 0
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert float(done.model_extra["x_cost"]["usd"]) > 0


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_chat_stream(api, model):
    """chat.completions.create(stream=True): chunks in order"""
    chunks = await gathered(await chat(api, "[[tokens=20]]", model, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks).strip() == words(20)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks[-2:]] == [None, "stop"]
    assert len({(c.id, c.created, c.model, c.object) for c in chunks}) == 1
    assert chunks[0].object == "chat.completion.chunk"
    assert all(c.usage is None for c in chunks)
    assert len(chunks) >= 20


async def test_chat_stream_usage(api):
    """stream_options.include_usage: one last chunk without choices"""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = await gathered(await chat(api, "[[tokens=6]]", **options))
    whole = await chat(api, "[[tokens=6]]")
    assert [c.usage for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.to_dict() | NO_ENERGY == whole.usage.to_dict() | NO_ENERGY


async def test_chat_stream_helper(api):
    """chat.completions.stream helper"""
    manager = client(api).chat.completions.stream(model=MODEL, messages=said("[[tokens=5]]"))
    async with entered(manager) as stream:
        events = await gathered(stream)
        final = await call(stream.get_final_completion)
    assert final.choices[0].message.content == words(5)
    assert [e.type for e in events if e.type == "content.done"] == ["content.done"]
    assert "".join(e.delta for e in events if e.type == "content.delta") == words(5)


async def test_chat_several(api):
    """n=2, whole and streamed"""
    done = await chat(api, "[[tokens=4]]", n=2)
    assert [(c.index, c.message.content) for c in done.choices] == [(0, words(4)), (1, words(4))]
    assert done.usage.completion_tokens == 8
    texts, ends = {0: "", 1: ""}, {}
    async for chunk in each(await chat(api, "[[tokens=4]]", n=2, stream=True)):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason or ends.get(choice.index)
    assert texts == {0: words(4), 1: words(4)}
    assert ends == {0: "stop", 1: "stop"}


@pytest.mark.parametrize("stop", [" w6", [" w6", "never"]])
async def test_chat_stop(api, stop):
    """stop: a string, several"""
    done = await chat(api, "[[tokens=20]]", stop=stop)
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == (words(5) + " 😀w5", "stop")
    assert await streamed(await chat(api, "[[tokens=20]]", stop=stop, stream=True)) == words(6)


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_chat_limit(api, limit):
    """max_tokens and max_completion_tokens: finish_reason length"""
    done = await chat(api, "[[tokens=20]]", **{limit: 3})
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == (words(3), "length")
    assert done.usage.completion_tokens == 3
    chunks = await gathered(await chat(api, "[[tokens=20]]", stream=True, **{limit: 3}))
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_chat_logprobs(api, model):
    """logprobs and top_logprobs, whole and streamed"""
    done = await chat(api, "[[tokens=3]]", model, logprobs=True, top_logprobs=2)
    entries = done.choices[0].logprobs.content
    assert "".join(e.token for e in entries).strip() == words(3)
    assert all(e.logprob == -0.5 and len(e.top_logprobs) == 2 and e.bytes for e in entries)
    stream = await chat(api, "[[tokens=3]]", model, logprobs=True, top_logprobs=2, stream=True)
    chunks = [c async for c in each(stream) if c.choices and c.choices[0].logprobs]
    assert sum(len(c.choices[0].logprobs.content) for c in chunks) == 3


async def test_chat_parameters(api):
    """sampling parameters, roles, content parts, name, user, metadata"""
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": "Three"},
        {"role": "user", "content": "[[tokens=2]]", "name": "ada"},
    ]
    done = await call(
        client(api).chat.completions.create,
        model=MODEL, messages=messages, temperature=0.5, top_p=0.9, seed=7, presence_penalty=0.1,
        frequency_penalty=0.1, logit_bias={"5": -1}, user="ada", metadata={"a": "b"}, service_tier="auto",
        reasoning_effort="low", store=False, response_format={"type": "text"}, extra_body={"top_k": 40},
    )  # fmt: skip
    assert done.choices[0].message.content == words(2)


async def test_raw_response(api):
    """with_raw_response: x-request-id, rate limits, what it cost"""
    asked = client(api, key=KEYS["metered"]).chat.completions.with_raw_response.create
    raw = await call(asked, model=MODEL, messages=said("[[tokens=2]]"))
    assert raw.headers["x-request-id"].startswith("req_")
    assert float(raw.headers["x-cost-usd"]) > 0
    assert "routing" in raw.headers["server-timing"]
    assert raw.headers["x-ratelimit-limit-requests"] == "1000"
    assert 0 < int(raw.headers["x-ratelimit-remaining-requests"]) < 1_000
    assert raw.headers["x-ratelimit-reset-requests"].endswith("s")
    assert (await call(raw.parse)).choices[0].message.content == words(2)


# Tools.


@pytest.mark.parametrize("model", [MODEL, REMOTE])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
async def test_tools_forced(api, model, choice):
    """tools, forced: required, named"""
    done = await chat(api, "Weather?", model, tools=[TOOL], tool_choice=choice)
    made = done.choices[0].message.tool_calls[0]
    assert done.choices[0].finish_reason == "tool_calls"
    assert (made.type, made.function.name, bool(made.id)) == ("function", "get_weather", True)
    assert json.loads(made.function.arguments) == ARGUMENTS


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_tools_auto(api, model):
    """tools, auto: called, not called, forbidden"""
    done = await chat(api, "[[call=1]]", model, tools=[TOOL])
    assert json.loads(done.choices[0].message.tool_calls[0].function.arguments) == ARGUMENTS
    for options in ({}, {"tool_choice": "none"}):
        done = await chat(api, "[[tokens=3]]", model, tools=[TOOL], **options)
        assert (done.choices[0].message.content.strip(), done.choices[0].message.tool_calls) == (words(3), None)


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_tools_round_trip(api, model):
    """tools: a call, its result, the answer"""
    messages = said("[[call=1]]")
    asked = client(api).chat.completions.create
    first = await call(asked, model=model, messages=messages, tools=[TOOL])
    made = first.choices[0].message
    result = {"role": "tool", "tool_call_id": made.tool_calls[0].id, "content": "21 degrees [[tokens=4]]"}
    second = await call(asked, model=model, messages=[*messages, made, result], tools=[TOOL])
    assert second.choices[0].message.content.strip() == words(4)


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_tools_stream(api, model):
    """tools, streamed: name once, arguments in parts"""
    stream = await chat(api, "[[call=1]]", model, tools=[TOOL], stream=True)
    chunks = [c async for c in each(stream) if c.choices]
    deltas = [d for c in chunks for d in c.choices[0].delta.tool_calls or []]
    assert [d.function.name for d in deltas if d.function.name] == ["get_weather"]
    assert len([d.id for d in deltas if d.id]) == 1
    assert json.loads("".join(d.function.arguments or "" for d in deltas)) == ARGUMENTS
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_tools_stream_helper(api):
    """tools in the stream helper: parsed arguments"""
    strict = {**TOOL, "function": {**TOOL["function"], "strict": True}}
    manager = client(api).chat.completions.stream(model=MODEL, messages=said("[[call=1]]"), tools=[strict])
    async with entered(manager) as stream:
        kinds = [e.type async for e in each(stream)]
        final = await call(stream.get_final_completion)
    assert "tool_calls.function.arguments.done" in kinds
    assert final.choices[0].message.tool_calls[0].function.parsed_arguments == ARGUMENTS


# JSON.


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_json_schema(api, model):
    """chat.completions.parse: response_format json_schema"""
    asked = client(api).chat.completions.parse
    done = await call(asked, model=model, messages=said("Weather?"), response_format=Weather)
    assert done.choices[0].message.parsed == Weather(city="Paris", degrees=21)


async def test_json_schema_stream(api):
    """JSON schema in the stream helper"""
    asked = client(api).chat.completions.stream
    async with entered(asked(model=MODEL, messages=said("Weather?"), response_format=Weather)) as stream:
        final = await call(stream.get_final_completion)
    assert final.choices[0].message.parsed == Weather(city="Paris", degrees=21)


async def test_json_object(api):
    """response_format json_object"""
    done = await chat(api, "Weather?", response_format={"type": "json_object"})
    assert json.loads(done.choices[0].message.content) == {}


# Joules.


async def test_energy(api):
    """usage.energy: chat, completions, responses, whole and streamed; embeddings"""
    sdk, usage = client(api), {"stream": True, "stream_options": {"include_usage": True}}

    async def spoken(**options):
        return await chat(api, "[[tokens=4]]", **options)

    async def completed(**options):
        return await call(sdk.completions.create, model=MODEL, prompt="[[tokens=4]]", **options)

    for ask in (spoken, completed):
        check_energy((await ask()).usage.energy)
        chunks = await gathered(await ask(**usage))
        assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1].choices == []
        assert chunks[-1].usage.energy["joules"] > 0
        assert not [chunk for chunk in await gathered(await ask(stream=True)) if chunk.usage]
    check_energy((await call(sdk.embeddings.create, model=VECTORS, input="abc")).usage.energy)
    respond = sdk.responses.create
    check_energy((await call(respond, model=MODEL, input="[[tokens=4]]")).usage.energy)
    events = await gathered(await call(respond, model=MODEL, input="[[tokens=4]]", stream=True))
    assert events[-1].type == "response.completed"
    energy = events[-1].response.usage.energy
    kept = await call(sdk.responses.retrieve, events[-1].response.id)
    assert kept.usage.energy == energy
    assert energy["joules"] > 0


async def test_energy_record(api):
    """GET /v1/requests/{id}/energy: one's own, nobody else's"""
    sdk = client(api)
    energy = check_energy((await chat(api, "[[tokens=4]]")).usage.energy)
    path = energy["record"].removeprefix("/v1")
    check_record(await call(sdk.get, path, cast_to=object), energy)
    raw = await call(sdk.chat.completions.with_raw_response.create, model=MODEL, messages=said("[[tokens=2]]"))
    assert float(raw.headers["x-underlay-energy-joules"]) == (await call(raw.parse)).usage.energy["joules"]
    for asker, lost in ((client(api, key=KEYS["metered"]), path), (sdk, path.replace("/req_", "/req_0"))):
        with pytest.raises(openai.NotFoundError) as caught:
            await call(asker.get, lost, cast_to=object)
        assert caught.value.param == "request_id"


# Completions, embeddings.


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_completions(api, model):
    """completions.create, whole and streamed"""
    asked = client(api).completions.create
    done = await call(asked, model=model, prompt="[[tokens=5]]", max_tokens=4)
    choice = done.choices[0]
    assert (choice.text.strip(), choice.finish_reason, done.object) == (words(4), "length", "text_completion")
    assert done.usage.completion_tokens == 4
    chunks = await gathered(await call(asked, model=model, prompt="[[tokens=5]]", stream=True))
    assert "".join(c.choices[0].text for c in chunks).strip() == words(5)
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_completions_several(api):
    """completions: several prompts, token ids"""
    asked = client(api).completions.create
    done = await call(asked, model=MODEL, prompt=["[[tokens=2]]", "[[tokens=3]]"])
    assert [c.text.strip() for c in done.choices] == [words(2), words(3)]
    done = await call(asked, model=MODEL, prompt=[1, 2, 3], max_tokens=2)
    assert done.choices[0].text.strip() == words(2)


async def test_embeddings(api):
    """embeddings.create: float, base64, several"""
    asked = client(api).embeddings.create
    wanted = [struct.unpack("f", struct.pack("f", 3 / (d + 1)))[0] for d in range(DIMENSIONS)]
    done = await call(asked, model=VECTORS, input="abc")  # the SDK asks for base64 by itself
    assert done.data[0].embedding == pytest.approx(wanted)
    done = await call(asked, model=VECTORS, input=["abc", "abcdef"], encoding_format="float")
    assert [row.index for row in done.data] == [0, 1]
    assert done.data[0].embedding == pytest.approx(wanted)
    assert (done.usage.prompt_tokens, done.usage.total_tokens) == (9, 9)
    done = await call(asked, model=VECTORS, input="abc", encoding_format="base64")
    assert struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(done.data[0].embedding)) == pytest.approx(wanted)


# Responses.


async def test_responses(api):
    """responses.create: output, usage"""
    asked = client(api).responses.create
    done = await call(asked, model=MODEL, input="[[tokens=4]]", instructions="Be brief.", metadata={"a": "b"})
    assert (done.output_text, done.status, done.object) == (words(4), "completed", "response")
    assert done.id.startswith("resp_")
    usage = done.usage
    assert (usage.output_tokens, usage.total_tokens) == (4, usage.input_tokens + 4)
    assert (usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens) == (0, 0)
    assert (done.instructions, done.metadata) == ("Be brief.", {"a": "b"})
    done = await call(asked, model=MODEL, input="[[tokens=9]]", max_output_tokens=2)
    assert (done.status, done.incomplete_details.reason) == ("incomplete", "max_output_tokens")


async def test_responses_stream(api):
    """responses.create(stream=True): every event, in order"""
    stream = await call(client(api).responses.create, model=MODEL, input="[[tokens=3]]", stream=True)
    events = await gathered(stream)
    kinds = [e.type.removeprefix("response.") for e in events]
    assert [k for k in kinds if k != "output_text.delta"] == [
        "created", "in_progress", "output_item.added", "content_part.added",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert kinds[4:7] == ["output_text.delta"] * 3
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert events[-1].response.output_text == words(3)
    assert events[-1].response.usage.output_tokens == 3
    incomplete = await call(client(api).responses.create, model=MODEL, input="x", max_output_tokens=2, stream=True)
    assert (await gathered(incomplete))[-1].type == "response.incomplete"


async def test_responses_stream_helper(api):
    """responses.stream helper, with a text format"""
    async with entered(client(api).responses.stream(model=MODEL, input="[[tokens=3]]")) as stream:
        assert (await call(stream.get_final_response)).output_text == words(3)
    asked = client(api).responses.stream
    async with entered(asked(model=MODEL, input="Weather?", text_format=Weather)) as stream:
        assert (await call(stream.get_final_response)).output_parsed == Weather(city="Paris", degrees=21)


async def test_responses_parse(api):
    """responses.parse"""
    done = await call(client(api).responses.parse, model=MODEL, input="Weather?", text_format=Weather)
    assert done.output_parsed == Weather(city="Paris", degrees=21)


async def test_responses_stored(api):
    """responses.retrieve, delete, cancel; store=False"""
    responses = client(api).responses
    done = await call(responses.create, model=MODEL, input="[[tokens=2]]")
    assert (await call(responses.retrieve, done.id)).output_text == words(2)
    with pytest.raises(openai.BadRequestError):
        await call(responses.cancel, done.id)
    await call(responses.delete, done.id)
    unkept = await call(responses.create, model=MODEL, input="[[tokens=2]]", store=False)
    for gone in (done.id, unkept.id):
        with pytest.raises(openai.NotFoundError):
            await call(responses.retrieve, gone)


async def test_responses_continued(api):
    """responses: previous_response_id"""
    responses = client(api).responses
    first = await call(responses.create, model=MODEL, input="One. [[tokens=2]]")
    second = await call(responses.create, model=MODEL, input="Two. [[tokens=3]]", previous_response_id=first.id)
    assert second.output_text == words(3)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    stream = await call(
        responses.create, model=MODEL, input="[[tokens=1]]", previous_response_id=second.id, stream=True
    )
    third = (await gathered(stream))[-1].response
    assert third.usage.input_tokens > second.usage.input_tokens
    with pytest.raises(openai.NotFoundError):
        await call(responses.create, model=MODEL, input="x", previous_response_id="resp_none")


async def test_responses_count(api):
    """responses.input_tokens.count: what the response then uses"""
    responses = client(api).responses
    counted = await call(responses.input_tokens.count, model=MODEL, input="Count this.")
    done = await call(responses.create, model=MODEL, input="Count this.", max_output_tokens=1)
    assert counted.input_tokens == done.usage.input_tokens


async def test_responses_tools(api):
    """responses: a function call, its output, the answer; streamed"""
    tool = {"type": "function", **TOOL["function"], "strict": True}
    asked = client(api).responses.create
    first = await call(asked, model=MODEL, input="[[call=1]]", tools=[tool])
    made = first.output[0]
    assert (made.type, made.name, json.loads(made.arguments)) == ("function_call", "get_weather", ARGUMENTS)
    output = {"type": "function_call_output", "call_id": made.call_id, "output": "21 [[tokens=2]]"}
    second = await call(asked, model=MODEL, input=[output], previous_response_id=first.id, tools=[tool])
    assert second.output_text == words(2)
    events = await gathered(await call(asked, model=MODEL, input="[[call=1]]", tools=[tool], stream=True))
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    done = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert json.loads("".join(deltas)) == json.loads(done[0].arguments) == ARGUMENTS
    assert events[-1].response.output[0].name == "get_weather"


# Addresses.


@pytest.mark.parametrize("path", ["/v1", "/v1/", "", "/", "/v1/v1"])
async def test_base_url(api, path):
    """every plausible base URL"""
    done = await call(
        client(api, base_url=URL + path).chat.completions.create, model=MODEL, messages=said("[[tokens=1]]")
    )
    assert done.choices[0].message.content == words(1)
    assert (await call(client(api, base_url=URL + path).models.list)).data


async def test_base_url_environment(api, monkeypatch):
    """OPENAI_BASE_URL and OPENAI_API_KEY"""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{URL}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = api.keep(api.either(openai.OpenAI, openai.AsyncOpenAI)())
    assert (await call(made.models.list)).data


# Errors: each row of the error table that can be provoked.


async def refused(
    kind, asked, *, status: int, code: str | None, retry: str | None = "false"
) -> openai.APIStatusError:
    with pytest.raises(kind) as caught:
        await asked
    error = caught.value
    assert (error.status_code, error.code) == (status, code)
    assert error.request_id.startswith("req_")
    assert error.response.headers.get("x-should-retry") == retry
    return error


async def test_error_bad_field(api):
    """400: a bad field, named"""
    error = await refused(openai.BadRequestError, chat(api, "x", temperature=9), status=400, code=None)
    assert (error.param, error.type) == ("temperature", "invalid_request_error")
    await refused(openai.BadRequestError, chat(api, "x", tools=[{"type": "web"}]), status=400, code=None)


@pytest.mark.parametrize("model", [MODEL, LONELY])
async def test_error_prompt_too_long(api, model):
    """400: a prompt of 2 MB does not fit the context"""
    asked = chat(api, "word " * 400_000, model)
    await refused(openai.BadRequestError, asked, status=400, code="context_length_exceeded")


@pytest.mark.parametrize(
    "key", ["nonsense", mistyped(KEY), KEYS.get("revoked", "")], ids=["none", "mistyped", "revoked"]
)
async def test_error_key(api, key):
    """401: no such key, a mistyped one, a revoked one"""
    await refused(openai.AuthenticationError, chat(api, "x", key=key), status=401, code="invalid_api_key")


async def test_error_model_not_allowed(api):
    """403: the key may not use the model"""
    asked = chat(api, "x", key=KEYS["poor"])
    await refused(openai.PermissionDeniedError, asked, status=403, code="model_not_allowed")


async def test_error_model_unknown(api):
    """404: no such model, no such path"""
    error = await refused(openai.NotFoundError, chat(api, "x", "none"), status=404, code="model_not_found")
    assert error.param == "model"
    asked = call(client(api).models.retrieve, "none")
    await refused(openai.NotFoundError, asked, status=404, code="model_not_found")
    asked = call(client(api).post, "/nothing", cast_to=object, body={})
    await refused(openai.NotFoundError, asked, status=404, code="not_found")


async def test_error_body_too_large(api):
    """413: the body is too large"""
    asked = chat(api, "x" * 5_000_000)
    await refused(openai.APIStatusError, asked, status=413, code="body_too_large")


async def test_error_rate(api):
    """429: the key's rate, with retry-after"""
    limited = {"status": 429, "code": "rate_limit_exceeded", "retry": None}
    with pytest.raises(openai.RateLimitError):
        for _ in range(2):
            await chat(api, "[[tokens=1]]", key=KEYS["rare"])
    error = await refused(openai.RateLimitError, chat(api, "x", key=KEYS["rare"]), **limited)
    assert error.type == "rate_limit_error"
    assert 0 < int(error.response.headers["retry-after"]) <= 60
    assert int(error.response.headers["retry-after-ms"]) <= 60_000


async def test_error_concurrency(api):
    """429: too many requests of the key are open"""
    with occupied(BUSY, KEYS["single"]):
        asked = chat(api, "x", key=KEYS["single"])
        error = await refused(openai.RateLimitError, asked, status=429, code="rate_limit_exceeded", retry=None)
        assert error.response.headers["retry-after"] == "1"


async def test_error_engine(api):
    """502: every engine failed"""
    for stream in (False, True):
        asked = chat(api, "[[status=500]]", stream=stream)
        await refused(openai.InternalServerError, asked, status=502, code="upstream_failed", retry="true")


async def test_error_overloaded(api):
    """503: the platform is full"""
    with occupied(BUSY, waiting=1):
        asked = chat(api, "x", BUSY)
        error = await refused(
            openai.InternalServerError, asked, status=503, code="server_is_overloaded", retry="true"
        )
        assert error.response.headers["retry-after-ms"] == "1000"


async def test_error_deadline(api):
    """504: the caller's patience ended in the queue"""
    with occupied(BUSY):
        asked = chat(api, "x", BUSY, extra_headers={"x-stainless-read-timeout": "0.4"})
        await refused(openai.InternalServerError, asked, status=504, code="deadline_exceeded")


# Retries.


async def attempts(api, text: str, model: str = MODEL, key: str = KEY, expected: int = 1) -> int:
    mark = trace()
    patient = client(api, key=key, retries=1, default_headers=traced(mark))
    with pytest.raises(openai.APIStatusError):
        await call(patient.chat.completions.create, model=model, messages=said(text))
    return len(journeys(mark, expected))


async def test_retries(api):
    """SDK retries: where it helps, and only there"""
    assert await attempts(api, "[[status=500]]", expected=2) == 2
    assert await attempts(api, "x", key=KEYS["poor"]) == 1
    assert await attempts(api, "x", "none") == 1
    with occupied(BUSY, waiting=1):
        assert await attempts(api, "x", BUSY, expected=2) == 2


# What goes wrong in mid-stream.


@pytest.mark.parametrize("fault", CUTS)
async def test_failover(api, fault):
    """an engine breaks in mid-stream, another goes on: the answer is whole"""
    stream = await chat(api, f"[[tokens=12 {fault}=3]]", stream=True)
    assert await streamed(stream) == words(12)


@pytest.mark.parametrize("faults", TWICE)
async def test_broken_stream(api, faults):
    """engines break in mid-stream, nobody can go on: an exception, never a clean end"""
    stream = await chat(api, f"[[tokens=12 {faults}]]", stream=True)
    with pytest.raises(openai.APIError) as caught:
        await streamed(stream)
    assert caught.value.code == "upstream_failed"


@pytest.mark.parametrize("fault", CUTS)
async def test_broken_json(api, fault):
    """an engine breaks in mid-JSON, which no other can go on with: an exception"""
    stream = await chat(api, f"[[{fault}=2]]", stream=True, response_format=SCHEMA)
    with pytest.raises(openai.APIError):
        await streamed(stream)


async def test_broken_response(api):
    """engines break in mid-response: response.failed, then an exception"""
    stream = await call(client(api).responses.create, model=MODEL, input=f"[[{TWICE[0]}]]", stream=True)
    events = []
    with pytest.raises(Exception, match=r"."):
        [events.append(event) async for event in each(stream)]
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "server_error"


async def test_killed_engine(api):
    """an engine is killed in mid-stream, nobody can go on: an exception"""
    mortal_again()
    stream = await chat(api, "[[die=2]]", MORTAL, stream=True, response_format=SCHEMA)
    with pytest.raises(openai.APIError):
        await streamed(stream)


async def test_hanging_engine(api):
    """an engine falls silent in mid-stream: another goes on"""
    assert await streamed(await chat(api, "[[tokens=8 hang=3]]", stream=True)) == words(8)


async def test_revoked_in_stream(api):
    """a key is revoked in mid-stream: an exception"""
    secret, key_id = KEYS["doomed"][api.is_async]
    stream = await chat(api, "[[tokens=2000 itl=20]]", key=secret, stream=True)
    received = each(stream)
    await received.__anext__()
    revoke(key_id)
    with pytest.raises(openai.APIError) as caught:
        await gathered(stream)
    assert caught.value.code == "invalid_api_key"


# Silence, leaving, crowds.


async def test_silence(api):
    """silences and their keep-alives, before the first token and between tokens"""
    blank = silence("[[tokens=1 ttft=900]]")
    assert blank
    assert set(blank) == {b"\n"}
    stream = await chat(api, "[[tokens=3 ttft=600 itl=300]]", stream=True)
    chunks = await gathered(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == words(3)
    events = await gathered(
        await call(client(api).responses.create, model=MODEL, input="[[tokens=1 ttft=600]]", stream=True)
    )
    assert events[-1].type == "response.completed"


async def test_abort(api):
    """the caller leaves at token 5: slot free, billed what was produced"""
    mark = trace()
    stream = await chat(api, "[[tokens=2000 itl=10]]", BUSY, stream=True, extra_headers=traced(mark))
    received = each(stream)
    for _ in range(6):  # the role, and five tokens
        await received.__anext__()
    await call(stream.close)
    await freed(api, BUSY)
    journey = journeys(mark)[0]
    assert (journey["outcome"], journey["status"]) == ("client_gone", 200)
    assert 5 <= journey["usage"]["completion_tokens"] < 60


async def test_crowd(api):
    """32 streams at a time"""
    if not api.is_async:
        pytest.skip("one thread, one stream")
    made = client(api)

    async def one(count: int) -> bool:
        stream = await made.chat.completions.create(
            model=MODEL, messages=said(f"[[tokens={count} itl=5]]"), stream=True
        )
        return await streamed(stream) == words(count)

    assert all(await asyncio.gather(*(one(20 + n) for n in range(32))))
