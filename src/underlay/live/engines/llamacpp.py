"""llama.cpp's own HTTP: ``/completion`` with token ids, timings and grammars.

Two ways to turn a conversation into text: ``transcript`` (ours, for base models) and ``model`` (the GGUF's
chat template, through the server's OpenAI routes). Text completions always use ``/completion``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from underlay.domain.answer import Resume, Usage
from underlay.domain.errors import BadRequest, UnderlayError
from underlay.domain.prompt import Prompt
from underlay.live.engines import constraint, transcript
from underlay.live.engines.adapter import EngineRequest, Reader
from underlay.live.engines.llamacpp_reader import LlamaCppReader, trims
from underlay.live.engines.openai import OpenAICompatible
from underlay.live.engines.openai_reader import read_error
from underlay.live.engines.slots import Seat

#: What a base model is sampled with when the caller leaves it open: a small one wanders at llama.cpp's 0.8, and
#: even at 0.2 Gemma 3 270M ascribed Hamlet to King Lear every other time. Several answers must differ, though.
TRANSCRIPT_TEMPERATURE = 0.0
TRANSCRIPT_TEMPERATURE_OF_SEVERAL = 0.5


_OPENING_LENGTH = 256
#: How long a token is taken to be where nobody counted.
_TOKEN_BYTES = 4


class _WarmTimings(msgspec.Struct):
    prompt_n: int


class _Warmed(msgspec.Struct):
    timings: _WarmTimings


_WARMED = msgspec.json.Decoder(_Warmed)


class _Delegate(OpenAICompatible):
    """The OpenAI API of a llama.cpp server, which takes llama.cpp's own fields too."""

    def place(self, seat: Seat | None) -> dict[str, Any]:
        return _place(seat)


class LlamaCpp:
    """The adapter of a llama.cpp server. ``template`` is how conversations become text."""

    def __init__(self, model: str, template: Literal["transcript", "model"] = "transcript") -> None:
        self._transcript = template == "transcript"
        self._openai = _Delegate(model, count_path="/v1/chat/completions/input_tokens")

    def _delegates(self, prompt: Prompt) -> bool:
        return prompt.operation in ("chat", "count") and bool(prompt.messages) and not self._transcript

    def resumable(self, prompt: Prompt) -> bool:
        """Whether the strand can go on elsewhere: its grammar, if it has one, can be replayed."""
        return self._openai.resumable(prompt) if self._delegates(prompt) else constraint.resumable(prompt)

    def opening(self, prompt: Prompt) -> int:
        """By the first turns of a chat, which later requests repeat, or by how a text begins."""
        if prompt.messages:
            first = next((place for place, turn in enumerate(prompt.messages) if turn.role == "user"), 0)
            return hash(tuple(turn.text for turn in prompt.messages[: first + 1]))
        return hash(prompt.texts[0][:_OPENING_LENGTH]) if prompt.texts else 0

    def generate(
        self, prompt: Prompt, strand: int, resume: Resume | None, seat: Seat | None = None
    ) -> EngineRequest:
        """Ask for one strand; with ``resume``, for what comes after it, token by token where ids are known."""
        if self._delegates(prompt):
            return self._openai.generate(prompt, strand, resume, seat)
        done = resume.completion_tokens if resume else 0
        body: dict[str, Any] = {
            "prompt": _continued(prompt, strand, resume),
            "stream": True,
            "return_tokens": True,
            "return_progress": True,
            **_place(seat),
            **_sampling(prompt, strand, done),
            **constraint.held(prompt, resume),
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

    def read_warm(self, body: bytes) -> int:
        """Read the answer to ``warm``; an engine that does not count is taken to have read four bytes a token."""
        try:
            read = _WARMED.decode(body).timings.prompt_n
        except msgspec.MsgspecError:
            return len(transcript.PREAMBLE) // _TOKEN_BYTES
        return max(read, 0)

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


def _place(seat: Seat | None) -> dict[str, Any]:
    """The slot, and whether what is in it may be used; without a slot, the host's memory must not be either."""
    if seat is None:
        return {"cache_prompt": True}
    return {"cache_prompt": seat.reuse} | ({"id_slot": seat.slot} if seat.slot >= 0 else {})


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
    parts: list[int | str] = list(resume.parts or (constraint.written(resume),)) if resume else []
    if parts and isinstance(parts[0], str) and trims(prompt) and _free(prompt, parts[0]):
        parts[0] = f" {parts[0]}"
    if isinstance(start, tuple):
        return [*start, *parts]
    if any(isinstance(part, int) for part in parts):
        return [start, *parts]
    return start + "".join(str(part) for part in parts)


def _free(prompt: Prompt, begun: str) -> bool:
    """Whether the answer begins as text does, with a space; a grammar lets none in before JSON."""
    kind = constraint.constraint(prompt)
    return kind == "none" or (kind == "tool_or_text" and not begun.startswith("{"))


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
