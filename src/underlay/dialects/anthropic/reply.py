# ruff: noqa: ARG002  (the vendor has one strand, so its number says nothing)
"""From an answer to a whole ``message`` or to the frames of its stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from underlay.dialects.anthropic.errors import error_body
from underlay.dialects.delivery import id_stem
from underlay.dialects.energy import energy_fields
from underlay.domain.answer import Opening, Piece, Receipt, Strand, StrandEnd, ToolCallDelta, Usage
from underlay.domain.errors import EngineFailed, UnderlayError
from underlay.domain.prompt import Ask

_encode = msgspec.json.Encoder().encode

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}

#: Under this name a tool call's input stands if the model wrote something that is not a JSON object.
UNPARSED = "_unparsed"


def usage_fields(usage: Usage, band: str) -> dict[str, int | str]:
    """Tokens in the vendor's sense: ``input_tokens`` are those that no cache held. Tiers have the bands' names."""
    fields: dict[str, int | str] = {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
    if band:
        fields["service_tier"] = band
    return fields


def stop_fields(end: StrandEnd) -> dict[str, str | None]:
    """Why the message ended, in the vendor's words."""
    if end.finish == "stop" and end.stop_string is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": end.stop_string}
    return {"stop_reason": STOP_REASONS[end.finish], "stop_sequence": None}


def message_id(opening: Opening) -> str:
    """The message's id, derived from the request's."""
    return f"msg_{id_stem(opening.request_id)}"


def tool_use_id(opening: Opening, index: int) -> str:
    """The id of the message's tool call number ``index``."""
    return f"toolu_{id_stem(opening.request_id)}_{index}"


def whole(ask: Ask, opening: Opening, strands: Sequence[Strand], receipt: Receipt) -> bytes:
    """Write a whole message. There is one strand: the vendor knows no alternatives."""
    strand = strands[0]
    return _encode(
        {
            "id": message_id(opening),
            "type": "message",
            "role": "assistant",
            "model": opening.model,
            "content": _content(opening, strand),
            **stop_fields(strand.end),
            "usage": {**usage_fields(receipt.usage, ask.band), **energy_fields(opening, receipt)},
            "x_cost": {"usd": receipt.cost_usd},
        }
    )


def _content(opening: Opening, strand: Strand) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": strand.text}] if strand.text else []
    for index, call in enumerate(strand.tool_calls):
        blocks.append(
            {
                "type": "tool_use",
                "id": tool_use_id(opening, index),
                "name": call.name,
                "input": _input(call.arguments),
            }
        )
    return blocks


def _input(arguments: str) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return {UNPARSED: arguments}
    return decoded if isinstance(decoded, dict) else {UNPARSED: arguments}


def frame(name: str, fields: dict[str, Any]) -> bytes:
    """Write one event. The SDKs only see events whose ``event`` line names them."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encode({"type": name, **fields}))


class MessageWriter:
    """Writes one message as events: one content block at a time, opened when something for it comes.

    Tool calls are streamed as the engine makes them, one after the other; an engine that goes back to a call
    it had left is an engine that failed, because a closed block cannot be opened again.
    """

    def __init__(self, ask: Ask, opening: Opening) -> None:
        self._band = ask.band
        self._opening = opening
        self._block = -1
        self._text_open = False
        self._call: int | None = None
        self._calls_seen = 0
        self._end = StrandEnd("stop")
        self._text_before = b""

    def open(self, usage: Usage) -> bytes:
        """Write ``message_start`` with the prompt's tokens."""
        message: dict[str, Any] = {
            "id": message_id(self._opening),
            "type": "message",
            "role": "assistant",
            "model": self._opening.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_fields(usage, self._band),
        }
        return frame("message_start", {"message": message})

    def piece(self, strand: int, piece: Piece) -> bytes:
        """Write text and parts of tool calls."""
        text = piece.text
        if self._text_open and text and not piece.tool_calls:  # nearly every token
            return self._text_before + _encode(text) + b"}}\n\n"
        written = self._text(text) if text else b""
        for delta in piece.tool_calls:
            written += self._tool(delta)
        return written

    def end(self, strand: int, end: StrandEnd) -> bytes:
        """Close the block that is still open."""
        self._end = end
        return self._close_block()

    def close(self, receipt: Receipt) -> bytes:
        """Write why it ended, what it used and what it cost."""
        ending = {
            "delta": stop_fields(self._end),
            "usage": {**usage_fields(receipt.usage, self._band), **energy_fields(self._opening, receipt)},
            "x_cost": {"usd": receipt.cost_usd},
        }
        return self._close_block() + frame("message_delta", ending) + frame("message_stop", {})

    def fail(self, error: UnderlayError) -> bytes:
        """Write the error event, which the SDKs raise."""
        return b"event: error\ndata: %s\n\n" % error_body(error, self._opening.request_id)

    def _text(self, text: str) -> bytes:
        written = b""
        if not self._text_open:
            written = self._close_block() + self._open_block({"type": "text", "text": ""})
            self._text_open = True
            self._text_before = self._delta_before("text_delta", "text")
        return written + self._text_before + _encode(text) + b"}}\n\n"

    def _tool(self, delta: ToolCallDelta) -> bytes:
        written = b""
        if delta.index != self._call:
            if delta.index < self._calls_seen:
                raise EngineFailed("The engine went back to a tool call that had ended.")
            block = {
                "type": "tool_use",
                "id": tool_use_id(self._opening, delta.index),
                "name": delta.name or "",
                "input": {},
            }
            written = self._close_block() + self._open_block(block)
            self._call = delta.index
            self._calls_seen = delta.index + 1
        if delta.arguments:
            before = self._delta_before("input_json_delta", "partial_json")
            written += before + _encode(delta.arguments) + b"}}\n\n"
        return written

    def _delta_before(self, kind: str, field: str) -> bytes:
        """Everything of a delta that stands before its text."""
        return (
            f'event: content_block_delta\ndata: {{"type":"content_block_delta","index":{self._block},'
            f'"delta":{{"type":"{kind}","{field}":'
        ).encode()

    def _open_block(self, block: dict[str, Any]) -> bytes:
        self._block += 1
        return frame("content_block_start", {"index": self._block, "content_block": block})

    def _close_block(self) -> bytes:
        if not self._text_open and self._call is None:
            return b""
        self._text_open = False
        self._call = None
        return frame("content_block_stop", {"index": self._block})
