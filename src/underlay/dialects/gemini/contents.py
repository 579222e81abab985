"""From ``contents`` and ``systemInstruction`` to the turns of a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from underlay.dialects import json_body
from underlay.dialects.gemini.fields import camel_fields, inner, inner_list
from underlay.dialects.turns import append_turn
from underlay.domain.errors import BadRequest
from underlay.domain.prompt import Message, ToolCall

ROLES = ("user", "model", "function")

#: What may stand beside a part's content without being content itself.
PART_NOTES = frozenset({
    "thought", "thoughtSignature", "partMetadata", "videoMetadata", "mediaResolution"
})  # fmt: skip


def turns_of(fields: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    """Read the whole conversation."""
    turns: list[Message] = []
    system = _system(fields, where)
    if system:
        turns.append(Message("system", system))
    contents = inner_list(fields, "contents", where=where)
    if not contents:
        raise json_body.missing(where, "contents", "an array with at least one content")
    conversation = _Conversation()
    for index, content in enumerate(contents):
        here = f"{json_body.path(where, 'contents')}[{index}]"
        for turn in conversation.turns(content, here):
            append_turn(turns, turn)
    if all(turn.role == "system" for turn in turns):
        raise json_body.wrong(where, "contents", "contents with something to answer", contents)
    return tuple(turns)


def text_of(content: Mapping[str, Any], where: str) -> str:
    """Read a content that may hold nothing but text."""
    parts = inner_list(content, "parts", where=where)
    texts = []
    for index, part in enumerate(parts):
        here = f"{where}.parts[{index}]"
        text = json_body.optional_str(part, "text", where=here)
        if text is None:
            raise _unwelcome(part, here)
        texts.append(text)
    return "\n".join(texts)


def _system(fields: Mapping[str, Any], where: str) -> str:
    value = fields.get("systemInstruction")
    if value is None or isinstance(value, str):
        return value or ""
    content = inner(fields, "systemInstruction", where=where)
    return text_of(content, json_body.path(where, "systemInstruction"))


def _unwelcome(part: Mapping[str, Any], where: str) -> BadRequest:
    for name in part:
        if name not in PART_NOTES:
            param = f"{where}.{name}"
            return BadRequest(f"'{param}' cannot be read by any model here. Send text instead.", param=param)
    return json_body.missing(where, "text", "a string")


class _Conversation:
    """Gives function calls ids, and responses the ids of the calls they answer.

    The vendor's calls need no id: a response then belongs to the oldest open call of the same function.
    """

    def __init__(self) -> None:
        self._called = 0
        self._open: list[ToolCall] = []

    def turns(self, content: Mapping[str, Any], where: str) -> list[Message]:
        """Read one content."""
        role = json_body.optional_choice(content, "role", ROLES, where=where) or "user"
        speaker = "assistant" if role == "model" else "user"
        turns: list[Message] = []
        for index, part in enumerate(inner_list(content, "parts", where=where)):
            here = f"{where}.parts[{index}]"
            if json_body.optional_bool(part, "thought", where=here):
                continue  # a model is not shown what it thought before
            if "functionResponse" in part:
                turns.append(self._response(inner(part, "functionResponse", where=here), here))
            elif "functionCall" in part and role == "model":
                call = self._call(inner(part, "functionCall", where=here), here)
                append_turn(turns, Message("assistant", tool_calls=(call,)))
            else:
                text = json_body.optional_str(part, "text", where=here)
                if text is None:
                    raise _unwelcome(part, here)
                append_turn(turns, Message("assistant" if speaker == "assistant" else "user", text))
        return turns

    def _call(self, fields: Mapping[str, Any], where: str) -> ToolCall:
        where = f"{where}.functionCall"
        self._called += 1
        call = ToolCall(
            id=json_body.optional_str(fields, "id", where=where) or f"call_{self._called}",
            name=json_body.required_str(fields, "name", where=where),
            arguments=msgspec.json.encode(json_body.optional_object(fields, "args", where=where) or {}).decode(),
        )
        self._open.append(call)
        return call

    def _response(self, fields: Mapping[str, Any], where: str) -> Message:
        where = f"{where}.functionResponse"
        name = json_body.required_str(fields, "name", where=where)
        if json_body.optional_list(fields, "parts", where=where):
            raise _unwelcome(camel_fields({"parts": True}), where)
        response = json_body.optional_object(fields, "response", where=where) or {}
        call_id = self._answered(json_body.optional_str(fields, "id", where=where), name)
        return Message("tool", msgspec.json.encode(response).decode(), tool_call_id=call_id, name=name)

    def _answered(self, call_id: str | None, name: str) -> str:
        """Find the call that a response answers and close it."""
        by_id = [call for call in self._open if call.id == call_id]
        by_name = [call for call in self._open if call.name == name]
        for call in by_id or by_name:
            self._open.remove(call)
            return call.id
        self._called += 1
        return call_id or f"call_{self._called}"
