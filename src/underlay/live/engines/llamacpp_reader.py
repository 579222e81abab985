"""What llama.cpp writes in answer to ``/completion``, held to what was asked of it.

The engine drops a grammar that it cannot compile without a word, so whoever reads checks: an answer that should
be JSON or a call is refused where it is neither.
"""

from __future__ import annotations

import secrets
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
from underlay.domain.errors import BadRequest, EngineFailed
from underlay.domain.prompt import Prompt
from underlay.live.engines import transcript
from underlay.live.engines.constraint import Constraint, constraint, written
from underlay.live.engines.openai_reader import malformed, read_error
from underlay.live.engines.stream import Frames


def trims(prompt: Prompt) -> bool:
    """Whether the answer begins with white space that belongs to the transcript, not to the answer."""
    return prompt.operation == "chat" and not transcript.prefilled(prompt)


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
        begun = written(resume)
        self._trim = trims(prompt) and not begun
        self._shape = _SHAPES[constraint(prompt)](prompt)
        # What was delivered by earlier attempts is read again, as nobody else remembers where in it they are.
        self._shape.feed(begun)
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
