"""What servers of the OpenAI API write: the events of a stream, their usage, their errors.

One reader for all of them, so every field may be missing, and tokens are counted by events until a usage comes.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from underlay.domain.answer import (
    EngineEvent,
    Finish,
    Piece,
    Resume,
    StrandEnd,
    Timings,
    TokenLogprob,
    ToolCallDelta,
)
from underlay.domain.errors import (
    BadRequest,
    EngineFailed,
    NotSupported,
    Overloaded,
    PromptTooLong,
    UnderlayError,
)
from underlay.domain.prompt import Prompt
from underlay.live.engines.stream import Frames

_FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class _Cached(Struct):
    cached_tokens: int | None = None


class UsageTold(Struct):
    """What a server says that it counted."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(Struct):
    content: str | None = None
    # What a thinking model writes before its answer; no dialect here carries it, but it is work done.
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None


class _Logprob(Struct):
    token: str = ""
    logprob: float | None = 0.0
    top_logprobs: list[_Logprob] | None = None


class _Logprobs(Struct):
    """Both shapes: ``content`` of chats (and of llama.cpp), parallel lists of vLLM's completions."""

    content: list[_Logprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: _Logprobs | None = None


class _Timings(Struct):
    cache_n: int = 0
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: UsageTold | None = None
    timings: _Timings | None = None
    error: Any = None


_DECODE = msgspec.json.Decoder(_Chunk).decode


class OpenAIReader:
    """Reads one streamed chat or completion.

    Until the engine tells its usage, one event counts as one token. The end is told only after the usage,
    which comes after the finish reason.
    """

    def __init__(self, prompt: Prompt, resume: Resume | None = None) -> None:
        del prompt
        self._frames = Frames()
        self._resumed_tokens = resume.completion_tokens if resume else 0
        self._tokens = 0
        self._usage: UsageTold | None = None
        self._timings: _Timings | None = None
        self._end: StrandEnd | None = None
        self._named: set[int] = set()
        self._ended = False

    def feed(self, data: bytes) -> list[EngineEvent]:
        """Take body bytes, return the events they complete."""
        events: list[EngineEvent] = []
        for payload in self._frames.feed(data):
            if self._ended:
                break
            if payload == b"[DONE]":
                if self._end is None:
                    raise malformed()
                events.append(self._last())
            else:
                events += self._chunk(payload)
        return events

    def finish(self) -> None:
        """Raise unless the last event had come."""
        if not self._ended:
            raise EngineFailed("The engine stopped in mid-answer.", reason="upstream_cut")

    def _chunk(self, payload: bytes) -> list[EngineEvent]:
        try:
            chunk = _DECODE(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise malformed() from error
        if chunk.error is not None:
            raise read_error(500, payload, streamed=True)
        self._usage = chunk.usage or self._usage
        self._timings = chunk.timings or self._timings
        piece = None
        for choice in chunk.choices[:1]:
            piece = self._piece(choice)
            if choice.finish_reason is not None:
                self._end = _end(choice)
        events = [] if piece is None else [EngineEvent(piece=piece, completion_tokens=self._tokens)]
        if self._end is not None and chunk.usage is not None:
            events.append(self._last())
        return events

    def _piece(self, choice: _Choice) -> Piece | None:
        delta = choice.delta or _Delta()
        text = delta.content or choice.text or ""
        calls = tuple(self._call(call) for call in delta.tool_calls or ())
        logprobs = _logprobs(choice.logprobs)
        if text or calls or delta.reasoning_content:
            self._tokens += max(1, len(logprobs))
        if not text and not calls and not logprobs:
            return None
        return Piece(text, calls, logprobs)

    def _call(self, call: _Call) -> ToolCallDelta:
        function = call.function or _Function()
        arguments = function.arguments or ""
        if call.index in self._named:
            return ToolCallDelta(call.index, arguments=arguments)
        self._named.add(call.index)
        return ToolCallDelta(call.index, call.id, function.name, arguments)

    def _last(self) -> EngineEvent:
        self._ended = True
        usage, timings = self._usage, self._timings
        cached = timings.cache_n if timings else None
        prompt_tokens = None
        if usage is not None:
            self._tokens = usage.completion_tokens
            prompt_tokens = max(0, usage.prompt_tokens - self._resumed_tokens)
            if usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens is not None:
                cached = usage.prompt_tokens_details.cached_tokens
            cached = min(cached or 0, prompt_tokens)
        return EngineEvent(
            completion_tokens=self._tokens,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached,
            end=self._end,
            timings=Timings(timings.prompt_ms, timings.predicted_ms) if timings else None,
        )


def _end(choice: _Choice) -> StrandEnd:
    finish = _FINISHES.get(choice.finish_reason or "", "stop")
    return StrandEnd(finish, choice.stop_reason if isinstance(choice.stop_reason, str) else None)


def _logprobs(told: _Logprobs | None) -> tuple[TokenLogprob, ...]:
    if told is None:
        return ()
    if told.content is not None:
        return tuple(_logprob(entry) for entry in told.content)
    values = told.token_logprobs or []
    alternatives = told.top_logprobs or [None] * len(values)
    return tuple(
        TokenLogprob(token, value or 0.0, tuple(TokenLogprob(t, v) for t, v in (best or {}).items()))
        for token, value, best in zip(told.tokens or [], values, alternatives, strict=False)
    )


def _logprob(entry: _Logprob) -> TokenLogprob:
    value = -9999.0 if entry.logprob is None else entry.logprob
    return TokenLogprob(entry.token, value, tuple(_logprob(best) for best in entry.top_logprobs or ()))


def malformed() -> EngineFailed:
    """Say that the engine wrote something that is not its protocol."""
    return EngineFailed("The engine sent something unreadable.", reason="upstream_malformed")


class _ErrorBody(Struct):
    message: str = ""
    type: str | None = None
    code: int | str | None = None
    param: str | None = None


def read_error(status: int, body: bytes, *, streamed: bool = False) -> UnderlayError:
    """Say what an engine's error means: the caller's fault only where the engine says so clearly.

    ``streamed``: it came as an event of a stream, so its own code counts instead of the HTTP status.
    """
    told = _told(body)
    if streamed and isinstance(told.code, int):
        status = told.code
    words = told.message.lower()
    too_long = told.type == "exceed_context_size_error" or told.code == "context_length_exceeded"
    if too_long or (status == 400 and "context" in words and ("length" in words or "size" in words)):
        return PromptTooLong(told.message or "The prompt does not fit the model's context.")
    if status in (400, 413, 422):
        return BadRequest(told.message or "The engine refused the request.", param=told.param or _param(words))
    if status == 501:
        return NotSupported(told.message or "The engine cannot do that.")
    if status in (429, 503):
        return Overloaded("The engine takes no more requests at the moment.", reason="upstream_overloaded")
    return EngineFailed(f"The engine answered {status}.")


def _told(body: bytes) -> _ErrorBody:
    """Find the error in ``{"error": {…}}``, in vLLM's bare ``{"message": …}`` or in ``{"error": "…"}``."""
    try:
        whole = msgspec.json.decode(body)
        inner = whole.get("error", whole) if isinstance(whole, dict) else {}
        return msgspec.convert({"message": inner} if isinstance(inner, str) else inner, _ErrorBody)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _ErrorBody()


def _param(words: str) -> str | None:
    """Name the field that llama.cpp complains about, in our callers' words."""
    if "grammar" in words or "schema" in words:
        return "response_format"
    if words.startswith("field '"):
        return words.split("'")[1]
    return None
