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
from underlay.domain.prompt import Prompt, Tool
from underlay.live.engines import transcript
from underlay.live.engines.adapter import EngineRequest, Reader
from underlay.live.engines.llamacpp_reader import LlamaCppReader, constraint, trims
from underlay.live.engines.openai import OpenAICompatible
from underlay.live.engines.openai_reader import read_error
from underlay.live.engines.schemas import closed, guard, moved

#: What a base model is sampled with when the caller leaves it open: a small one wanders at llama.cpp's 0.8, and
#: even at 0.2 Gemma 3 270M ascribed Hamlet to King Lear every other time. Several answers must differ, though.
TRANSCRIPT_TEMPERATURE = 0.0
TRANSCRIPT_TEMPERATURE_OF_SEVERAL = 0.5

#: Compact JSON: a small model that may write white space between tokens may write it without end.
_COMPACT = {"x-guidance": {"whitespace_flexible": False, "coerce_one_of": True}}


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
    if parts and isinstance(parts[0], str) and trims(prompt):
        parts[0] = f" {parts[0]}"
    if isinstance(start, tuple):
        return [*start, *parts]
    if any(isinstance(part, int) for part in parts):
        return [start, *parts]
    return start + "".join(str(part) for part in parts)


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
