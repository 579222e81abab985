"""The OpenAI API as engines speak it: vLLM, llama.cpp with a chat template, any compatible server.

Such servers give no token ids in their streams, so a strand goes on elsewhere from its text: a chat by a last
message of the assistant that the server continues, a completion by prompt plus text.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    Usage,
)
from underlay.domain.errors import (
    BadRequest,
    EngineFailed,
    NotSupported,
    Overloaded,
    PromptTooLong,
    UnderlayError,
)
from underlay.domain.prompt import Message, Prompt
from underlay.live.engines.adapter import EngineRequest, Reader
from underlay.live.engines.schemas import guard
from underlay.live.engines.stream import Frames

_FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class OpenAICompatible:
    """The adapter of a server that speaks the OpenAI API.

    ``model`` is the name the server knows it by; ``prefix`` is what comes before ``/v1`` in its address;
    ``count_path`` is where tokens are counted: vLLM's ``/tokenize``, or llama.cpp's route.
    """

    def __init__(self, model: str, *, api_key: str = "", prefix: str = "", count_path: str = "/tokenize") -> None:
        self._model = model
        self._prefix = prefix
        self._count_path = count_path
        self._headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
        if api_key:
            self._headers += (("authorization", f"Bearer {api_key}"),)

    def _post(self, path: str, body: dict[str, Any]) -> EngineRequest:
        encoded = msgspec.json.encode({"model": self._model, **body})
        return EngineRequest("POST", self._prefix + path, encoded, self._headers)

    def resumable(self, prompt: Prompt) -> bool:
        """Whether the strand carries no grammar, which another engine would begin anew."""
        calls = bool(prompt.tools) and prompt.tool_choice.mode != "none"
        return not calls and prompt.format.kind == "text"

    def generate(self, prompt: Prompt, strand: int, resume: Resume | None) -> EngineRequest:
        """Ask for one strand, streamed; with ``resume``, for what comes after the delivered text."""
        body: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        body |= _sampling(prompt, strand, resume.completion_tokens if resume else 0)
        if prompt.operation == "completion":
            body["prompt"] = _completion_prompt(prompt, strand, resume)
            if prompt.sampling.logprobs is not None:
                body["logprobs"] = prompt.sampling.logprobs
            return self._post("/v1/completions", body)
        if prompt.sampling.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": prompt.sampling.logprobs}
        return self._post("/v1/chat/completions", body | _chat(prompt, resume))

    def reader(self, prompt: Prompt, resume: Resume | None = None) -> Reader:
        """Make the reader of such a reply."""
        return OpenAIReader(prompt, resume)

    def warm(self, slot: int) -> None:
        """Nothing: the server knows its own template."""

    def count(self, prompt: Prompt) -> EngineRequest:
        """Ask how many tokens a prompt is. A server without such a route answers 404: use ``estimate_tokens``."""
        if prompt.messages:
            body = _chat(prompt, None)
        else:
            body = {"prompt": "".join(t for t in prompt.texts if isinstance(t, str))}
        return self._post(self._count_path, body)

    def read_count(self, body: bytes) -> int:
        """Read vLLM's ``count``, llama.cpp's ``input_tokens`` or the length of ``tokens``."""
        try:
            answer = msgspec.json.decode(body, type=_Counted)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise malformed() from error
        for number in (answer.count, answer.input_tokens):
            if number is not None:
                return number
        if answer.tokens is None:
            raise malformed()
        return len(answer.tokens)

    def embed(self, prompt: Prompt) -> EngineRequest:
        """Ask for the embeddings of ``prompt.texts``."""
        texts = [text if isinstance(text, str) else list(text) for text in prompt.texts]
        return self._post("/v1/embeddings", {"input": texts, "encoding_format": "float"})

    def read_embeddings(self, body: bytes) -> tuple[Sequence[Sequence[float]], Usage]:
        """Read the answer to ``embed``, in the order of the texts."""
        try:
            answer = msgspec.json.decode(body, type=_Embedded)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise malformed() from error
        rows = sorted(answer.data, key=lambda row: row.index)
        return [row.embedding for row in rows], Usage(prompt_tokens=answer.usage.prompt_tokens)

    def error(self, status: int, body: bytes) -> UnderlayError:
        """Say what an answer other than 200 means."""
        return read_error(status, body)


def estimate_tokens(prompt: Prompt) -> int:
    """Guess how many tokens a prompt is where its server cannot count: four bytes to a token, as in English."""
    return -(-prompt.size_bytes() // 4)


def _sampling(prompt: Prompt, strand: int, done_tokens: int) -> dict[str, Any]:
    wanted = prompt.sampling
    values = {
        "max_tokens": None if wanted.max_tokens is None else max(1, wanted.max_tokens - done_tokens),
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "top_k": wanted.top_k,
        "min_p": wanted.min_p,
        # Strands of one request would otherwise all be the same.
        "seed": None if wanted.seed is None else wanted.seed + strand % prompt.n,
        "presence_penalty": wanted.presence_penalty,
        "frequency_penalty": wanted.frequency_penalty,
        "logit_bias": wanted.logit_bias,
        "stop": list(wanted.stop) or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _completion_prompt(prompt: Prompt, strand: int, resume: Resume | None) -> str | list[int]:
    start = prompt.texts[strand // prompt.n]
    if isinstance(start, str):
        return start + (resume.text if resume else "")
    ids = [part for part in resume.parts if isinstance(part, int)] if resume else []
    if resume and len(ids) != len(resume.parts):
        raise EngineFailed("A prompt of token ids cannot go on from text.", reason="not_resumable")
    return [*start, *ids]


def _chat(prompt: Prompt, resume: Resume | None) -> dict[str, Any]:
    messages = list(prompt.messages)
    if resume and resume.text:
        begun = messages.pop().text if _prefilled(messages) else ""
        messages.append(Message("assistant", begun + resume.text))
    body: dict[str, Any] = {"messages": [_message(m) for m in messages]}
    if _prefilled(messages):
        # vLLM needs telling; llama.cpp continues a last message of the assistant by itself.
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    if prompt.tools:
        body["tools"] = [_tool(prompt, index) for index in range(len(prompt.tools))]
        body["tool_choice"] = _tool_choice(prompt)
        if not prompt.parallel_tool_calls:
            body["parallel_tool_calls"] = False
    return body | _format(prompt)


def _prefilled(messages: list[Message]) -> bool:
    return bool(messages) and messages[-1].role == "assistant" and not messages[-1].tool_calls


def _message(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        body["content"] = message.text or None
        body["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        body["name"] = message.name
    return body


def _tool(prompt: Prompt, index: int) -> dict[str, Any]:
    tool = prompt.tools[index]
    guard(tool.parameters, f"tools[{index}]")
    parameters = tool.parameters or {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _tool_choice(prompt: Prompt) -> Any:
    choice = prompt.tool_choice
    if choice.mode != "named":
        return choice.mode
    if all(tool.name != choice.name for tool in prompt.tools):
        raise BadRequest(f"tool_choice names {choice.name!r}, which is none of the tools.", param="tool_choice")
    return {"type": "function", "function": {"name": choice.name}}


def _format(prompt: Prompt) -> dict[str, Any]:
    if prompt.format.kind == "text":
        return {}
    if prompt.format.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    guard(prompt.format.schema, "response_format")
    schema = {"name": prompt.format.name or "answer", "schema": prompt.format.schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


class _Counted(Struct):
    count: int | None = None
    input_tokens: int | None = None
    tokens: list[Any] | None = None


class _Cached(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None


class _Embedding(Struct):
    embedding: list[float]
    index: int = 0


class _Embedded(Struct):
    data: list[_Embedding]
    usage: _Usage = msgspec.field(default_factory=_Usage)


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
    usage: _Usage | None = None
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
        self._usage: _Usage | None = None
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
