"""Chat completions: a conversation in, the assistant's next turn out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from underlay.dialects.json_body import (
    missing,
    object_list,
    optional_bool,
    optional_int,
    optional_str,
    required_str,
    shown,
    wrong,
)
from underlay.dialects.openai.content import read_text, required_text
from underlay.dialects.openai.errors import error_body
from underlay.dialects.openai.fields import (
    SAMPLING_FIELDS,
    deadline_s,
    read_band,
    read_format,
    read_function,
    read_n,
    read_sampling,
    read_session,
    read_stream_options,
    read_token_limit,
    read_tool_choice,
    refuse_repeated,
    sort_out,
    tier_used,
    tool_objects,
)
from underlay.dialects.openai.frames import (
    DONE,
    bare_id,
    cost_object,
    data_frame,
    encode,
    token_objects,
    tool_call_id,
    tool_call_object,
    usage_object,
)
from underlay.domain.answer import Opening, Piece, Receipt, Strand, StrandEnd, ToolCallDelta, Usage
from underlay.domain.errors import BadRequest, UnderlayError
from underlay.domain.prompt import Ask, Message, Prompt, Tool, ToolCall

HONOURED = SAMPLING_FIELDS | {
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "logprobs",
    "top_logprobs", "tools", "tool_choice", "parallel_tool_calls", "response_format", "modalities",
    "service_tier", "prompt_cache_key",
}  # fmt: skip
REFUSED_HERE = frozenset({"audio", "function_call", "functions", "moderation", "web_search_options"})


def parse(fields: Mapping[str, Any], headers: Mapping[str, str]) -> Ask:
    """Understand a chat request."""
    ignored = sort_out(fields, HONOURED, REFUSED_HERE)
    _refuse_other_modalities(fields)
    tools = _read_tools(fields, ignored)
    include_usage, ignored_options = read_stream_options(fields)
    band = read_band(fields, ignored)
    parallel = optional_bool(fields, "parallel_tool_calls")
    limit = read_token_limit(fields, "max_completion_tokens")
    older_limit = read_token_limit(fields, "max_tokens")
    prompt = Prompt(
        operation="chat",
        model=required_str(fields, "model"),
        messages=_read_messages(fields),
        tools=tools,
        tool_choice=read_tool_choice(fields, tools, nested=True),
        parallel_tool_calls=True if parallel is None else parallel,
        format=read_format(fields, "response_format", nested=True),
        sampling=read_sampling(fields, older_limit if limit is None else limit, _read_logprobs(fields)),
        n=read_n(fields),
    )
    return Ask(
        prompt=prompt,
        stream=bool(optional_bool(fields, "stream")),
        ignored=(*ignored, *ignored_options),
        deadline_s=deadline_s(headers),
        session=read_session(fields),
        band=band,
        extras={"include_usage": include_usage, "tier": fields.get("service_tier") is not None},
    )


def _refuse_other_modalities(fields: Mapping[str, Any]) -> None:
    modalities = fields.get("modalities")
    if modalities not in (None, [], ["text"]):
        raise wrong("", "modalities", '["text"], as this platform\'s engines write text only', modalities)


def _read_logprobs(fields: Mapping[str, Any]) -> int | None:
    wanted = optional_bool(fields, "logprobs")
    alternatives = optional_int(fields, "top_logprobs", minimum=0, maximum=20)
    if wanted:
        return alternatives or 0
    if alternatives:
        raise BadRequest("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    return None


def _read_tools(fields: Mapping[str, Any], ignored: list[str]) -> tuple[Tool, ...]:
    tools = []
    strict = False
    for index, tool in enumerate(tool_objects(fields)):
        where = f"tools[{index}].function"
        function = tool.get("function")
        if not isinstance(function, dict):
            raise missing(f"tools[{index}]", "function", "an object with a 'name'")
        tools.append(read_function(function, where))
        strict = bool(optional_bool(function, "strict", where=where)) or strict
    if strict:
        ignored.append("tools.strict")
    refuse_repeated(tuple(tools))
    return tuple(tools)


def _read_messages(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    messages = object_list(fields, "messages")
    if not messages:
        raise missing("", "messages", "an array of at least one message")
    return tuple(_read_message(message, f"messages[{index}]") for index, message in enumerate(messages))


def _read_message(message: Mapping[str, Any], where: str) -> Message:
    role = required_str(message, "role", where=where)
    name = optional_str(message, "name", where=where)
    if role == "user":
        return Message("user", required_text(message, "content", where), name=name)
    if role in ("system", "developer"):
        return Message("system", required_text(message, "content", where), name=name)
    if role == "assistant":
        return _read_assistant(message, where, name)
    if role == "tool":
        return Message(
            "tool",
            required_text(message, "content", where),
            tool_call_id=required_str(message, "tool_call_id", where=where),
            name=name,
        )
    if role == "function":
        raise BadRequest(
            f"The role of '{where}' is \"function\", which is not supported. "
            "Use the role \"tool\" with a 'tool_call_id' instead.",
            param=f"{where}.role",
        )
    raise wrong(where, "role", 'one of "developer", "system", "user", "assistant", "tool"', role)


def _read_assistant(message: Mapping[str, Any], where: str, name: str | None) -> Message:
    for field, advice in (("function_call", "Use 'tool_calls' instead."), ("audio", "Send its text instead.")):
        if message.get(field) is not None:
            raise BadRequest(f"'{where}.{field}' is not supported. {advice}", param=f"{where}.{field}")
    calls = tuple(
        _read_tool_call(call, f"{where}.tool_calls[{index}]")
        for index, call in enumerate(object_list(message, "tool_calls", where=where))
    )
    text = read_text(message, "content", where)
    if text is None:
        text = optional_str(message, "refusal", where=where)
    if text is None and not calls:
        raise missing(where, "content", "a string or an array of parts, unless there are 'tool_calls'")
    return Message("assistant", text or "", tool_calls=calls, name=name)


def _read_tool_call(call: Mapping[str, Any], where: str) -> ToolCall:
    kind = optional_str(call, "type", where=where)
    if kind not in (None, "function"):
        raise BadRequest(f"'{where}.type' is {shown(kind)}: only functions are supported.", param=f"{where}.type")
    function = call.get("function")
    if not isinstance(function, dict):
        raise missing(where, "function", "an object with 'name' and 'arguments'")
    return ToolCall(
        id=required_str(call, "id", where=where),
        name=required_str(function, "name", where=f"{where}.function"),
        arguments=optional_str(function, "arguments", where=f"{where}.function") or "",
    )


def _completion_id(opening: Opening) -> str:
    return "chatcmpl-" + bare_id(opening)


def reply(ask: Ask, opening: Opening, strands: Sequence[Strand], receipt: Receipt) -> bytes:
    """Write a whole chat completion."""
    with_logprobs = ask.prompt.sampling.logprobs is not None
    return encode(
        {
            "id": _completion_id(opening),
            "object": "chat.completion",
            "created": opening.created_s,
            "model": opening.model,
            "choices": [_choice(opening, index, strand, with_logprobs) for index, strand in enumerate(strands)],
            "usage": usage_object(opening, receipt),
            "service_tier": tier_used(ask),
            "system_fingerprint": None,
            "x_cost": cost_object(receipt),
        }
    )


def _choice(opening: Opening, index: int, strand: Strand, with_logprobs: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": strand.text, "refusal": None}
    if strand.tool_calls:
        message["content"] = strand.text or None
        message["tool_calls"] = [
            tool_call_object(call, opening, index, number) for number, call in enumerate(strand.tool_calls)
        ]
    logprobs = {"content": token_objects(strand.logprobs), "refusal": None} if with_logprobs else None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": strand.end.finish}


class ChatWriter:
    """Writes a chat completion as chunks. What chunks have in common is encoded once, ahead of the first."""

    def __init__(self, ask: Ask, opening: Opening) -> None:
        self._opening = opening
        self._include_usage = bool(ask.extras.get("include_usage"))
        self._with_logprobs = ask.prompt.sampling.logprobs is not None
        self._begun_calls: set[tuple[int, int]] = set()
        self._strands = ask.prompt.strands
        shared = encode(
            {
                "id": _completion_id(opening),
                "object": "chat.completion.chunk",
                "created": opening.created_s,
                "model": opening.model,
                **({"service_tier": tier_used(ask)} if ask.extras.get("tier") else {}),
            }
        )
        self._head = b"data: " + shared[:-1] + b',"choices":['
        self._tail = (b',"usage":null}' if self._include_usage else b"}") + b"\n\n"
        self._before_text = [
            self._head + b'{"index":%d,"delta":{"content":' % strand for strand in range(self._strands)
        ]
        self._after_text = b'},"logprobs":null,"finish_reason":null}]' + self._tail

    def open(self, usage: Usage) -> bytes:  # noqa: ARG002 (this API tells usage at the end)
        """Say for every strand that the assistant begins to speak."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(self._chunk(strand, delta) for strand in range(self._strands))

    def piece(self, strand: int, piece: Piece) -> bytes:
        """Write what one engine event added; text alone is the hot path."""
        if piece.tool_calls or (self._with_logprobs and piece.logprobs):
            return self._rich_piece(strand, piece)
        if not piece.text:
            return b""
        return self._before_text[strand] + encode(piece.text) + self._after_text

    def end(self, strand: int, end: StrandEnd) -> bytes:
        """Say why a strand ended."""
        return self._chunk(strand, {}, finish_reason=end.finish)

    def close(self, receipt: Receipt) -> bytes:
        """Write the usage if it was asked for, then the end mark."""
        if not self._include_usage:
            return DONE
        last = {"usage": usage_object(self._opening, receipt), "x_cost": cost_object(receipt)}
        return self._head + b"]," + encode(last)[1:] + b"\n\n" + DONE

    def fail(self, error: UnderlayError) -> bytes:
        """Write the error frame that SDKs raise."""
        return data_frame(error_body(error))

    def _rich_piece(self, strand: int, piece: Piece) -> bytes:
        delta: dict[str, Any] = {}
        logprobs = None
        if self._with_logprobs and piece.logprobs:
            logprobs = {"content": token_objects(piece.logprobs), "refusal": None}
        if piece.text or logprobs:
            delta["content"] = piece.text
        if piece.tool_calls:
            delta["tool_calls"] = [self._call_delta(strand, call) for call in piece.tool_calls]
        return self._chunk(strand, delta, logprobs)

    def _call_delta(self, strand: int, call: ToolCallDelta) -> dict[str, Any]:
        function: dict[str, Any] = {"arguments": call.arguments}
        if (strand, call.index) in self._begun_calls:
            return {"index": call.index, "function": function}
        self._begun_calls.add((strand, call.index))
        return {
            "index": call.index,
            "id": call.id or tool_call_id(self._opening, strand, call.index),
            "type": "function",
            "function": {"name": call.name or "", **function},
        }

    def _chunk(
        self,
        strand: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> bytes:
        choice = {"index": strand, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return self._head + encode(choice) + b"]" + self._tail
