"""Replies as the official SDK reads them, and as they stand on the wire."""

from __future__ import annotations

import json
import timeit
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import types
from pydantic import TypeAdapter

from underlay.dialects.anthropic import ANTHROPIC
from underlay.dialects.wire import Route
from underlay.domain.answer import ModelCard, Opening, Piece, StrandEnd, ToolCallDelta, Usage
from underlay.domain.errors import (
    BadRequest,
    BodyTooLarge,
    BudgetExhausted,
    Conflict,
    DeadlinePassed,
    EngineFailed,
    Forbidden,
    Internal,
    LimitReached,
    NotSupported,
    Overloaded,
    Unauthenticated,
    UnderlayError,
    UnknownModel,
)
from underlay.domain.prompt import Ask, Prompt

QUESTION: Any = {"model": "gemma", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
OPENING = Opening("req_ab12", 1, "gemma")
CALLS = (
    Piece("I look."),
    Piece(tool_calls=(ToolCallDelta(0, "x", "weather"),)),
    Piece(tool_calls=(ToolCallDelta(0, arguments='{"city":'),)),
    Piece(tool_calls=(ToolCallDelta(0, arguments='"Oslo"}'),)),
    Piece(tool_calls=(ToolCallDelta(1, "y", "clock", "{}"), ToolCallDelta(2, "z", "none"))),
)


def writer() -> Any:
    return ANTHROPIC.writer(Route("anthropic", "messages"), Ask(Prompt("chat", "m"), stream=True), OPENING)


@pytest.fixture
def client(gateway: Any) -> Iterator[anthropic.Anthropic]:
    http_client = httpx2.Client(transport=gateway.transport())
    with anthropic.Anthropic(
        api_key="k", base_url="http://underlay", http_client=http_client, max_retries=0
    ) as made:
        yield made


def frames_of(raw: bytes) -> list[tuple[str, dict[str, Any]]]:
    frames = []
    for block in raw.decode().strip().split("\n\n"):
        event, data = block.split("\n")
        frames.append((event.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return frames


def test_a_whole_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**QUESTION)
    types.Message.model_validate(message.model_dump(), strict=True)
    assert message.content == [types.TextBlock(type="text", text="Hello wörld\n")]
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (8, 4)
    assert (message.usage.output_tokens, message.usage.cache_creation_input_tokens) == (3, 0)
    assert message.x_cost == {"usd": "0.00015"}  # type: ignore[attr-defined]
    assert message._request_id == "req_0123456789abcdef"


def test_a_stream_says_the_same_as_the_whole(client: anthropic.Anthropic, gateway: Any, script: Any) -> None:
    for pieces in (script().pieces, CALLS, ()):
        gateway.script = script(pieces)
        whole = client.messages.create(**QUESTION)
        with client.messages.stream(**QUESTION) as stream:
            streamed = stream.get_final_message()
        assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content]
        assert streamed.usage == whole.usage
        assert (streamed.id, streamed.stop_reason) == (whole.id, whole.stop_reason)


def test_tool_calls(client: anthropic.Anthropic, gateway: Any, script: Any) -> None:
    gateway.script = script(CALLS, StrandEnd("tool_calls"))
    message = client.messages.create(**QUESTION)
    assert message.stop_reason == "tool_use"
    assert [block.to_dict() for block in message.content] == [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_0123456789abcdef_0", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "toolu_0123456789abcdef_1", "name": "clock", "input": {}},
        {"type": "tool_use", "id": "toolu_0123456789abcdef_2", "name": "none", "input": {}},
    ]


def test_a_call_that_is_not_json_stays_visible(client: anthropic.Anthropic, gateway: Any, script: Any) -> None:
    for arguments in ('{"city":', "[1]", "[" * 5000):
        gateway.script = script((Piece(tool_calls=(ToolCallDelta(0, "x", "f", arguments),)),), StrandEnd("length"))
        (block,) = client.messages.create(**QUESTION).content
        assert isinstance(block, types.ToolUseBlock)
        assert block.input == {"_unparsed": arguments}


def test_the_order_of_events(gateway: Any, script: Any) -> None:
    gateway.script = script((*CALLS, Piece("Done")), StrandEnd("stop", "END"))
    frames = frames_of(b"".join(gateway.frames(writer())))
    adapter: TypeAdapter[Any] = TypeAdapter(types.RawMessageStreamEvent)
    for event, data in frames:
        assert adapter.validate_python(data).type == event
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert [event for event, _ in frames] == [
        "message_start",
        *block,
        "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        *block,
        "content_block_start", "content_block_stop",
        *block,
        "message_delta",
        "message_stop",
    ]  # fmt: skip
    assert [data["index"] for event, data in frames if event == "content_block_start"] == [0, 1, 2, 3, 4]
    assert frames[0][1]["message"]["usage"]["input_tokens"] == 8
    ending = frames[-2][1]
    assert ending["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    assert ending["usage"]["output_tokens"] == 3
    assert ending["x_cost"] == {"usd": "0.00015"}


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (StrandEnd("stop"), "end_turn"),
        (StrandEnd("stop", "x"), "stop_sequence"),
        (StrandEnd("length"), "max_tokens"),
        (StrandEnd("tool_calls"), "tool_use"),
        (StrandEnd("content_filter"), "refusal"),
    ],
)
def test_stop_reasons(client: anthropic.Anthropic, gateway: Any, script: Any, end: StrandEnd, reason: str) -> None:
    gateway.script = script(end=end)
    message = client.messages.create(**QUESTION)
    assert (message.stop_reason, message.stop_sequence) == (reason, end.stop_string)


def test_an_engine_that_goes_back_failed() -> None:
    made = writer()
    made.piece(0, Piece(tool_calls=(ToolCallDelta(0, "a", "f"), ToolCallDelta(1, "b", "g"))))
    with pytest.raises(EngineFailed):
        made.piece(0, Piece(tool_calls=(ToolCallDelta(0, arguments="{}"),)))


def test_a_failure_in_mid_stream_is_raised(client: anthropic.Anthropic, gateway: Any, script: Any) -> None:
    gateway.script = script(fail_after=Overloaded("The platform is full."))
    with pytest.raises(anthropic.APIStatusError, match="The platform is full") as caught:
        list(client.messages.create(**QUESTION, stream=True))
    assert caught.value.type == "overloaded_error"


def test_stream_headers() -> None:
    headers = dict(ANTHROPIC.stream_headers(Route("anthropic", "messages"), Ask(Prompt("chat", "m"))))
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["x-accel-buffering"] == "no"


def test_counting(client: anthropic.Anthropic) -> None:
    assert client.messages.count_tokens(model="m", messages=QUESTION["messages"]).input_tokens == 42


def test_models_and_their_pages(client: anthropic.Anthropic) -> None:
    page = client.models.list(limit=2)
    types.ModelInfo.model_validate(page.data[0].model_dump())
    assert (page.first_id, page.last_id, page.has_more) == ("alpha", "beta", True)
    assert [model.id for model in client.models.list(limit=1)] == ["alpha", "beta", "gamma"]
    assert [model.id for model in client.models.list(before_id="gamma", limit=1).data] == ["beta"]
    assert client.models.retrieve("alpha").max_input_tokens == 8192
    assert client.models.list(after_id="gamma").data == []


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "x"}, {"after_id": "?"}, {"after_id": "a", "before_id": "a"}]
)
def test_wrong_pages_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        ANTHROPIC.models(Route("anthropic", "models", query=query), [ModelCard("a", 0, 1)])


@pytest.mark.parametrize(
    ("error", "status", "kind", "raised"),
    [
        (BadRequest("x"), 400, "invalid_request_error", anthropic.BadRequestError),
        (Unauthenticated("x"), 401, "authentication_error", anthropic.AuthenticationError),
        (BudgetExhausted("x"), 402, "billing_error", anthropic.APIStatusError),
        (Forbidden("x"), 403, "permission_error", anthropic.PermissionDeniedError),
        (UnknownModel("x"), 404, "not_found_error", anthropic.NotFoundError),
        (Conflict("x"), 409, "conflict_error", anthropic.ConflictError),
        (BodyTooLarge("x"), 413, "request_too_large", anthropic.APIStatusError),
        (LimitReached("x", retry_after_s=1.5), 429, "rate_limit_error", anthropic.RateLimitError),
        (Internal("x"), 500, "api_error", anthropic.InternalServerError),
        (NotSupported("x"), 501, "api_error", anthropic.InternalServerError),
        (EngineFailed("x"), 500, "api_error", anthropic.InternalServerError),
        (Overloaded("x"), 529, "overloaded_error", anthropic.InternalServerError),
        (DeadlinePassed("x"), 504, "timeout_error", anthropic.InternalServerError),
    ],
)
def test_errors(
    client: anthropic.Anthropic, gateway: Any, error: UnderlayError, status: int, kind: str, raised: Any
) -> None:
    gateway.error = error
    with pytest.raises(raised) as caught:
        client.messages.create(**QUESTION)
    response = caught.value.response
    assert (response.status_code, caught.value.type) == (status, kind)
    assert caught.value.body["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]
    assert caught.value.body["error"]["details"] == {"error_code": error.reason}
    wanted = {None: None, True: "true", False: "false"}[error.retryable]
    assert response.headers.get("x-should-retry") == wanted


def test_retry_hints() -> None:
    refusal = ANTHROPIC.error(LimitReached("x", retry_after_s=1.25), "req_1")
    assert {("retry-after", "2"), ("retry-after-ms", "1250"), ("request-id", "req_1")} <= set(refusal.headers)


def test_a_token_costs_little() -> None:
    made = writer()
    made.open(Usage())
    piece = Piece(" token")
    made.piece(0, piece)
    each_s = min(timeit.repeat(lambda: made.piece(0, piece), number=2000, repeat=5)) / 2000
    assert each_s < 20e-6  # it takes about one microsecond; the margin is for busy machines
