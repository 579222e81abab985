"""From an answer to one response object or to a stream of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from underlay.dialects.delivery import id_stem
from underlay.dialects.energy import energy_fields
from underlay.dialects.gemini.errors import error_body
from underlay.domain.answer import (
    Opening,
    Piece,
    Receipt,
    Strand,
    StrandEnd,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from underlay.domain.errors import EngineFailed, UnderlayError
from underlay.domain.prompt import ToolCall

_encode = msgspec.json.Encoder().encode

#: The vendor says STOP for function calls too.
FINISH_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}

NOTHING: list[dict[str, Any]] = [{"text": ""}]
"""The parts of a candidate with nothing to say: without any, the SDK's chats take a turn for a failed one."""


def usage_fields(usage: Usage) -> dict[str, int]:
    """Tokens in the vendor's sense: the prompt's include those from a cache."""
    fields = {
        "promptTokenCount": usage.prompt_tokens,
        "candidatesTokenCount": usage.completion_tokens,
        "totalTokenCount": usage.total_tokens,
    }
    if usage.cached_tokens:
        fields["cachedContentTokenCount"] = usage.cached_tokens
    return fields


def whole(opening: Opening, strands: Sequence[Strand], receipt: Receipt) -> bytes:
    """Write a whole response with a candidate for each strand."""
    return _encode(
        {
            "candidates": [_candidate(index, strand) for index, strand in enumerate(strands)],
            "usageMetadata": {**usage_fields(receipt.usage), **energy_fields(opening, receipt)},
            **_signature(opening),
        }
    )


def _signature(opening: Opening) -> dict[str, str]:
    return {"modelVersion": opening.model, "responseId": id_stem(opening.request_id)}


def _candidate(index: int, strand: Strand) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": strand.text}] if strand.text else []
    calls = [_call_part(call) for call in strand.tool_calls]
    parts += [part for part in calls if part is not None]
    candidate: dict[str, Any] = {
        "content": {"parts": parts or NOTHING, "role": "model"},
        "finishReason": _finish_reason(strand.end, None in calls),
        "index": index,
    }
    if strand.logprobs:
        total = sum(entry.logprob for entry in strand.logprobs)
        candidate["avgLogprobs"] = total / len(strand.logprobs)
        candidate["logprobsResult"] = _logprobs_result(strand.logprobs)
    return candidate


def _finish_reason(end: StrandEnd, malformed: bool) -> str:
    if malformed and end.finish != "length":
        return "MALFORMED_FUNCTION_CALL"
    return FINISH_REASONS[end.finish]


def _call_part(call: ToolCall) -> dict[str, Any] | None:
    """Make the part of a call; ``None`` if the model did not write a JSON object for it."""
    try:
        arguments = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(arguments, dict):
        return None
    return {"functionCall": {"name": call.name, "args": arguments}}


def _logprobs_result(entries: Sequence[TokenLogprob]) -> dict[str, Any]:
    result: dict[str, Any] = {"chosenCandidates": [_logprob(entry) for entry in entries]}
    if any(entry.top for entry in entries):
        result["topCandidates"] = [{"candidates": [_logprob(other) for other in entry.top]} for entry in entries]
    return result


def _logprob(entry: TokenLogprob) -> dict[str, Any]:
    return {"token": entry.token, "logProbability": entry.logprob}


class _StrandState:
    """What a stream must remember of one candidate: its precomputed bytes and the call being collected."""

    def __init__(self, index: int, before: bytes) -> None:
        self.before = before + b'{"candidates":[{"content":{"parts":[{"text":'
        self.after = b'}],"role":"model"},"index":%d}]' % index
        self.call: int | None = None
        self.call_name = ""
        self.call_arguments: list[str] = []
        self.calls_seen = 0
        self.malformed = False

    def take_call(self) -> list[dict[str, Any]]:
        """End the call being collected and make its part."""
        if self.call is None:
            return []
        part = _call_part(ToolCall("", self.call_name, "".join(self.call_arguments)))
        self.call = None
        self.malformed = self.malformed or part is None
        return [] if part is None else [part]

    def add_call(self, delta: ToolCallDelta) -> list[dict[str, Any]]:
        """Collect a part of a call; gives the part of the call before it, if that ends with this one."""
        ended: list[dict[str, Any]] = []
        if delta.index != self.call:
            if delta.index < self.calls_seen:
                raise EngineFailed("The engine went back to a tool call that had ended.")
            ended = self.take_call()
            self.call, self.calls_seen = delta.index, delta.index + 1
            self.call_name, self.call_arguments = "", []
        self.call_name = self.call_name or delta.name or ""
        self.call_arguments.append(delta.arguments)
        return ended


class ChunkWriter:
    """Writes a stream of response objects, as events or as one JSON array that grows.

    Function calls are sent whole. The end of the last candidate waits for the receipt, because the vendor
    puts finish reason and usage into the same last chunk, and a chunk must have a candidate.
    """

    def __init__(self, opening: Opening, strands: int, *, events: bool) -> None:
        signature = _encode(_signature(opening))[1:]
        self._opening = opening
        self._events = events
        self._before = b"data: " if events else b",\n"
        self._after = b"," + signature + (b"\r\n\r\n" if events else b"\n")
        self._started = events  # only an array begins differently
        self._states = [_StrandState(index, self._before) for index in range(strands)]
        self._after_text = [state.after + self._after for state in self._states]
        self._open_strands = strands
        self._held: dict[str, Any] | None = None

    def open(self, usage: Usage) -> bytes:  # noqa: ARG002  the last chunk tells it
        """Write nothing: every chunk is complete in itself."""
        return b""

    def piece(self, strand: int, piece: Piece) -> bytes:
        """Write text; collect function calls."""
        state = self._states[strand]
        text = piece.text
        if text and self._started and state.call is None and not piece.tool_calls and not piece.logprobs:
            return state.before + _encode(text) + self._after_text[strand]  # nearly every token
        parts = state.take_call() if text else []
        if text:
            parts.append({"text": text})
        for delta in piece.tool_calls:
            parts += state.add_call(delta)
        if not parts and not piece.logprobs:
            return b""
        candidate = self._candidate(strand, parts or NOTHING)
        if piece.logprobs:
            candidate["logprobsResult"] = _logprobs_result(piece.logprobs)
        return self._chunk({"candidates": [candidate]})

    def end(self, strand: int, end: StrandEnd) -> bytes:
        """Write the candidate's last chunk, or keep it for the receipt if it is the last of all."""
        state = self._states[strand]
        candidate = self._candidate(strand, state.take_call() or NOTHING)
        candidate["finishReason"] = _finish_reason(end, state.malformed)
        self._open_strands -= 1
        if self._open_strands > 0:
            return self._chunk({"candidates": [candidate]})
        self._held = candidate
        return b""

    def close(self, receipt: Receipt) -> bytes:
        """Write the last chunk, with the usage."""
        candidates = {} if self._held is None else {"candidates": [self._held]}
        usage = {**usage_fields(receipt.usage), **energy_fields(self._opening, receipt)}
        last = self._chunk({**candidates, "usageMetadata": usage})
        return last if self._events else last + b"]"

    def fail(self, error: UnderlayError) -> bytes:
        """Write the error object where the next chunk would stand."""
        body = error_body(error, self._opening.request_id)
        if self._events:
            return b"data: " + body + b"\r\n\r\n"
        return (b",\n" if self._started else b"[") + body + b"\n]"

    def _candidate(self, strand: int, parts: list[dict[str, Any]]) -> dict[str, Any]:
        return {"content": {"parts": parts, "role": "model"}, "index": strand}

    def _chunk(self, fields: dict[str, Any]) -> bytes:
        before = self._before if self._started else b"["
        self._started = True
        return before + _encode(fields)[:-1] + self._after
