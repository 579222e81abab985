"""llama.cpp's own HTTP: ``/completion`` with token ids, timings and grammars.

Two ways to turn a conversation into text: ``transcript`` (ours, for base models) and ``model`` (the GGUF's
chat template, through the server's OpenAI routes). Text completions always use ``/completion``.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Literal

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
from underlay.domain.errors import BadRequest, EngineFailed, UnderlayError
from underlay.domain.prompt import Prompt, Tool
from underlay.live.engines import transcript
from underlay.live.engines.adapter import EngineRequest, Reader
from underlay.live.engines.openai import OpenAICompatible, malformed, read_error
from underlay.live.engines.schemas import closed, guard, moved
from underlay.live.engines.stream import Frames

#: What a base model is sampled with when the caller leaves it open: a small one wanders at llama.cpp's 0.8, and
#: even at 0.2 Gemma 3 270M ascribed Hamlet to King Lear every other time. Several answers must differ, though.
TRANSCRIPT_TEMPERATURE = 0.0
TRANSCRIPT_TEMPERATURE_OF_SEVERAL = 0.5

#: Compact JSON: a small model that may write white space between tokens may write it without end.
_COMPACT = {"x-guidance": {"whitespace_flexible": False, "coerce_one_of": True}}

Constraint = Literal["none", "json", "tool", "tool_or_text"]


class LlamaCpp:
    """The adapter of a llama.cpp server. ``template`` is how conversations become text."""

    def __init__(self, model: str, template: Literal["transcript", "model"] = "transcript") -> None:
        self._transcript = template == "transcript"
        self._openai = OpenAICompatible(model, count_path="/v1/chat/completions/input_tokens")

    def _delegates(self, prompt: Prompt) -> bool:
        return prompt.operation in ("chat", "count") and bool(prompt.messages) and not self._transcript

    def resumable(self, prompt: Prompt) -> bool:
        """Whether the strand carries no grammar, which another engine would begin anew."""
        return self._openai.resumable(prompt) if self._delegates(prompt) else constraint(prompt) == "none"

    def generate(self, prompt: Prompt, strand: int, resume: Resume | None) -> EngineRequest:
        """Ask for one strand; with ``resume``, for what comes after it, token by token where ids are known."""
        if self._delegates(prompt):
            return self._openai.generate(prompt, strand, resume)
        done = resume.completion_tokens if resume else 0
        body: dict[str, Any] = {
            "prompt": _continued(prompt, strand, resume),
            "stream": True,
            "return_tokens": True,
            "return_progress": True,
            "cache_prompt": True,
            **_sampling(prompt, strand, done),
            **_grammar(prompt),
        }
        return EngineRequest("POST", "/completion", msgspec.json.encode(body))

    def reader(self, prompt: Prompt, resume: Resume | None = None) -> Reader:
        """Make the reader of such a reply."""
        if self._delegates(prompt):
            return self._openai.reader(prompt, resume)
        return LlamaCppReader(prompt, resume)

    def warm(self, slot: int) -> EngineRequest | None:
        """Have a slot read the transcript's examples."""
        if not self._transcript:
            return None
        body = {"prompt": transcript.PREAMBLE, "n_predict": 0, "id_slot": slot, "cache_prompt": True}
        return EngineRequest("POST", "/completion", msgspec.json.encode(body))

    def count(self, prompt: Prompt) -> EngineRequest:
        """Ask for the tokens of what would be sent."""
        if self._delegates(prompt):
            return self._openai.count(prompt)
        text = "".join(t for t in prompt.texts if isinstance(t, str)) if prompt.texts else _text(prompt)
        body = {"content": text, "add_special": True}
        return EngineRequest("POST", "/tokenize", msgspec.json.encode(body))

    def read_count(self, body: bytes) -> int:
        """Read the answer to ``count``."""
        return self._openai.read_count(body)

    def embed(self, prompt: Prompt) -> EngineRequest:
        """Ask for embeddings; only a server started for them answers."""
        return self._openai.embed(prompt)

    def read_embeddings(self, body: bytes) -> tuple[Sequence[Sequence[float]], Usage]:
        """Read the answer to ``embed``."""
        return self._openai.read_embeddings(body)

    def error(self, status: int, body: bytes) -> UnderlayError:
        """Say what an answer other than 200 means."""
        return read_error(status, body)


def constraint(prompt: Prompt) -> Constraint:
    """What the engine's grammar holds the answer to."""
    if prompt.operation == "chat" and prompt.tools and prompt.tool_choice.mode != "none":
        return "tool_or_text" if prompt.tool_choice.mode == "auto" else "tool"
    return "json" if prompt.format.kind != "text" else "none"


def _text(prompt: Prompt) -> str:
    return transcript.render(prompt) if prompt.messages else ""


def _start(prompt: Prompt, strand: int) -> str | tuple[int, ...]:
    """What the engine reads before it writes the first token."""
    return prompt.texts[strand // prompt.n] if prompt.operation == "completion" else _text(prompt)


def _continued(prompt: Prompt, strand: int, resume: Resume | None) -> str | list[int | str]:
    """The prompt and what was delivered of its answer, as llama.cpp takes it: text, ids, or both mixed.

    A list of nothing but strings would mean several prompts, so text without ids is joined.
    """
    start = _start(prompt, strand)
    parts: list[int | str] = list(resume.parts or (resume.text,)) if resume else []
    if parts and isinstance(parts[0], str) and _trims(prompt):
        parts[0] = f" {parts[0]}"
    if isinstance(start, tuple):
        return [*start, *parts]
    if any(isinstance(part, int) for part in parts):
        return [start, *parts]
    return start + "".join(str(part) for part in parts)


def _trims(prompt: Prompt) -> bool:
    """Whether the answer begins with white space that belongs to the transcript, not to the answer."""
    return prompt.operation == "chat" and not transcript.prefilled(prompt)


def _sampling(prompt: Prompt, strand: int, done_tokens: int) -> dict[str, Any]:
    wanted = prompt.sampling
    chat = prompt.operation == "chat"
    temperature = wanted.temperature
    if temperature is None and chat:
        temperature = TRANSCRIPT_TEMPERATURE if prompt.n == 1 else TRANSCRIPT_TEMPERATURE_OF_SEVERAL
    stops = wanted.stop + (transcript.STOPS if chat else ())
    values: dict[str, Any] = {
        "n_predict": -1 if wanted.max_tokens is None else max(0, wanted.max_tokens - done_tokens),
        "temperature": temperature,
        "top_k": wanted.top_k,
        "top_p": wanted.top_p,
        "min_p": wanted.min_p,
        # Strands of one request would otherwise all be the same.
        "seed": None if wanted.seed is None else (wanted.seed + strand % prompt.n) & 0xFFFF_FFFF,
        "presence_penalty": wanted.presence_penalty,
        "frequency_penalty": wanted.frequency_penalty,
        "stop": stops or None,
        "n_probs": None if wanted.logprobs is None else max(1, wanted.logprobs),
    }
    if wanted.logit_bias:
        values["logit_bias"] = [[_token_id(token), bias] for token, bias in wanted.logit_bias.items()]
    return {name: value for name, value in values.items() if value is not None}


def _token_id(token: str) -> int:
    try:
        return int(token)
    except ValueError:
        raise BadRequest("logit_bias: keys must be token ids.", param="logit_bias") from None


def _grammar(prompt: Prompt) -> dict[str, Any]:
    kind = constraint(prompt)
    if kind == "none":
        return {}
    if kind == "json":
        schema = prompt.format.schema if prompt.format.kind == "json_schema" else None
        if prompt.format.kind == "json_schema":
            guard(schema, "response_format")
        return {"json_schema": {**closed(schema or {"type": "object"}), **_COMPACT}}
    calls = _call_schema(prompt)
    if kind == "tool":
        return {"json_schema": calls}
    # The engine's grammar language: a call, or any text that does not begin like one.
    encoded = msgspec.json.encode(calls).decode()
    return {
        "grammar": f'%llguidance {{}}\nstart: call | text\ncall: " "? %json {encoded}\n'
        "text: / ?[^{\\s][\\s\\S]*/\n"
    }


def _call_schema(prompt: Prompt) -> dict[str, Any]:
    """What a call of one of the tools looks like, as JSON schema."""
    choice = prompt.tool_choice
    tools = [t for t in prompt.tools if choice.mode != "named" or t.name == choice.name]
    if not tools:
        raise BadRequest(f"tool_choice names {choice.name!r}, which is none of the tools.", param="tool_choice")
    for index, tool in enumerate(prompt.tools):
        guard(tool.parameters, f"tools[{index}]")
    if len(tools) == 1:
        return {**_one_call(tools[0], "#"), **_COMPACT}
    return {"anyOf": [_one_call(tool, f"#/anyOf/{index}") for index, tool in enumerate(tools)], **_COMPACT}


def _one_call(tool: Tool, place: str) -> dict[str, Any]:
    parameters = moved(closed(tool.parameters), f"{place}/properties/arguments")
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": {**parameters, "type": "object"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


class _Probability(Struct):
    token: str = ""
    # The engine writes null for a probability of nought.
    logprob: float | None = 0.0
    top_logprobs: list[_Probability] = []


class _Timings(Struct):
    cache_n: int = 0
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class _Progress(Struct):
    total: int = 0
    cache: int = 0


class _Chunk(Struct):
    content: str = ""
    tokens: list[int] = []
    stop: bool = False
    tokens_predicted: int = 0
    tokens_evaluated: int | None = None
    stop_type: str = ""
    stopping_word: str = ""
    timings: _Timings | None = None
    prompt_progress: _Progress | None = None
    completion_probabilities: list[_Probability] = []
    error: Any = None


_DECODE = msgspec.json.Decoder(_Chunk).decode


class LlamaCppReader:
    """Reads the events of one ``/completion``.

    llama.cpp sends ids before their text where the text may still turn out to be part of a stop string, and
    no event at all for a part of a character. Here ids wait for their text: an event carries text together
    with all the ids behind it, or with none where the engine kept some to itself.
    """

    def __init__(self, prompt: Prompt, resume: Resume | None = None) -> None:
        self._frames = Frames()
        self._chat = prompt.operation == "chat"
        self._stops = prompt.sampling.stop
        self._top = prompt.sampling.logprobs
        self._resumed_tokens = resume.completion_tokens if resume else 0
        self._trim = _trims(prompt) and not (resume and resume.text)
        self._shape = _SHAPES[constraint(prompt)](prompt)
        self._cached: int | None = None
        self._seen_tokens = 0
        self._ids: list[int] = []
        self._ids_whole = True
        self._logprobs: list[TokenLogprob] = []
        self._ended = False

    def feed(self, data: bytes) -> list[EngineEvent]:
        """Take body bytes, return the events they complete."""
        events = []
        for payload in self._frames.feed(data):
            if payload == b"[DONE]" or self._ended:
                continue
            event = self._event(payload)
            if event is not None:
                events.append(event)
        return events

    def finish(self) -> None:
        """Raise unless the last event had come."""
        if not self._ended:
            raise EngineFailed("The engine stopped in mid-answer.", reason="upstream_cut")

    def _event(self, payload: bytes) -> EngineEvent | None:
        try:
            chunk = _DECODE(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise malformed() from error
        if chunk.error is not None:
            raise read_error(500, payload, streamed=True)
        if chunk.prompt_progress is not None:
            # News of the prefill; what it lists as a token is none.
            self._cached = chunk.prompt_progress.cache
            return None
        self._hold(chunk)
        piece = self._piece(chunk)
        if piece is None and not chunk.stop:
            return None
        return self._release(chunk, piece)

    def _hold(self, chunk: _Chunk) -> None:
        """Keep ids and logprobs until the text they belong to comes."""
        if chunk.tokens_predicted - self._seen_tokens > len(chunk.tokens):
            self._ids_whole = False
        self._seen_tokens = max(self._seen_tokens, chunk.tokens_predicted)
        self._ids += chunk.tokens
        if self._top is not None:
            self._logprobs += [_logprob(p, self._top) for p in chunk.completion_probabilities]

    def _piece(self, chunk: _Chunk) -> Piece | None:
        text = chunk.content
        if self._trim:
            text = text.lstrip()
            self._trim = not text
        text, calls = self._shape.feed(text)
        if not text and not calls:
            return None
        logprobs, self._logprobs = tuple(self._logprobs), []
        return Piece(text, calls, logprobs)

    def _release(self, chunk: _Chunk, piece: Piece | None) -> EngineEvent:
        ids = tuple(self._ids) if self._ids_whole and piece else ()
        if piece is not None:
            self._ids, self._ids_whole = [], True
        timings = chunk.timings
        if timings is not None:
            self._cached = timings.cache_n
        prompt_tokens = chunk.tokens_evaluated
        if prompt_tokens is not None:
            prompt_tokens = max(0, prompt_tokens - self._resumed_tokens)
        cached = self._cached
        if cached is not None and prompt_tokens is not None:
            cached = min(cached, prompt_tokens)
        return EngineEvent(
            piece=piece,
            tokens=ids,
            completion_tokens=self._seen_tokens,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached,
            end=self._end(chunk) if chunk.stop else None,
            timings=Timings(timings.prompt_ms, timings.predicted_ms) if timings else None,
        )

    def _end(self, chunk: _Chunk) -> StrandEnd:
        self._ended = True
        finish: Finish = "length" if chunk.stop_type == "limit" else "stop"
        if finish == "stop":
            finish = self._shape.finish(cut=chunk.stop_type == "word")
        # The template's own stop strings are our business; only the caller's are worth telling.
        met = chunk.stop_type == "word" and chunk.stopping_word in self._stops
        return StrandEnd(finish, chunk.stopping_word if met else None)


def _logprob(probability: _Probability, top: int) -> TokenLogprob:
    floor = -9999.0
    best = tuple(
        TokenLogprob(p.token, floor if p.logprob is None else p.logprob) for p in probability.top_logprobs[:top]
    )
    return TokenLogprob(probability.token, floor if probability.logprob is None else probability.logprob, best)


class _Free:
    """An answer held to nothing."""

    def __init__(self, prompt: Prompt) -> None:
        del prompt

    def feed(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        return text, ()

    def finish(self, *, cut: bool) -> Finish:
        del cut
        return "stop"


class _Json:
    """An answer that must be JSON.

    llama.cpp drops a schema that it cannot compile and generates freely; the first character tells.
    """

    _BEGINNINGS = '{["-0123456789tfn'

    def __init__(self, prompt: Prompt) -> None:
        self._beginnings = "{" if prompt.format.kind == "json_object" else self._BEGINNINGS
        self._text = ""

    def feed(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        if text and not self._text and text[0] not in self._beginnings:
            raise BadRequest("The engine cannot hold an answer to this schema.", param="response_format")
        self._text += text
        return text, ()

    def finish(self, *, cut: bool) -> Finish:
        try:
            msgspec.json.decode(self._text)
        except msgspec.DecodeError:
            if not cut:
                raise EngineFailed("The engine left the schema.", reason="upstream_malformed") from None
        return "stop"


class _Call:
    """An answer that must be, or (with ``auto``) may be, one call: ``{"name":"…","arguments":{…}}``."""

    def __init__(self, prompt: Prompt) -> None:
        self._must = constraint(prompt) == "tool"
        self._written = ""
        self._free = False
        self._arguments: _Value | None = None

    def feed(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        if self._free or not text:
            return text, ()
        if self._arguments is not None:
            more = self._arguments.feed(text)
            return "", (ToolCallDelta(0, arguments=more),) if more else ()
        self._written += text
        if not self._written.startswith("{"):
            return self._plain()
        return self._opened()

    def _plain(self) -> tuple[str, tuple[ToolCallDelta, ...]]:
        if self._must:
            raise BadRequest("The engine cannot hold an answer to the schemas of these tools.", param="tools")
        self._free = True
        return self._written, ()

    def _opened(self) -> tuple[str, tuple[ToolCallDelta, ...]]:
        head, mark, rest = self._written.partition('"arguments":')
        if not mark:
            return "", ()
        try:
            name = msgspec.json.decode(head + '"arguments":null}')["name"]
        except (msgspec.DecodeError, KeyError):
            # The mark was part of the tool's name, or there is more to come.
            return "", ()
        self._arguments = _Value()
        opening = ToolCallDelta(0, id=_call_id(), name=str(name), arguments=self._arguments.feed(rest))
        return "", (opening,)

    def finish(self, *, cut: bool) -> Finish:
        if self._arguments is not None and self._arguments.whole:
            return "tool_calls"
        if cut or self._free or (not self._must and not self._written):
            return "stop"
        raise EngineFailed("The engine did not finish its tool call.", reason="upstream_malformed")


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


class _Value:
    """Passes on exactly one JSON object out of text that goes on after it."""

    def __init__(self) -> None:
        self._depth = 0
        self._string = False
        self._escaped = False
        self.whole = False

    def feed(self, text: str) -> str:
        """Take text, return what of it belongs to the object."""
        if self.whole:
            return ""
        for index, character in enumerate(text):
            self._step(character)
            if self.whole:
                return text[: index + 1]
        return text

    def _step(self, character: str) -> None:
        if self._string:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self._string = False
        elif character == '"':
            self._string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            self.whole = self._depth == 0


_SHAPES: dict[Constraint, type[_Free | _Json | _Call]] = {
    "none": _Free,
    "json": _Json,
    "tool": _Call,
    "tool_or_text": _Call,
}
