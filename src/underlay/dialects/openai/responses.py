"""Responses: input items in; and what a stored response means for the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from underlay.dialects.json_body import (
    missing,
    object_list,
    optional_bool,
    optional_choice,
    optional_int,
    optional_object,
    optional_str,
    required_str,
    shown,
    string_list,
    wrong,
)
from underlay.dialects.openai.content import required_text
from underlay.dialects.openai.fields import (
    SAMPLING_FIELDS,
    deadline_s,
    read_band,
    read_format,
    read_function,
    read_sampling,
    read_session,
    read_stream_options,
    read_token_limit,
    read_tool_choice,
    refuse_repeated,
    sort_out,
    tool_objects,
)
from underlay.dialects.openai.frames import encode
from underlay.domain.answer import Strand
from underlay.domain.errors import BadRequest, NotFound
from underlay.domain.prompt import Ask, Format, Message, Operation, Prompt, Tool, ToolCall, ToolChoice

HONOURED = SAMPLING_FIELDS | {
    "model", "input", "instructions", "max_output_tokens", "tools", "tool_choice", "parallel_tool_calls", "text",
    "previous_response_id", "store", "metadata", "stream", "stream_options", "truncation", "include",
    "top_logprobs", "service_tier", "prompt_cache_key",
}  # fmt: skip
REFUSED_HERE = frozenset({"background", "context_management", "conversation", "moderation", "prompt"})

_LOGPROBS = "message.output_text.logprobs"
_REASONING = "reasoning.encrypted_content"
_METADATA_MAX = 16
_ROLES: dict[str, Any] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


def parse(fields: Mapping[str, Any], headers: Mapping[str, str], operation: Operation = "chat") -> Ask:
    """Understand a request for a response, or for the count of its input tokens."""
    ignored = sort_out(fields, HONOURED, REFUSED_HERE)
    instructions = optional_str(fields, "instructions")
    previous = optional_str(fields, "previous_response_id") or None
    tools = _read_tools(fields, ignored)
    choice = read_tool_choice(fields, tools, nested=False)
    band = read_band(fields, ignored)
    answer_format = _read_text_options(fields, ignored)
    parallel = optional_bool(fields, "parallel_tool_calls")
    logprobs = _read_logprobs(fields, ignored)
    limit = read_token_limit(fields, "max_output_tokens")
    messages = _read_input(fields, ignored, needed=operation == "chat" or (not instructions and not previous))
    if instructions:
        messages = (Message("system", instructions), *messages)
    _, ignored_options = read_stream_options(fields)
    if optional_choice(fields, "truncation", ("disabled", "auto")) == "auto":
        ignored.append("truncation")
    prompt = Prompt(
        operation=operation,
        model=required_str(fields, "model"),
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=True if parallel is None else parallel,
        format=answer_format,
        sampling=read_sampling(fields, limit, logprobs),
    )
    store = optional_bool(fields, "store")
    return Ask(
        prompt=prompt,
        stream=bool(optional_bool(fields, "stream")),
        ignored=tuple(dict.fromkeys([*ignored, *ignored_options])),
        deadline_s=deadline_s(headers),
        previous=previous,
        store=(True if store is None else store) and operation == "chat",
        session=read_session(fields),
        band=band,
        extras={
            "instructions": instructions or None,
            "metadata": _read_metadata(fields),
            "tools": [_echoed_tool(tool) for tool in tool_objects(fields)],
            "tool_choice": _echoed_choice(choice),
            "format": _echoed_format(answer_format),
        },
    )


def _read_tools(fields: Mapping[str, Any], ignored: list[str]) -> tuple[Tool, ...]:
    tools = []
    for index, tool in enumerate(tool_objects(fields)):
        where = f"tools[{index}]"
        tools.append(read_function(tool, where))
        if optional_bool(tool, "strict", where=where):
            ignored.append("tools.strict")
    refuse_repeated(tuple(tools))
    return tuple(tools)


def _read_text_options(fields: Mapping[str, Any], ignored: list[str]) -> Format:
    text = optional_object(fields, "text") or {}
    if text.get("verbosity") is not None:
        ignored.append("text.verbosity")
    return read_format(text, "format", where="text", nested=False)


def _read_logprobs(fields: Mapping[str, Any], ignored: list[str]) -> int | None:
    alternatives = optional_int(fields, "top_logprobs", minimum=0, maximum=20)
    included = string_list(fields, "include")
    for index, name in enumerate(included):
        if name == _REASONING:
            ignored.append(f"include.{_REASONING}")
        elif name != _LOGPROBS:
            raise BadRequest(
                f"{shown(name)} cannot be included: only {_LOGPROBS!r} can.", param=f"include[{index}]"
            )
    return alternatives or 0 if alternatives or _LOGPROBS in included else None


def _read_metadata(fields: Mapping[str, Any]) -> dict[str, str]:
    metadata = optional_object(fields, "metadata") or {}
    if len(metadata) > _METADATA_MAX or not all(isinstance(value, str) for value in metadata.values()):
        raise wrong("", "metadata", f"at most {_METADATA_MAX} strings by name", metadata)
    return metadata


def _read_input(fields: Mapping[str, Any], ignored: list[str], *, needed: bool) -> tuple[Message, ...]:
    value = fields.get("input")
    if isinstance(value, str):
        return (Message("user", value),)
    if value is not None and not isinstance(value, list):
        raise wrong("", "input", "a string or an array of items", value)
    messages: list[Message] = []
    for index, item in enumerate(object_list(fields, "input")):
        _read_item(item, f"input[{index}]", messages, ignored)
    if needed and not messages:
        raise missing("", "input", "a string or an array of at least one item")
    return tuple(messages)


def _read_item(item: Mapping[str, Any], where: str, messages: list[Message], ignored: list[str]) -> None:
    kind = optional_str(item, "type", where=where) or "message"
    if kind == "message":
        messages.append(_read_message(item, where))
    elif kind == "function_call":
        _add_call(messages, _read_call(item, where))
    elif kind == "function_call_output":
        call_id = required_str(item, "call_id", where=where)
        messages.append(Message("tool", required_text(item, "output", where), tool_call_id=call_id))
    elif kind == "reasoning":
        ignored.append("input.reasoning")
    elif kind == "item_reference":
        raise BadRequest(
            f"'{where}' is a reference. Send the item itself, or use 'previous_response_id'.", param=where
        )
    else:
        raise BadRequest(f"'{where}' is of type {shown(kind)}, which is not supported.", param=f"{where}.type")


def _read_message(item: Mapping[str, Any], where: str) -> Message:
    role = required_str(item, "role", where=where)
    if role not in _ROLES:
        raise wrong(where, "role", "one of " + ", ".join(f'"{name}"' for name in _ROLES), role)
    return Message(_ROLES[role], required_text(item, "content", where))


def _read_call(item: Mapping[str, Any], where: str) -> ToolCall:
    return ToolCall(
        id=required_str(item, "call_id", where=where),
        name=required_str(item, "name", where=where),
        arguments=optional_str(item, "arguments", where=where) or "",
    )


def _add_call(messages: list[Message], call: ToolCall) -> None:
    """Add a call to the assistant's turn: what is one message to a model came as several items."""
    if messages and messages[-1].role == "assistant":
        turn = messages[-1]
        messages[-1] = msgspec.structs.replace(turn, tool_calls=(*turn.tool_calls, call))
    else:
        messages.append(Message("assistant", tool_calls=(call,)))


def _echoed_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool["name"],
        "description": tool.get("description"),
        "parameters": tool.get("parameters"),
        "strict": bool(tool.get("strict")),
    }


def _echoed_choice(choice: ToolChoice) -> str | dict[str, Any]:
    return choice.mode if choice.name is None else {"type": "function", "name": choice.name}


def _echoed_format(answer_format: Format) -> dict[str, Any]:
    if answer_format.kind != "json_schema":
        return {"type": answer_format.kind}
    return {
        "type": "json_schema",
        "name": answer_format.name,
        "schema": answer_format.schema,
        "strict": True,
        "description": None,
    }


def continued(ask: Ask, earlier: Sequence[Message]) -> Ask:
    """Put an earlier conversation before the new input, but after the new instructions.

    ``earlier`` is what ``conversation_after`` gave for the response that ``ask.previous`` names; the
    instructions of that response are not part of it, as the vendor documents.
    """
    first = _instructions_length(ask)
    messages = (*ask.prompt.messages[:first], *earlier, *ask.prompt.messages[first:])
    return msgspec.structs.replace(ask, prompt=msgspec.structs.replace(ask.prompt, messages=messages))


def conversation_after(ask: Ask, strands: Sequence[Strand]) -> tuple[Message, ...]:
    """Give the messages that a response adds to a conversation: its input and the assistant's answer.

    Of an ask that was ``continued`` it is the whole conversation, earlier messages included.
    """
    answers = tuple(Message("assistant", strand.text, tool_calls=strand.tool_calls) for strand in strands)
    return (*ask.prompt.messages[_instructions_length(ask) :], *answers)


def _instructions_length(ask: Ask) -> int:
    return 1 if ask.extras.get("instructions") else 0


def stored_object(reply: bytes) -> bytes:
    """Answer a request for a stored response: it is the very object that its caller got."""
    return reply


def deleted_object(stored_id: str) -> bytes:
    """Answer the deletion of a stored response."""
    return encode({"id": stored_id, "object": "response", "deleted": True})


def cancel_refusal(stored_id: str) -> BadRequest:
    """Make the refusal to cancel a response: it was not made in the background, so it is over."""
    return BadRequest(
        f"Response {shown(stored_id)} was not made in the background, so it cannot be cancelled. "
        "Close the connection of a running request to stop it.",
        param="response_id",
    )


def not_stored(stored_id: str, param: str = "response_id") -> NotFound:
    """Make the refusal of a response that is not, or no longer, stored for this caller."""
    return NotFound(f"There is no stored response {shown(stored_id)}.", reason="response_not_found", param=param)


def counted(tokens: int) -> bytes:
    """Answer a request to count the tokens of an input."""
    return encode({"object": "response.input_tokens", "input_tokens": tokens})
