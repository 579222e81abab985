"""A response as a stream of numbered events, in the order that the vendor's SDK insists on."""

from __future__ import annotations

from typing import Any

from underlay.dialects.openai.errors import failed_response_error
from underlay.dialects.openai.frames import encode, named_frame, token_objects, tool_call_id
from underlay.dialects.openai.response_object import (
    call_item,
    call_item_id,
    finished_object,
    item_status,
    message_id,
    message_item,
    response_object,
    text_part,
)
from underlay.domain.answer import (
    Opening,
    Piece,
    Receipt,
    StrandEnd,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from underlay.domain.errors import UnderlayError
from underlay.domain.prompt import Ask


class _Text:
    """A message of the output while it is being written."""

    def __init__(self, opening: Opening, place: int) -> None:
        self.place = place
        self.id = message_id(opening, place)
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.status = "in_progress"
        address = {"item_id": self.id, "output_index": place, "content_index": 0}
        name = b"response.output_text.delta"
        self.before_number = (
            b"event: " + name + b'\ndata: {"type":"' + name + b'",' + encode(address)[1:-1] + b',"sequence_number":'
        )

    @property
    def part(self) -> dict[str, Any]:
        return text_part("".join(self.texts), self.logprobs)

    @property
    def item(self) -> dict[str, Any]:
        return message_item(self.id, self.status, [self.part])


class _Call:
    """A function call of the output while it is being written."""

    def __init__(self, opening: Opening, place: int, delta: ToolCallDelta) -> None:
        self.place = place
        self.id = call_item_id(opening, place)
        self.call_id = delta.id or tool_call_id(opening, 0, delta.index)
        self.name = delta.name or ""
        self.parts: list[str] = []
        self.status = "in_progress"

    @property
    def arguments(self) -> str:
        return "".join(self.parts)

    @property
    def item(self) -> dict[str, Any]:
        return call_item(self.id, self.status, self.call_id, self.name, self.arguments)


class ResponseWriter:
    """Writes a response event by event and remembers its output, which the last event repeats as a whole.

    ``final`` is the finished object as bytes once ``close`` (or ``fail``) was called: what a stored response
    must be. Function calls stay open until the strand ends, since engines may write several at once.
    """

    final: bytes | None = None

    def __init__(self, ask: Ask, opening: Opening) -> None:
        self._ask = ask
        self._opening = opening
        self._number = 0
        self._with_logprobs = ask.prompt.sampling.logprobs is not None
        self._items: list[_Text | _Call] = []
        self._text: _Text | None = None
        self._calls: dict[int, _Call] = {}
        self._end = StrandEnd("stop")

    def open(self, usage: Usage) -> bytes:  # noqa: ARG002 (this API tells usage at the end)
        """Say that the response was created and is being made."""
        response = response_object(self._ask, self._opening, "in_progress", output=[])
        return self._event("response.created", {"response": response}) + self._event(
            "response.in_progress", {"response": response}
        )

    def piece(self, strand: int, piece: Piece) -> bytes:  # noqa: ARG002 (there is one strand)
        """Write what one engine event added; text alone is the hot path."""
        text = self._text
        if text is not None and not piece.tool_calls and not self._with_logprobs:
            if not piece.text:
                return b""
            text.texts.append(piece.text)
            number = self._number
            self._number = number + 1
            return b'%b%d,"delta":%b,"logprobs":[]}\n\n' % (text.before_number, number, encode(piece.text))
        return self._any_piece(piece)

    def end(self, strand: int, end: StrandEnd) -> bytes:  # noqa: ARG002 (there is one strand)
        """Say that every item that is still open is done."""
        self._end = end
        begun = b"" if self._items else self._begin_text()
        return begun + b"".join(self._finish(item, item_status(end)) for item in self._items)

    def close(self, receipt: Receipt) -> bytes:
        """Write the finished response as a whole."""
        output = [item.item for item in self._items]
        return self._last(finished_object(self._ask, self._opening, self._end, receipt, output))

    def fail(self, error: UnderlayError) -> bytes:
        """Write the failed response as a whole, with what there is of its output."""
        for item in self._items:
            if item.status == "in_progress":
                item.status = "incomplete"
        output = [item.item for item in self._items]
        reason = failed_response_error(error)
        return self._last(response_object(self._ask, self._opening, "failed", output=output, error=reason))

    def _last(self, response: dict[str, Any]) -> bytes:
        self.final = encode(response)
        return self._event(f"response.{response['status']}", {"response": response})

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        event = {"type": name, "sequence_number": self._number, **fields}
        self._number += 1
        return named_frame(name, event)

    def _any_piece(self, piece: Piece) -> bytes:
        logprobs = piece.logprobs if self._with_logprobs else ()
        written = self._add_text(piece.text, logprobs) if piece.text or logprobs else b""
        return written + b"".join(self._add_call(delta) for delta in piece.tool_calls)

    def _add_text(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> bytes:
        begun = b"" if self._text else self._begin_text()
        item = self._text
        assert item is not None
        item.texts.append(text)
        item.logprobs.extend(logprobs)
        fields = {
            "item_id": item.id,
            "output_index": item.place,
            "content_index": 0,
            "delta": text,
            "logprobs": token_objects(logprobs),
        }
        return begun + self._event("response.output_text.delta", fields)

    def _begin_text(self) -> bytes:
        item = self._text = _Text(self._opening, len(self._items))
        self._items.append(item)
        added = {
            "output_index": item.place,
            "item": message_item(item.id, "in_progress", []),
        }
        part = {"item_id": item.id, "output_index": item.place, "content_index": 0, "part": item.part}
        return self._event("response.output_item.added", added) + self._event("response.content_part.added", part)

    def _add_call(self, delta: ToolCallDelta) -> bytes:
        written = b""
        call = self._calls.get(delta.index)
        if call is None:
            written += self._finish(self._text, "completed") if self._text else b""
            call = self._calls[delta.index] = _Call(self._opening, len(self._items), delta)
            self._items.append(call)
            added = {"output_index": call.place, "item": call.item}
            written += self._event("response.output_item.added", added)
        if delta.arguments:
            call.parts.append(delta.arguments)
            fields = {"item_id": call.id, "output_index": call.place, "delta": delta.arguments}
            written += self._event("response.function_call_arguments.delta", fields)
        return written

    def _finish(self, item: _Text | _Call, status: str) -> bytes:
        if item.status != "in_progress":
            return b""
        item.status = status
        if isinstance(item, _Text):
            self._text = None
            inside = self._finish_text(item)
        else:
            fields = {
                "item_id": item.id,
                "output_index": item.place,
                "name": item.name,
                "arguments": item.arguments,
            }
            inside = self._event("response.function_call_arguments.done", fields)
        done = {"output_index": item.place, "item": item.item}
        return inside + self._event("response.output_item.done", done)

    def _finish_text(self, item: _Text) -> bytes:
        address = {"item_id": item.id, "output_index": item.place, "content_index": 0}
        part = item.part
        text = {**address, "text": part["text"], "logprobs": part["logprobs"]}
        return self._event("response.output_text.done", text) + self._event(
            "response.content_part.done", {**address, "part": part}
        )
