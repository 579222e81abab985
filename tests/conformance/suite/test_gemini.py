from __future__ import annotations

import asyncio
import json

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
    freed,
    gathered,
    get,
    journeys,
    mistyped,
    mortal_again,
    occupied,
    post,
    revoke,
    trace,
    traced,
    words,
)
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

PARAMETERS = {
    "type": "OBJECT",
    "properties": {"city": {"type": "STRING"}, "days": {"type": "INTEGER"}},
    "required": ["city", "days"],
}
TOOL = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(name="get_weather", description="The weather in a city.", parameters=PARAMETERS)
    ]
)
ARGUMENTS = {"city": "Paris", "days": 21}


class Weather(BaseModel):
    city: str
    degrees: int


JSON = {"response_mime_type": "application/json", "response_schema": Weather}


def client(api, *, base_url: str = URL, key: str = KEY, timeout: int | None = 30_000, **options):
    """The client; its asynchronous half if that is how the case calls."""
    http_options = types.HttpOptions(base_url=base_url, timeout=timeout, **options)
    return api.shared(api.either(genai.Client, asynchronous_client), api_key=key, http_options=http_options)


def asynchronous_client(**options):
    return genai.Client(**options).aio


def config(**options) -> types.GenerateContentConfig:
    off = types.AutomaticFunctionCallingConfig(disable=True)
    return types.GenerateContentConfig(automatic_function_calling=off, **options)


async def ask(api, text, model: str = MODEL, key: str = KEY, **options):
    asked = client(api, key=key).models.generate_content
    return await call(asked, model=model, contents=text, config=config(**options))


async def stream_of(api, text, model: str = MODEL, key: str = KEY, **options):
    asked = client(api, key=key).models.generate_content_stream
    return await call(asked, model=model, contents=text, config=config(**options))


async def streamed(stream) -> str:
    return "".join([chunk.text or "" async for chunk in each(stream)])


# Models.


async def test_models_list(api):
    """models.list, page by page"""
    listed = await call(client(api).models.list, config={"page_size": 2})
    assert len(listed.page) == 2
    names = [model.name async for model in each(listed)]
    assert {f"models/{MODEL}", f"models/{REMOTE}"} <= set(names)


@pytest.mark.parametrize("name", [MODEL, f"models/{MODEL}"])
async def test_models_get(api, name):
    """models.get"""
    found = await call(client(api).models.get, model=name)
    assert (found.name, found.input_token_limit > 0) == (f"models/{MODEL}", True)
    assert "generateContent" in found.supported_actions


# Content.


@pytest.mark.parametrize("model", [MODEL, REMOTE, f"models/{MODEL}"])
async def test_generate(api, model):
    """generate_content: text, ids, usage"""
    done = await ask(api, "[[tokens=6]]", model)
    assert done.text.strip() == words(6)
    candidate = done.candidates[0]
    assert (candidate.finish_reason, candidate.content.role) == (types.FinishReason.STOP, "model")
    assert (done.model_version, bool(done.response_id)) == (model.removeprefix("models/"), True)
    usage = done.usage_metadata
    assert (usage.candidates_token_count, usage.total_token_count) == (6, 6 + usage.prompt_token_count)
    headers = {name.lower(): value for name, value in done.sdk_http_response.headers.items()}
    assert headers["x-request-id"].startswith("req_")
    assert float(headers["x-cost-usd"]) > 0


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_generate_stream(api, model):
    """generate_content_stream: chunks, the last with reason and usage"""
    chunks = await gathered(await stream_of(api, "[[tokens=20]]", model))
    assert "".join(c.text or "" for c in chunks).strip() == words(20)
    assert len(chunks) >= 20
    assert [c.candidates[0].finish_reason for c in chunks[-2:]] == [None, types.FinishReason.STOP]
    assert chunks[-1].usage_metadata.candidates_token_count == 20
    assert len({c.response_id for c in chunks}) == 1


async def test_chat(api):
    """chats: send_message, send_message_stream, history"""
    talk = client(api).chats.create(model=MODEL)
    first = await call(talk.send_message, "One. [[tokens=3]]")
    assert first.text == words(3)
    assert await streamed(await call(talk.send_message_stream, "Two. [[tokens=4]]")) == words(4)
    history = talk.get_history(curated=True)
    assert history[0].role == "user"
    assert history[-1].role == "model"
    third = await call(talk.send_message, "Three. [[tokens=1]]")
    assert third.usage_metadata.prompt_token_count > first.usage_metadata.prompt_token_count


async def test_candidates(api):
    """candidate_count=2, whole and streamed"""
    done = await ask(api, "[[tokens=4]]", candidate_count=2)
    assert [(c.index, c.content.parts[0].text) for c in done.candidates] == [(0, words(4)), (1, words(4))]
    texts = {0: "", 1: ""}
    async for chunk in each(await stream_of(api, "[[tokens=4]]", candidate_count=2)):
        for candidate in chunk.candidates or []:
            texts[candidate.index or 0] += "".join(part.text or "" for part in candidate.content.parts)
    assert texts == {0: words(4), 1: words(4)}


async def test_stop(api):
    """stop_sequences"""
    assert (await ask(api, "[[tokens=20]]", stop_sequences=["never", " w6"])).text == words(6)


async def test_limit(api):
    """max_output_tokens: finish reason MAX_TOKENS"""
    done = await ask(api, "[[tokens=20]]", max_output_tokens=3)
    assert (done.text, done.candidates[0].finish_reason) == (words(3), types.FinishReason.MAX_TOKENS)


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_logprobs(api, model):
    """response_logprobs"""
    done = await ask(api, "[[tokens=3]]", model, response_logprobs=True, logprobs=2)
    found = done.candidates[0].logprobs_result
    assert [c.log_probability for c in found.chosen_candidates] == [-0.5] * 3
    assert [len(top.candidates) for top in found.top_candidates] == [2, 2, 2]


async def test_parameters(api):
    """system_instruction, roles, parts, sampling, safety, thinking"""
    contents = [
        types.Content(role="user", parts=[types.Part(text="One."), types.Part(text="Two.")]),
        types.Content(role="model", parts=[types.Part(text="Three.")]),
        types.Content(role="user", parts=[types.Part(text="[[tokens=2]]")]),
    ]
    safety = types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_NONE")
    done = await ask(
        api, contents, system_instruction="Be brief.", temperature=0.5, top_p=0.9, top_k=40, seed=7,
        presence_penalty=0.1, frequency_penalty=0.1, safety_settings=[safety],
        thinking_config=types.ThinkingConfig(thinking_budget=0),
    )  # fmt: skip
    assert done.text == words(2)


async def test_count(api):
    """models.count_tokens: what the answer then uses"""
    counted = await call(client(api).models.count_tokens, model=MODEL, contents="Count this.")
    done = await ask(api, "Count this.", max_output_tokens=1)
    assert counted.total_tokens == done.usage_metadata.prompt_token_count


async def test_embed(api):
    """models.embed_content: one text, several"""
    asked = client(api).models.embed_content
    wanted = [3 / (d + 1) for d in range(DIMENSIONS)]
    done = await call(asked, model=VECTORS, contents="abc")
    assert done.embeddings[0].values == pytest.approx(wanted)
    done = await call(asked, model=VECTORS, contents=["abc", "abcdef"])
    assert [len(e.values) for e in done.embeddings] == [DIMENSIONS, DIMENSIONS]
    assert done.embeddings[1].values[0] == 6


# Joules.


async def test_energy(api):
    """energy of usageMetadata: passed over by the client, told in a header; GET /v1/requests/{id}/energy"""
    done = await ask(api, "[[tokens=4]]")
    assert said_joules(done) > 0
    assert not hasattr(done.usage_metadata, "energy")  # it leaves out what it does not know
    assert said_joules(await call(client(api).models.embed_content, model=VECTORS, contents="abc")) > 0
    last = (await gathered(await stream_of(api, "[[tokens=4]]")))[-1]
    for receipt in (done.response_id, last.response_id):
        record = get(f"/v1beta/requests/req_{receipt}/energy", {"x-goog-api-key": KEY})
        check_record(record, {"receipt": f"req_{receipt}"})
    body = {"contents": [{"parts": [{"text": "[[tokens=4]]"}]}]}
    raw = post(f"/v1beta/models/{MODEL}:generateContent", body, {"x-goog-api-key": KEY})
    check_energy(raw["usageMetadata"]["energy"])


def said_joules(answer) -> float | None:
    headers = {name.lower(): value for name, value in answer.sdk_http_response.headers.items()}
    told = headers.get("x-underlay-energy-joules")
    return None if told is None else float(told)


# Tools.


@pytest.mark.parametrize("model", [MODEL, REMOTE])
@pytest.mark.parametrize("allowed", [None, ["get_weather"]])
async def test_tools_forced(api, model, allowed):
    """tools, forced: mode ANY, with and without allowed names"""
    calling = types.FunctionCallingConfig(mode="ANY", allowed_function_names=allowed)
    options = {"tools": [TOOL], "tool_config": types.ToolConfig(function_calling_config=calling)}
    done = await ask(api, "Weather?", model, **options)
    assert [(c.name, c.args) for c in done.function_calls] == [("get_weather", ARGUMENTS)]


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_tools_auto(api, model):
    """tools, auto: called, not called, forbidden"""
    assert (await ask(api, "[[call=1]]", model, tools=[TOOL])).function_calls[0].args == ARGUMENTS
    never = types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="NONE"))
    for options in ({}, {"tool_config": never}):
        done = await ask(api, "[[tokens=3]]", model, tools=[TOOL], **options)
        assert (done.text.strip(), done.function_calls) == (words(3), None)


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_tools_round_trip(api, model):
    """tools: a call, its response, the answer"""
    first = await ask(api, "[[call=1]]", model, tools=[TOOL])
    answer = types.Part.from_function_response(name="get_weather", response={"degrees": "21 [[tokens=4]]"})
    contents = [
        types.Content(role="user", parts=[types.Part(text="[[call=1]]")]),
        first.candidates[0].content,
        types.Content(role="user", parts=[answer]),
    ]
    assert (await ask(api, contents, model, tools=[TOOL])).text.strip() == words(4)


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_tools_stream(api, model):
    """tools, streamed"""
    chunks = await gathered(await stream_of(api, "[[call=1]]", model, tools=[TOOL]))
    made = [c for chunk in chunks for c in chunk.function_calls or []]
    assert [(c.name, c.args) for c in made] == [("get_weather", ARGUMENTS)]


async def test_tools_automatic(api):
    """automatic function calling: the SDK runs a Python function"""

    def get_weather(city: str, days: int) -> str:
        """Tell the weather in a city."""
        return f"{city} in {days} days: fine [[tokens=4]]"

    asked = client(api).models.generate_content
    done = await call(asked, model=MODEL, contents="[[call=1]]", config={"tools": [get_weather]})
    assert done.text == words(4)
    called = [p.function_call for c in done.automatic_function_calling_history for p in c.parts if p.function_call]
    assert [(c.name, c.args) for c in called] == [("get_weather", ARGUMENTS)]


@pytest.mark.parametrize("schema", [Weather, "json_schema"])
async def test_json_schema(api, schema):
    """response_schema and response_json_schema"""
    options = {"response_mime_type": "application/json"}
    if schema == "json_schema":
        done = await ask(api, "Weather?", response_json_schema=Weather.model_json_schema(), **options)
    else:
        done = await ask(api, "Weather?", response_schema=Weather, **options)
        assert done.parsed == Weather(city="Paris", degrees=21)
    assert json.loads(done.text) == {"city": "Paris", "degrees": 21}


# Addresses.


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1beta"])
async def test_base_url(api, path):
    """every plausible base URL"""
    made = client(api, base_url=URL + path)
    done = await call(made.models.generate_content, model=MODEL, contents="[[tokens=1]]")
    assert done.text == words(1)
    assert (await call(made.models.list)).page


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
async def test_api_version(api, version):
    """every API version"""
    made = client(api, api_version=version)
    assert (await call(made.models.generate_content, model=MODEL, contents="[[tokens=1]]")).text == words(1)
    assert (await call(made.models.get, model=MODEL)).name == f"models/{MODEL}"


async def test_base_url_environment(api, monkeypatch):
    """GOOGLE_GEMINI_BASE_URL and GEMINI_API_KEY"""
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", URL)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    made = genai.Client()
    made = api.keep(made.aio if api.is_async else made)
    assert (await call(made.models.list)).page


# Errors: each row of the error table that can be provoked.


async def refused(kind, asked, *, code: int, status: str, reason: str):
    with pytest.raises(kind) as caught:
        await asked
    error = caught.value
    assert (error.code, error.status) == (code, status)
    info = next(d for d in error.details["error"]["details"] if d["@type"].endswith("ErrorInfo"))
    assert info["reason"] == reason
    assert info["metadata"]["requestId"].startswith("req_")
    return error


async def test_error_bad_field(api):
    """400: a bad field, named"""
    asked = ask(api, "x", temperature=9)
    error = await refused(errors.ClientError, asked, code=400, status="INVALID_ARGUMENT", reason="BAD_REQUEST")
    violation = next(d for d in error.details["error"]["details"] if d["@type"].endswith("BadRequest"))
    assert violation["fieldViolations"][0]["field"] == "generationConfig.temperature"


@pytest.mark.parametrize("model", [MODEL, LONELY])
async def test_error_prompt_too_long(api, model):
    """400: a prompt of 2 MB does not fit the context"""
    asked = ask(api, "word " * 400_000, model)
    reason = "CONTEXT_LENGTH_EXCEEDED"
    await refused(errors.ClientError, asked, code=400, status="INVALID_ARGUMENT", reason=reason)


@pytest.mark.parametrize(
    "key", ["nonsense", mistyped(KEY), KEYS.get("revoked", "")], ids=["none", "mistyped", "revoked"]
)
async def test_error_key(api, key):
    """401: no such key, a mistyped one, a revoked one"""
    asked = ask(api, "x", key=key)
    await refused(errors.ClientError, asked, code=401, status="UNAUTHENTICATED", reason="API_KEY_INVALID")


async def test_error_model_not_allowed(api):
    """403: the key may not use the model"""
    asked = ask(api, "x", key=KEYS["poor"])
    await refused(errors.ClientError, asked, code=403, status="PERMISSION_DENIED", reason="MODEL_NOT_ALLOWED")


async def test_error_model_unknown(api):
    """404: no such model"""
    for asked in (ask(api, "x", "none"), call(client(api).models.get, model="none")):
        await refused(errors.ClientError, asked, code=404, status="NOT_FOUND", reason="MODEL_NOT_FOUND")


async def test_error_body_too_large(api):
    """413: the body is too large"""
    asked = ask(api, "x" * 5_000_000)
    await refused(errors.ClientError, asked, code=413, status="INVALID_ARGUMENT", reason="BODY_TOO_LARGE")


async def test_error_rate(api):
    """429: the key's rate, with RetryInfo"""
    with pytest.raises(errors.ClientError):
        for _ in range(2):
            await ask(api, "[[tokens=1]]", key=KEYS["rare"])
    limited = {"code": 429, "status": "RESOURCE_EXHAUSTED", "reason": "RATE_LIMIT_EXCEEDED"}
    error = await refused(errors.ClientError, ask(api, "x", key=KEYS["rare"]), **limited)
    retry = next(d for d in error.details["error"]["details"] if d["@type"].endswith("RetryInfo"))
    assert 0 < float(retry["retryDelay"].removesuffix("s")) <= 60


async def test_error_concurrency(api):
    """429: too many requests of the key are open"""
    limited = {"code": 429, "status": "RESOURCE_EXHAUSTED", "reason": "RATE_LIMIT_EXCEEDED"}
    with occupied(BUSY, KEYS["single"]):
        await refused(errors.ClientError, ask(api, "x", key=KEYS["single"]), **limited)


async def test_error_engine(api):
    """503: every engine failed"""
    failed = {"code": 503, "status": "UNAVAILABLE", "reason": "UPSTREAM_FAILED"}
    await refused(errors.ServerError, ask(api, "[[status=500]]"), **failed)

    async def stream():
        return await gathered(await stream_of(api, "[[status=500]]"))

    await refused(errors.ServerError, stream(), **failed)


async def test_error_overloaded(api):
    """503: the platform is full"""
    with occupied(BUSY, waiting=1):
        asked = ask(api, "x", BUSY)
        await refused(errors.ServerError, asked, code=503, status="UNAVAILABLE", reason="OVERLOADED")


async def test_error_deadline(api):
    """504: the caller's patience ended in the queue"""
    with occupied(BUSY):
        made = client(api, timeout=None, headers={"x-server-timeout": "0.4"})
        asked = call(made.models.generate_content, model=BUSY, contents="x")
        await refused(errors.ServerError, asked, code=504, status="DEADLINE_EXCEEDED", reason="DEADLINE_EXCEEDED")


# Retries.


async def attempts(api, text: str, model: str = MODEL, key: str = KEY, expected: int = 1, **options) -> int:
    mark = trace()
    made = client(api, key=key, headers=traced(mark), **options)
    with pytest.raises(errors.APIError):
        await call(made.models.generate_content, model=model, contents=text)
    return len(journeys(mark, expected))


async def test_retries(api):
    """SDK retries: none by itself; where it helps if the user wants them"""
    wanted = {"retry_options": types.HttpRetryOptions(attempts=2, initial_delay=0.1, max_delay=0.2)}
    assert await attempts(api, "[[status=500]]") == 1
    assert await attempts(api, "[[status=500]]", expected=2, **wanted) == 2
    assert await attempts(api, "x", key=KEYS["poor"], **wanted) == 1


# What goes wrong in mid-stream.


@pytest.mark.parametrize("fault", CUTS)
async def test_failover(api, fault):
    """an engine breaks in mid-stream, another goes on: the answer is whole"""
    assert await streamed(await stream_of(api, f"[[tokens=12 {fault}=3]]")) == words(12)


@pytest.mark.parametrize("faults", TWICE)
async def test_broken_stream(api, faults):
    """engines break in mid-stream, nobody can go on: an exception, never a clean end"""
    with pytest.raises(errors.ServerError) as caught:
        await streamed(await stream_of(api, f"[[tokens=12 {faults}]]"))
    assert caught.value.status == "UNAVAILABLE"


@pytest.mark.parametrize("fault", CUTS)
async def test_broken_json(api, fault):
    """an engine breaks in mid-JSON, which no other can go on with: an exception"""
    with pytest.raises(errors.ServerError):
        await streamed(await stream_of(api, f"[[{fault}=2]]", **JSON))


async def test_killed_engine(api):
    """an engine is killed in mid-stream, nobody can go on: an exception"""
    mortal_again()
    with pytest.raises(errors.ServerError):
        await streamed(await stream_of(api, "[[die=2]]", MORTAL, **JSON))


async def test_hanging_engine(api):
    """an engine falls silent in mid-stream: another goes on"""
    assert await streamed(await stream_of(api, "[[tokens=8 hang=3]]")) == words(8)


async def test_revoked_in_stream(api):
    """a key is revoked in mid-stream: an exception"""
    secret, key_id = KEYS["doomed"][api.is_async]
    stream = await stream_of(api, "[[tokens=2000 itl=20]]", key=secret)
    await each(stream).__anext__()
    revoke(key_id)
    with pytest.raises(errors.ClientError) as caught:
        await gathered(stream)
    assert caught.value.status == "UNAUTHENTICATED"


# Silence, leaving, crowds.


async def test_silence(api):
    """silences and their keep-alives, before the first token and between tokens"""
    assert await streamed(await stream_of(api, "[[tokens=3 ttft=600 itl=300]]")) == words(3)


async def read_on(stream, fifth: asyncio.Event) -> None:
    count = 0
    async for _ in stream:
        count += 1
        if count == 5:
            fifth.set()


async def test_abort(api):
    """the caller leaves at token 5: slot free, billed what was produced"""
    mark = trace()
    made = client(api, headers=traced(mark))
    asked = {"model": BUSY, "contents": "[[tokens=2000 itl=10]]"}
    if api.is_async:
        # Leaving the loop is not enough: this SDK keeps the connection of an asynchronous stream that is not read to
        # its end, even one that is closed, until its task is cancelled or the client is closed.
        fifth = asyncio.Event()
        reading = asyncio.create_task(read_on(await made.models.generate_content_stream(**asked), fifth))
        await fifth.wait()
        reading.cancel()
    else:
        stream = made.models.generate_content_stream(**asked)
        for _ in range(5):
            next(stream)
        stream.close()
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
        stream = await made.models.generate_content_stream(model=MODEL, contents=f"[[tokens={count} itl=5]]")
        return await streamed(stream) == words(count)

    assert all(await asyncio.gather(*(one(20 + n) for n in range(32))))
