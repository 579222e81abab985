"""Replies as the official SDK reads them, and as they stand on the wire."""

from __future__ import annotations

import json
import timeit
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types

from underlay.dialects.gemini import GEMINI
from underlay.dialects.wire import Route
from underlay.domain.answer import ModelCard, Opening, Piece, StrandEnd, TokenLogprob, ToolCallDelta, Usage
from underlay.domain.errors import (
    BadRequest,
    BodyTooLarge,
    BudgetExhausted,
    ClientLeft,
    Conflict,
    DeadlinePassed,
    EngineFailed,
    Forbidden,
    Internal,
    LimitReached,
    MethodNotAllowed,
    NotSupported,
    Overloaded,
    Unauthenticated,
    UnderlayError,
    UnknownModel,
)
from underlay.domain.prompt import Ask, Prompt

OPENING = Opening("req_ab12", 1, "gemma")
EVENTS = Route("gemini", "stream_generate", model="m", query={"alt": "sse"})
ARRAY = Route("gemini", "stream_generate", model="m")
CALLS = (
    Piece("I look."),
    Piece(tool_calls=(ToolCallDelta(0, "x", "weather"),)),
    Piece(tool_calls=(ToolCallDelta(0, arguments='{"city":'),)),
    Piece(tool_calls=(ToolCallDelta(0, arguments='"Oslo"}'),)),
    Piece(tool_calls=(ToolCallDelta(1, "y", "clock", ""),)),
)
LOGPROBS = (
    Piece("a", logprobs=(TokenLogprob("a", -0.5, (TokenLogprob("a", -0.5), TokenLogprob("b", -1.5))),)),
    Piece("c", logprobs=(TokenLogprob("c", -1.5),)),
)


def writer(route: Route = EVENTS, strands: int = 1) -> Any:
    return GEMINI.writer(route, Ask(Prompt("chat", "m", n=strands), stream=True), OPENING)


@pytest.fixture
def client(gateway: Any) -> Iterator[genai.Client]:
    http_client = httpx2.Client(transport=gateway.transport())
    options = types.HttpOptions(base_url="http://underlay", httpx_client=http_client)
    made = genai.Client(api_key="k", http_options=options)
    yield made
    made.close()
    http_client.close()


def chunks_of(raw: bytes) -> list[dict[str, Any]]:
    assert raw.endswith(b"\r\n\r\n")
    lines = raw.decode().removesuffix("\r\n\r\n").split("\r\n\r\n")
    assert all(line.startswith("data: {") and "\n" not in line for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_a_whole_response(client: genai.Client) -> None:
    response = client.models.generate_content(model="m", contents="hi")
    assert response.text == "Hello wörld\n"
    assert response.candidates is not None
    assert response.candidates[0].finish_reason == types.FinishReason.STOP
    usage = response.usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (12, 4)
    assert (usage.candidates_token_count, usage.total_token_count) == (3, 15)
    assert (response.model_version, response.response_id) == ("gemma", "0123456789abcdef")


def test_a_stream_says_the_same_as_the_whole(client: genai.Client, gateway: Any, script: Any) -> None:
    for pieces in (script().pieces, CALLS, ()):
        gateway.script = script(pieces)
        whole = client.models.generate_content(model="m", contents="hi").model_dump()
        chunks = list(client.models.generate_content_stream(model="m", contents="hi"))
        parts = [part for chunk in chunks for part in (chunk.parts or [])]
        whole_parts = whole["candidates"][0]["content"]["parts"]
        said = "".join(part.text or "" for part in parts)
        assert said == "".join(part["text"] or "" for part in whole_parts)
        calls = [part.function_call.model_dump() for part in parts if part.function_call]
        assert calls == [part["function_call"] for part in whole_parts if part["function_call"]]
        last = chunks[-1].model_dump()
        assert last["usage_metadata"] == whole["usage_metadata"]
        assert last["candidates"][0]["finish_reason"] == "STOP"
        assert all(chunk.usage_metadata is None for chunk in chunks[:-1])
        assert all(chunk.candidates for chunk in chunks)


def test_a_chat_remembers_a_streamed_turn(client: genai.Client, gateway: Any) -> None:
    chat = client.chats.create(model="m")
    assert "".join(chunk.text or "" for chunk in chat.send_message_stream("hi")) == "Hello wörld\n"
    chat.send_message("again")
    assert [message.role for message in gateway.asks[-1].prompt.messages] == ["user", "assistant", "user"]
    assert gateway.asks[-1].prompt.messages[1].text == "Hello wörld\n"


def test_what_the_sdk_sends_is_understood(client: genai.Client, gateway: Any) -> None:
    config = types.GenerateContentConfig(
        system_instruction="Be kind",
        temperature=0.5,
        top_k=3,
        response_mime_type="application/json",
        response_schema=types.Schema(
            type=types.Type.OBJECT, properties={"a": types.Schema(type=types.Type.STRING)}
        ),
        tools=[types.Tool(function_declarations=[types.FunctionDeclaration(name="f")])],
    )
    client.models.generate_content(model="m", contents=["hi", "there"], config=config)
    prompt = gateway.asks[-1].prompt
    assert [message.text for message in prompt.messages] == ["Be kind", "hi\nthere"]
    assert prompt.format.schema == {"type": "object", "properties": {"a": {"type": "string"}}}
    assert (prompt.sampling.top_k, prompt.tools[0].name) == (3, "f")
    assert gateway.asks[-1].ignored == ()


def test_function_calls_are_sent_whole(gateway: Any, script: Any) -> None:
    gateway.script = script(CALLS, StrandEnd("tool_calls"))
    chunks = chunks_of(b"".join(gateway.frames(writer())))
    parts = [chunk["candidates"][0]["content"]["parts"] for chunk in chunks]
    assert parts == [
        [{"text": "I look."}],
        [{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}],
        [{"functionCall": {"name": "clock", "args": {}}}],
    ]
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize("arguments", ['{"city":', "[1]", "[" * 5000])
def test_a_malformed_call_is_said_to_be_one(
    client: genai.Client, gateway: Any, script: Any, arguments: str
) -> None:
    for finish, said in (("tool_calls", "MALFORMED_FUNCTION_CALL"), ("length", "MAX_TOKENS")):
        gateway.script = script((Piece(tool_calls=(ToolCallDelta(0, "x", "f", arguments),)),), StrandEnd(finish))
        whole = client.models.generate_content(model="m", contents="hi")
        *_, last = client.models.generate_content_stream(model="m", contents="hi")
        for response in (whole, last):
            assert response.candidates is not None
            assert response.candidates[0].finish_reason == said
            assert not response.function_calls


def test_an_engine_that_goes_back_failed() -> None:
    made = writer()
    made.piece(0, Piece(tool_calls=(ToolCallDelta(0, "a", "f"), ToolCallDelta(1, "b", "g"))))
    with pytest.raises(EngineFailed):
        made.piece(0, Piece(tool_calls=(ToolCallDelta(0, arguments="{}"),)))


def test_text_after_a_call_comes_after_it() -> None:
    made = writer()
    assert made.piece(0, Piece(tool_calls=(ToolCallDelta(0, "a", "f", "{}"),))) == b""
    (chunk,) = chunks_of(made.piece(0, Piece("done")))
    parts = chunk["candidates"][0]["content"]["parts"]
    assert parts == [{"functionCall": {"name": "f", "args": {}}}, {"text": "done"}]


def test_an_array_grows_to_valid_json(gateway: Any) -> None:
    frames = gateway.frames(writer(ARRAY))
    assert json.loads(b"".join(frames)) == chunks_of(b"".join(gateway.frames(writer())))
    assert frames[1].startswith(b'[{"candidates"')
    assert frames[1].endswith(b"}\n")
    assert frames[2].startswith(b',\n{"candidates"')
    assert b"".join(frames).endswith(b"}\n]")
    for chunk in json.loads(b"".join(frames)):
        types.GenerateContentResponse.model_validate(chunk)


def test_an_array_without_tokens(gateway: Any, script: Any) -> None:
    gateway.script = script(())
    (only,) = json.loads(b"".join(gateway.frames(writer(ARRAY))))
    assert only["candidates"][0]["finishReason"] == "STOP"


def test_an_array_that_fails_ends_with_the_error(gateway: Any, script: Any) -> None:
    for pieces in (script().pieces, ()):
        gateway.script = script(pieces, fail_after=EngineFailed("gone"))
        *_, last = json.loads(b"".join(gateway.frames(writer(ARRAY))))
        assert last["error"]["status"] == "UNAVAILABLE"


def test_several_candidates(gateway: Any) -> None:
    chunks = chunks_of(b"".join(gateway.frames(writer(strands=2), 2)))
    said: dict[int, str] = {0: "", 1: ""}
    for chunk in chunks:
        (candidate,) = chunk["candidates"]
        said[candidate["index"]] += candidate["content"]["parts"][0]["text"]
    assert said == {0: "Hello wörld\n", 1: "Hello wörld\n"}
    assert ["finishReason" in chunk["candidates"][0] for chunk in chunks[-3:]] == [False, True, True]
    assert ["usageMetadata" in chunk for chunk in chunks[-2:]] == [False, True]


def test_logprobs(client: genai.Client, gateway: Any, script: Any) -> None:
    gateway.script = script(LOGPROBS)
    response = client.models.generate_content(model="m", contents="hi")
    chunks = list(client.models.generate_content_stream(model="m", contents="hi"))
    assert response.candidates is not None
    result = response.candidates[0].logprobs_result
    assert result is not None
    assert result.chosen_candidates is not None
    assert result.top_candidates is not None
    assert [(entry.token, entry.log_probability) for entry in result.chosen_candidates] == [
        ("a", -0.5),
        ("c", -1.5),
    ]
    assert [len(entry.candidates or []) for entry in result.top_candidates] == [2, 0]
    assert response.candidates[0].avg_logprobs == -1.0
    streamed = [chunk.candidates[0].logprobs_result for chunk in chunks if chunk.candidates]
    tokens = [entry.token for result in streamed if result for entry in result.chosen_candidates or []]
    assert tokens == ["a", "c"]


@pytest.mark.parametrize(
    ("finish", "said"), [("stop", "STOP"), ("length", "MAX_TOKENS"), ("content_filter", "SAFETY")]
)
def test_finish_reasons(client: genai.Client, gateway: Any, script: Any, finish: Any, said: str) -> None:
    gateway.script = script(end=StrandEnd(finish))
    response = client.models.generate_content(model="m", contents="hi")
    assert response.candidates is not None
    assert response.candidates[0].finish_reason == said


def test_a_failure_in_mid_stream_is_raised(client: genai.Client, gateway: Any, script: Any) -> None:
    gateway.script = script(fail_after=EngineFailed("The engine died."))
    with pytest.raises(errors.ServerError, match=r"The engine died\."):
        list(client.models.generate_content_stream(model="m", contents="hi"))


def test_counting(client: genai.Client) -> None:
    assert client.models.count_tokens(model="m", contents="hi").total_tokens == 42


def test_embeddings(client: genai.Client, gateway: Any) -> None:
    response = client.models.embed_content(model="m", contents=["a", "b"])
    assert gateway.asks[-1].prompt.texts == ("a", "b")
    assert [embedding.values for embedding in response.embeddings or []] == [[0.5, -0.25, 0], [0.5, -0.25, 1]]
    body = b'{"content":{"parts":[{"text":"a"}]}}'
    one = gateway.answer("POST", "/v1beta/models/m:embedContent", "", {}, body)
    assert json.loads(one.body)["embedding"] == {"values": [0.5, -0.25, 0]}


def test_models_and_their_pages(client: genai.Client) -> None:
    assert [model.name for model in client.models.list(config={"page_size": 2})] == [
        "models/alpha",
        "models/beta",
        "models/gamma",
    ]
    card = client.models.get(model="alpha")
    assert (card.name, card.input_token_limit) == ("models/alpha", 8192)
    assert card.supported_actions == ["generateContent", "streamGenerateContent", "countTokens"]


def test_an_embedder_says_what_it_can() -> None:
    body = GEMINI.model(Route("gemini", "model"), ModelCard("e", 0, 1, operations=("embedding",)))
    assert json.loads(body)["supportedGenerationMethods"] == ["embedContent", "batchEmbedContents"]


@pytest.mark.parametrize("query", [{"pageSize": "x"}, {"page_size": "-1"}, {"pageToken": "?"}])
def test_wrong_pages_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        GEMINI.models(Route("gemini", "models", query=query), [ModelCard("a", 0, 1)])


def test_stream_headers() -> None:
    plain = Ask(Prompt("chat", "m"))
    assert dict(GEMINI.stream_headers(EVENTS, plain))["content-type"] == "text/event-stream; charset=utf-8"
    assert dict(GEMINI.stream_headers(ARRAY, plain))["content-type"].startswith("application/json")


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (BadRequest("x", param="f"), 400, "INVALID_ARGUMENT"),
        (Unauthenticated("x"), 401, "UNAUTHENTICATED"),
        (Forbidden("x"), 403, "PERMISSION_DENIED"),
        (UnknownModel("x"), 404, "NOT_FOUND"),
        (MethodNotAllowed("x"), 405, "UNIMPLEMENTED"),
        (Conflict("x"), 409, "ABORTED"),
        (BodyTooLarge("x"), 413, "INVALID_ARGUMENT"),
        (LimitReached("x", retry_after_s=1.5), 429, "RESOURCE_EXHAUSTED"),
        (BudgetExhausted("x", retry_after_s=1.5), 429, "RESOURCE_EXHAUSTED"),
        (ClientLeft("x"), 499, "CANCELLED"),
        (Internal("x"), 500, "INTERNAL"),
        (NotSupported("x"), 501, "UNIMPLEMENTED"),
        (EngineFailed("x"), 503, "UNAVAILABLE"),
        (Overloaded("x"), 503, "UNAVAILABLE"),
        (DeadlinePassed("x"), 504, "DEADLINE_EXCEEDED"),
    ],
)
def test_errors(client: genai.Client, gateway: Any, error: UnderlayError, code: int, status: str) -> None:
    gateway.error = error
    with pytest.raises(errors.ClientError if code < 500 else errors.ServerError) as caught:
        client.models.generate_content(model="m", contents="hi")
    assert (caught.value.code, caught.value.status, caught.value.message) == (code, status, "x")


def test_details_of_errors() -> None:
    refusal = GEMINI.error(LimitReached("x", retry_after_s=2.0, param="f"), "req_1")
    info, violation, retry = json.loads(refusal.body)["error"]["details"]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert (info["reason"], info["metadata"]) == ("RATE_LIMIT_EXCEEDED", {"requestId": "req_1"})
    assert violation["fieldViolations"] == [{"field": "f", "description": "x"}]
    assert retry == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}
    assert {("retry-after", "2"), ("x-request-id", "req_1")} <= set(refusal.headers)
    (info,) = json.loads(GEMINI.error(Unauthenticated("x"), "req_1").body)["error"]["details"]
    assert info["reason"] == "API_KEY_INVALID"
    assert b"RetryInfo" not in GEMINI.error(BudgetExhausted("x", retry_after_s=9.0), "req_1").body


def test_a_token_costs_little() -> None:
    made = writer()
    made.open(Usage())
    piece = Piece(" token")
    each_s = min(timeit.repeat(lambda: made.piece(0, piece), number=2000, repeat=5)) / 2000
    assert each_s < 20e-6  # it takes about one microsecond; the margin is for busy machines
