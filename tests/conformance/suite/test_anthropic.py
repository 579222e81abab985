from __future__ import annotations

import asyncio

import anthropic
import pytest
from common import (
    BUSY,
    CUTS,
    KEY,
    KEYS,
    LONELY,
    MODEL,
    MORTAL,
    REMOTE,
    TWICE,
    URL,
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
    trace,
    traced,
    words,
)
from pydantic import BaseModel

MAJOR = int(anthropic.__version__.split(".")[0])

TOOL = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}
ARGUMENTS = {"city": "Paris", "days": 21}
FORCED = {"tools": [TOOL], "tool_choice": {"type": "any"}}


class Weather(BaseModel):
    city: str
    degrees: int


def client(api, *, base_url: str = URL, key: str = KEY, retries: int = 0, **options):
    make = api.either(anthropic.Anthropic, anthropic.AsyncAnthropic)
    return api.shared(make, base_url=base_url, api_key=key, max_retries=retries, timeout=30, **options)


def asking(text: str, model: str = MODEL, **options) -> dict:
    return {"model": model, "max_tokens": 4000, "messages": [{"role": "user", "content": text}], **options}


async def ask(api, text: str, model: str = MODEL, key: str = KEY, **options):
    return await call(client(api, key=key).messages.create, **asking(text, model, **options))


async def streamed(stream) -> str:
    """The text of a stream of events."""
    return "".join(
        [
            e.delta.text
            async for e in each(stream)
            if e.type == "content_block_delta" and e.delta.type == "text_delta"
        ]
    )


# Models.


async def test_models_list(api):
    """models.list, page by page"""
    listed = client(api).models.list
    ids = [model.id async for model in each(await call(listed, limit=2))]
    assert {MODEL, REMOTE} <= set(ids)
    page = await call(listed, limit=2)
    assert (len(page.data), page.has_more, page.first_id) == (2, True, page.data[0].id)
    assert all(model.type == "model" and model.display_name and model.created_at.year > 2020 for model in page.data)


async def test_models_retrieve(api):
    """models.retrieve"""
    found = await call(client(api).models.retrieve, MODEL)
    assert (found.id, found.max_input_tokens > 0) == (MODEL, True)


# Messages.


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_message(api, model):
    """messages.create: text, ids, usage"""
    done = await ask(api, "[[tokens=6]]", model)
    assert done.content[0].text.strip() == words(6)
    assert (done.type, done.role, done.model) == ("message", "assistant", model)
    assert (done.stop_reason, done.stop_sequence) == ("end_turn", None)
    assert done.id.startswith("msg_")
    assert done._request_id.startswith("req_")
    assert done.usage.output_tokens == 6
    assert done.usage.input_tokens > 0
    assert (done.usage.cache_read_input_tokens, done.usage.cache_creation_input_tokens) == (0, 0)
    assert float(done.model_extra["x_cost"]["usd"]) > 0


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_message_stream(api, model):
    """messages.create(stream=True): every event, in order"""
    events = await gathered(await ask(api, "[[tokens=4]]", model, stream=True))
    assert [e.type for e in events] == [
        "message_start", "content_block_start", *["content_block_delta"] * 4, "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert "".join(e.delta.text for e in events[2:6]).strip() == words(4)
    start, last = events[0].message, events[-2]
    assert (start.content, start.stop_reason, start.usage.output_tokens) == ([], None, 0)
    assert (last.delta.stop_reason, last.usage.output_tokens) == ("end_turn", 4)


async def test_message_stream_helper(api):
    """messages.stream helper: text, final message, usage"""
    async with entered(client(api).messages.stream(**asking("[[tokens=5]]"))) as stream:
        text = "".join([part async for part in each(stream.text_stream)])
        final = await call(stream.get_final_message)
    whole = await ask(api, "[[tokens=5]]")
    assert text == final.content[0].text == words(5)
    assert final.stop_reason == "end_turn"
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert final.usage.output_tokens == whole.usage.output_tokens == 5


async def test_message_stop(api):
    """stop_sequences: which one was met"""
    done = await ask(api, "[[tokens=20]]", stop_sequences=["never", " w6"])
    assert done.content[0].text == words(6)
    assert (done.stop_reason, done.stop_sequence) == ("stop_sequence", " w6")
    async with entered(client(api).messages.stream(**asking("[[tokens=20]]", stop_sequences=[" w6"]))) as stream:
        final = await call(stream.get_final_message)
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", " w6")


async def test_message_limit(api):
    """max_tokens: stop_reason max_tokens"""
    done = await ask(api, "[[tokens=20]]", max_tokens=3)
    assert (done.content[0].text, done.stop_reason, done.usage.output_tokens) == (words(3), "max_tokens", 3)


async def test_message_parameters(api):
    """system, content blocks, sampling, metadata, prefill"""
    options = {
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "metadata": {"user_id": "ada"},
        "service_tier": "auto",
        "extra_body": {"temperature": 0.5, "top_p": 0.9, "top_k": 40},
    }
    blocks = [{"type": "text", "text": "One."}, {"type": "text", "text": "[[tokens=2]]"}]
    asked = client(api).messages.create
    done = await call(asked, model=MODEL, max_tokens=50, messages=[{"role": "user", "content": blocks}], **options)
    assert done.content[0].text == words(2)
    begun = [{"role": "user", "content": "[[tokens=2]]"}, {"role": "assistant", "content": "Well,"}]
    done = await call(asked, model=MODEL, max_tokens=50, messages=begun)
    assert done.content[0].text.strip() == words(2)


async def test_raw_response(api):
    """with_raw_response: request-id, rate limits, what it cost"""
    raw = await call(client(api, key=KEYS["metered"]).messages.with_raw_response.create, **asking("[[tokens=2]]"))
    assert raw.headers["request-id"] == raw.headers["x-request-id"]
    assert float(raw.headers["x-cost-usd"]) > 0
    assert raw.headers["anthropic-ratelimit-requests-limit"] == "1000"
    assert raw.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert (await call(raw.parse)).content[0].text == words(2)


async def test_energy(api):
    """usage.energy: whole, in message_delta; GET /v1/requests/{id}/energy"""
    energy = check_energy((await ask(api, "[[tokens=4]]")).usage.energy)
    check_record(await call(client(api).get, energy["record"], cast_to=object), energy)
    events = await gathered(await ask(api, "[[tokens=4]]", stream=True))
    told = [e.usage.energy for e in events if e.type == "message_delta"]
    assert told[0]["joules"] > 0
    assert not hasattr(events[0].message.usage, "energy")
    raw = await call(client(api).messages.with_raw_response.create, **asking("[[tokens=2]]"))
    assert float(raw.headers["x-underlay-energy-joules"]) == (await call(raw.parse)).usage.energy["joules"]
    with pytest.raises(anthropic.NotFoundError):
        await call(client(api, key=KEYS["metered"]).get, energy["record"], cast_to=object)


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_count(api, model):
    """messages.count_tokens: what the message then uses"""
    asked = asking("Count this.", model, system="Be brief.")
    done = await call(client(api).messages.create, **{**asked, "max_tokens": 1})
    del asked["max_tokens"]
    counted = await call(client(api).messages.count_tokens, **asked)
    assert counted.input_tokens > 0
    if model == MODEL:  # another server may count without its chat template
        assert counted.input_tokens == done.usage.input_tokens


# Tools.


@pytest.mark.parametrize("model", [MODEL, REMOTE])
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
async def test_tools_forced(api, model, choice):
    """tools, forced: any, tool"""
    done = await ask(api, "Weather?", model, tools=[TOOL], tool_choice=choice)
    assert done.stop_reason == "tool_use"
    made = done.content[-1]
    assert (made.type, made.name, made.input, bool(made.id)) == ("tool_use", "get_weather", ARGUMENTS, True)


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_tools_auto(api, model):
    """tools, auto: called, not called, forbidden"""
    done = await ask(api, "[[call=1]]", model, tools=[TOOL])
    assert done.content[-1].input == ARGUMENTS
    for options in ({}, {"tool_choice": {"type": "none"}}):
        done = await ask(api, "[[tokens=3]]", model, tools=[TOOL], **options)
        assert ([b.type for b in done.content], done.content[0].text.strip()) == (["text"], words(3))


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_tools_round_trip(api, model):
    """tools: tool_use, tool_result, the answer"""
    first = await ask(api, "[[call=1]]", model, tools=[TOOL])
    result = {"type": "tool_result", "tool_use_id": first.content[-1].id, "content": "21 degrees [[tokens=4]]"}
    messages = [
        {"role": "user", "content": "[[call=1]]"},
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    asked = client(api).messages.create
    second = await call(asked, model=model, max_tokens=100, messages=messages, tools=[TOOL])
    assert second.content[0].text.strip() == words(4)


@pytest.mark.parametrize("model", [MODEL, REMOTE])
async def test_tools_stream(api, model):
    """tools, streamed: input_json_delta; the helper's snapshot"""
    events = await gathered(await ask(api, "[[call=1]]", model, tools=[TOOL], stream=True))
    started = [e.content_block for e in events if e.type == "content_block_start"]
    assert [(b.type, b.name, b.input) for b in started] == [("tool_use", "get_weather", {})]
    assert events[-2].delta.stop_reason == "tool_use"
    async with entered(client(api).messages.stream(**asking("[[call=1]]", model, tools=[TOOL]))) as stream:
        final = await call(stream.get_final_message)
    assert (final.content[-1].input, final.stop_reason) == (ARGUMENTS, "tool_use")


async def test_json_schema(api):
    """messages.parse: output_format"""
    done = await call(client(api).messages.parse, **asking("Weather?"), output_format=Weather)
    assert done.parsed_output == Weather(city="Paris", degrees=21)


# Addresses.


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
async def test_base_url(api, path):
    """every plausible base URL"""
    made = client(api, base_url=URL + path)
    assert (await call(made.messages.create, **asking("[[tokens=1]]"))).content[0].text == words(1)
    assert (await call(made.models.list)).data


async def test_base_url_environment(api, monkeypatch):
    """ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY"""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", URL)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    made = api.keep(api.either(anthropic.Anthropic, anthropic.AsyncAnthropic)())
    assert (await call(made.models.list)).data


async def test_auth_token(api):
    """auth_token instead of api_key"""
    make = api.either(anthropic.Anthropic, anthropic.AsyncAnthropic)
    made = api.keep(make(base_url=URL, auth_token=KEY, max_retries=0))
    assert (await call(made.models.list)).data


# Errors: each row of the error table that can be provoked.


async def refused(name: str, asked, *, status: int, kind: str, retry: str | None = "false"):
    """``name`` is that of the exception's class, of which the previous major has fewer."""
    with pytest.raises(getattr(anthropic, name, anthropic.APIStatusError)) as caught:
        await asked
    error = caught.value
    assert (error.status_code, error.body["error"]["type"]) == (status, kind)
    assert error.type == kind
    assert error.request_id.startswith("req_")
    assert error.body["request_id"] == error.request_id
    assert error.response.headers.get("x-should-retry") == retry
    return error


async def test_error_bad_field(api):
    """400: a bad field, named"""
    error = await refused("BadRequestError", ask(api, "x", max_tokens=0), status=400, kind="invalid_request_error")
    assert "max_tokens" in error.body["error"]["message"]


@pytest.mark.parametrize("model", [MODEL, LONELY])
async def test_error_prompt_too_long(api, model):
    """400: a prompt of 2 MB does not fit the context"""
    asked = ask(api, "word " * 400_000, model, max_tokens=10)
    await refused("BadRequestError", asked, status=400, kind="invalid_request_error")


@pytest.mark.parametrize(
    "key", ["nonsense", mistyped(KEY), KEYS.get("revoked", "")], ids=["none", "mistyped", "revoked"]
)
async def test_error_key(api, key):
    """401: no such key, a mistyped one, a revoked one"""
    await refused("AuthenticationError", ask(api, "x", key=key), status=401, kind="authentication_error")


async def test_error_model_not_allowed(api):
    """403: the key may not use the model"""
    await refused("PermissionDeniedError", ask(api, "x", key=KEYS["poor"]), status=403, kind="permission_error")


async def test_error_model_unknown(api):
    """404: no such model, no such path"""
    await refused("NotFoundError", ask(api, "x", "none"), status=404, kind="not_found_error")
    asked = call(client(api).models.retrieve, "none")
    await refused("NotFoundError", asked, status=404, kind="not_found_error")
    asked = call(client(api).post, "/v1/messages/nothing", cast_to=object, body={})
    await refused("NotFoundError", asked, status=404, kind="not_found_error")


async def test_error_body_too_large(api):
    """413: the body is too large"""
    asked = ask(api, "x" * 5_000_000)
    await refused("RequestTooLargeError", asked, status=413, kind="request_too_large")


async def test_error_rate(api):
    """429: the key's rate, with retry-after"""
    with pytest.raises(anthropic.RateLimitError):
        for _ in range(2):
            await ask(api, "[[tokens=1]]", key=KEYS["rare"])
    asked = ask(api, "x", key=KEYS["rare"])
    error = await refused("RateLimitError", asked, status=429, kind="rate_limit_error", retry=None)
    assert 0 < int(error.response.headers["retry-after"]) <= 60


async def test_error_concurrency(api):
    """429: too many requests of the key are open"""
    with occupied(BUSY, KEYS["single"]):
        asked = ask(api, "x", key=KEYS["single"])
        await refused("RateLimitError", asked, status=429, kind="rate_limit_error", retry=None)


async def test_error_engine(api):
    """500: every engine failed"""
    for stream in (False, True):
        asked = ask(api, "[[status=500]]", stream=stream)
        await refused("InternalServerError", asked, status=500, kind="api_error", retry="true")


async def test_error_overloaded(api):
    """529: the platform is full"""
    with occupied(BUSY, waiting=1):
        error = await refused(
            "OverloadedError", ask(api, "x", BUSY), status=529, kind="overloaded_error", retry="true"
        )
        assert error.response.headers["retry-after-ms"] == "1000"


async def test_error_deadline(api):
    """504: the caller's patience ended in the queue"""
    with occupied(BUSY):
        asked = ask(api, "x", BUSY, extra_headers={"x-stainless-read-timeout": "0.4"})
        await refused("APIStatusError", asked, status=504, kind="timeout_error")


# Retries.


async def attempts(api, text: str, model: str = MODEL, key: str = KEY, expected: int = 1) -> int:
    mark = trace()
    patient = client(api, key=key, retries=1, default_headers=traced(mark))
    with pytest.raises(anthropic.APIStatusError):
        await call(patient.messages.create, **asking(text, model))
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
    async with entered(client(api).messages.stream(**asking(f"[[tokens=12 {fault}=3]]"))) as stream:
        final = await call(stream.get_final_message)
    assert (final.content[0].text, final.usage.output_tokens) == (words(12), 12)


@pytest.mark.parametrize("faults", TWICE)
async def test_broken_stream(api, faults):
    """engines break in mid-stream, nobody can go on: an exception, never a clean end"""
    stream = await ask(api, f"[[tokens=12 {faults}]]", stream=True)
    with pytest.raises(anthropic.APIStatusError) as caught:
        await streamed(stream)
    assert (caught.value.type, caught.value.body["error"]["type"]) == ("api_error", "api_error")


@pytest.mark.parametrize("fault", CUTS)
async def test_broken_tool(api, fault):
    """an engine breaks in mid-call, which no other can go on with: an exception"""
    manager = client(api).messages.stream(**asking(f"[[{fault}=6]]", **FORCED))
    with pytest.raises(anthropic.APIStatusError):
        async with entered(manager) as stream:
            await call(stream.get_final_message)


async def test_killed_engine(api):
    """an engine is killed in mid-stream, nobody can go on: an exception"""
    mortal_again()
    stream = await ask(api, "[[die=6]]", MORTAL, stream=True, **FORCED)
    with pytest.raises(anthropic.APIError):
        await gathered(stream)


async def test_hanging_engine(api):
    """an engine falls silent in mid-stream: another goes on"""
    assert await streamed(await ask(api, "[[tokens=8 hang=3]]", stream=True)) == words(8)


async def test_revoked_in_stream(api):
    """a key is revoked in mid-stream: an exception"""
    secret, key_id = KEYS["doomed"][api.is_async]
    stream = await ask(api, "[[tokens=2000 itl=20]]", key=secret, stream=True)
    await each(stream).__anext__()
    revoke(key_id)
    with pytest.raises(anthropic.APIStatusError) as caught:
        await gathered(stream)
    assert caught.value.body["error"]["type"] == "authentication_error"


# Silence, leaving, crowds.


async def test_silence(api):
    """silences and their keep-alives, before the first token and between tokens"""
    async with entered(client(api).messages.stream(**asking("[[tokens=3 ttft=600 itl=300]]"))) as stream:
        assert (await call(stream.get_final_message)).content[0].text == words(3)


async def test_abort(api):
    """the caller leaves at token 5: slot free, billed what was produced"""
    mark = trace()
    stream = await ask(api, "[[tokens=2000 itl=10]]", BUSY, stream=True, extra_headers=traced(mark))
    received = each(stream)
    for _ in range(7):  # two starts, and five tokens
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
        stream = await made.messages.create(**asking(f"[[tokens={count} itl=5]]"), stream=True)
        return await streamed(stream) == words(count)

    assert all(await asyncio.gather(*(one(20 + n) for n in range(32))))
