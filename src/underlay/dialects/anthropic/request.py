"""From a Messages request to an ``Ask``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from underlay.dialects import json_body
from underlay.dialects.delivery import sdk_patience_s
from underlay.dialects.turns import append_turn
from underlay.domain.errors import BadRequest
from underlay.domain.prompt import (
    Ask,
    Format,
    Message,
    Operation,
    Prompt,
    Role,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
)

#: Top-level fields that are read; every other one is reported as ignored.
HONOURED = frozenset({
    "model", "max_tokens", "messages", "system", "stop_sequences", "stream", "temperature", "top_p", "top_k",
    "tools", "tool_choice", "thinking", "output_config", "output_format", "container", "inference_geo",
    "mcp_servers", "metadata", "service_tier",
})  # fmt: skip
TOOL_FIELDS = frozenset({"type", "name", "description", "input_schema"})

MAX_TOKENS_MAX = 2**31 - 1
DROPPED_BLOCKS = frozenset({"thinking", "redacted_thinking"})
_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
TIERS = ("auto", "standard_only")
CHOICES = ("auto", "any", "tool", "none")
_MODES: dict[str, ToolChoice] = {
    "auto": ToolChoice("auto"),
    "any": ToolChoice("required"),
    "none": ToolChoice("none"),
}


def parse(operation: Operation, body: bytes, headers: Mapping[str, str]) -> Ask:
    """Understand a request to write a message (``chat``) or to count its tokens (``count``)."""
    fields = json_body.decode_object(body)
    ignored = [name for name in fields if name not in HONOURED]
    model = json_body.required_str(fields, "model")
    sampling = _sampling(fields, operation)
    messages = _messages(fields, ignored)
    tools = _tools(fields, ignored)
    choice, parallel = _tool_choice(fields, tools)
    answer_format = _format(fields, ignored)
    _refuse_elsewhere(fields, ignored)
    session = _session(fields, ignored)
    json_body.optional_choice(fields, "service_tier", TIERS)  # both leave the class of urgency to the key
    if (json_body.optional_object(fields, "thinking") or {}).get("type") not in (None, "disabled"):
        ignored.append("thinking")
    return Ask(
        prompt=Prompt(
            operation=operation,
            model=model,
            messages=messages,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=parallel,
            format=answer_format,
            sampling=sampling,
        ),
        stream=operation == "chat" and (json_body.optional_bool(fields, "stream") or False),
        ignored=tuple(dict.fromkeys(ignored)),
        deadline_s=sdk_patience_s(headers),
        session=session,
    )


def _session(fields: Mapping[str, Any], ignored: list[str]) -> str:
    """Read what the caller calls the conversation: the id of its user, in which clients name their session too."""
    metadata = json_body.optional_object(fields, "metadata") or {}
    ignored += [f"metadata.{name}" for name in metadata if name != "user_id"]
    return json_body.optional_str(metadata, "user_id", where="metadata") or ""


def _sampling(fields: Mapping[str, Any], operation: Operation) -> Sampling:
    max_tokens = json_body.optional_int(fields, "max_tokens", minimum=1, maximum=MAX_TOKENS_MAX)
    if max_tokens is None and operation == "chat":
        raise json_body.missing("", "max_tokens", "how many tokens the answer may have at most")
    return Sampling(
        max_tokens=max_tokens,
        # The vendor stops at 1; models served here are often used above it.
        temperature=json_body.optional_number(fields, "temperature", minimum=0.0, maximum=2.0),
        top_p=json_body.optional_number(fields, "top_p", minimum=0.0, maximum=1.0),
        top_k=json_body.optional_int(fields, "top_k", minimum=0, maximum=MAX_TOKENS_MAX),
        stop=json_body.string_list(fields, "stop_sequences"),
    )


def _messages(fields: Mapping[str, Any], ignored: list[str]) -> tuple[Message, ...]:
    turns: list[Message] = []
    system = _text_only(fields, "system", "", ignored)
    if system:
        turns.append(Message("system", system))
    given = json_body.object_list(fields, "messages")
    if not given:
        raise json_body.missing("", "messages", "an array with at least one message")
    for index, message in enumerate(given):
        where = f"messages[{index}]"
        role = json_body.optional_choice(message, "role", _ROLES, where=where)
        if role is None:
            raise json_body.missing(where, "role", '"user" or "assistant"')
        for turn in _turns(_ROLES[role], message, where, ignored):
            append_turn(turns, turn)
    if not any(turn.role != "system" for turn in turns):
        raise json_body.wrong("", "messages", "messages with something to answer", given)
    return tuple(turns)


def _turns(role: Role, message: Mapping[str, Any], where: str, ignored: list[str]) -> list[Message]:
    content = message.get("content")
    if isinstance(content, str):
        return [Message(role, content)]
    if content is None:
        raise json_body.missing(where, "content", "a string or an array of content blocks")
    blocks = json_body.object_list(message, "content", where=where)
    if role == "assistant":
        return _assistant_turns(blocks, where, ignored)
    return _user_turns(role, blocks, where, ignored)


def _user_turns(role: Role, blocks: list[dict[str, Any]], where: str, ignored: list[str]) -> list[Message]:
    turns: list[Message] = []
    for index, block in enumerate(blocks):
        here = f"{where}.content[{index}]"
        kind = _kind(block, here)
        if kind == "text":
            turns.append(Message(role, _block_text(block, here, ignored)))
        elif kind == "tool_result" and role == "user":
            turns.append(_tool_result(block, here, ignored))
        else:
            raise _unwelcome(kind, here)
    return turns


def _assistant_turns(blocks: list[dict[str, Any]], where: str, ignored: list[str]) -> list[Message]:
    texts: list[str] = []
    calls: list[ToolCall] = []
    for index, block in enumerate(blocks):
        here = f"{where}.content[{index}]"
        kind = _kind(block, here)
        if kind == "text":
            texts.append(_block_text(block, here, ignored))
        elif kind == "tool_use":
            calls.append(_tool_use(block, here))
        elif kind not in DROPPED_BLOCKS:
            raise _unwelcome(kind, here)
    if not texts and not calls:
        return []
    return [Message("assistant", "".join(texts), tool_calls=tuple(calls))]


def _kind(block: Mapping[str, Any], where: str) -> str:
    return json_body.required_str(block, "type", where=where)


def _unwelcome(kind: str, where: str) -> BadRequest:
    shown = json_body.shown(kind)
    return BadRequest(
        f"'{where}' is a block of type {shown}, which no model here can read. Send text instead.", param=where
    )


def _block_text(block: Mapping[str, Any], where: str, ignored: list[str]) -> str:
    ignored += [name for name in ("cache_control", "citations") if block.get(name)]
    text = json_body.optional_str(block, "text", where=where)
    if text is None:
        raise json_body.missing(where, "text", "a string")
    return text


def _text_only(fields: Mapping[str, Any], name: str, where: str, ignored: list[str]) -> str:
    """Read what may be a string or text blocks, and nothing else."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value or ""
    texts = []
    for index, block in enumerate(json_body.object_list(fields, name, where=where)):
        here = f"{json_body.path(where, name)}[{index}]"
        kind = _kind(block, here)
        if kind != "text":
            raise _unwelcome(kind, here)
        texts.append(_block_text(block, here, ignored))
    return "\n".join(texts)


def _tool_use(block: Mapping[str, Any], where: str) -> ToolCall:
    arguments = json_body.optional_object(block, "input", where=where) or {}
    return ToolCall(
        id=json_body.required_str(block, "id", where=where),
        name=json_body.required_str(block, "name", where=where),
        arguments=msgspec.json.encode(arguments).decode(),
    )


def _tool_result(block: Mapping[str, Any], where: str, ignored: list[str]) -> Message:
    ignored += ["cache_control"] if block.get("cache_control") else []
    text = _text_only(block, "content", where, ignored)
    if json_body.optional_bool(block, "is_error", where=where):
        text = f"Error: {text}"  # the only way a model can see it
    return Message("tool", text, tool_call_id=json_body.required_str(block, "tool_use_id", where=where))


def _tools(fields: Mapping[str, Any], ignored: list[str]) -> tuple[Tool, ...]:
    tools = []
    for index, tool in enumerate(json_body.object_list(fields, "tools")):
        where = f"tools[{index}]"
        kind = json_body.optional_str(tool, "type", where=where)
        if kind not in (None, "custom"):
            raise json_body.wrong(where, "type", '"custom": this platform runs no tools itself', kind)
        schema = json_body.optional_object(tool, "input_schema", where=where)
        if schema is None:
            raise json_body.missing(where, "input_schema", "a JSON schema")
        tools.append(
            Tool(
                name=json_body.required_str(tool, "name", where=where),
                description=json_body.optional_str(tool, "description", where=where) or "",
                parameters=schema,
            )
        )
        ignored += [f"tools[].{name}" for name in tool if name not in TOOL_FIELDS]
    return tuple(tools)


class _Choice(NamedTuple):
    choice: ToolChoice
    parallel: bool


def _tool_choice(fields: Mapping[str, Any], tools: tuple[Tool, ...]) -> _Choice:
    given = json_body.optional_object(fields, "tool_choice")
    if given is None:
        return _Choice(ToolChoice(), parallel=True)
    where = "tool_choice"
    kind = json_body.optional_choice(given, "type", CHOICES, where=where)
    if kind is None:
        raise json_body.missing(where, "type", "one of " + ", ".join(f'"{choice}"' for choice in CHOICES))
    single = json_body.optional_bool(given, "disable_parallel_tool_use", where=where) or False
    if kind in ("any", "tool") and not tools:
        raise BadRequest("'tool_choice' asks for a tool, but 'tools' is empty.", param=where)
    if kind != "tool":
        return _Choice(_MODES[kind], parallel=not single)
    name = json_body.required_str(given, "name", where=where)
    if all(tool.name != name for tool in tools):
        raise json_body.wrong(where, "name", "the name of one of the tools", name)
    return _Choice(ToolChoice("named", name), parallel=not single)


def _format(fields: Mapping[str, Any], ignored: list[str]) -> Format:
    config = json_body.optional_object(fields, "output_config") or {}
    ignored += [f"output_config.{name}" for name in config if name != "format"]
    for owner, name, where in ((config, "format", "output_config"), (fields, "output_format", "")):
        given = json_body.optional_object(owner, name, where=where)
        if given is not None:
            return _json_schema(given, json_body.path(where, name))
    return Format()


def _json_schema(given: Mapping[str, Any], where: str) -> Format:
    json_body.optional_choice(given, "type", ("json_schema",), where=where)
    schema = json_body.optional_object(given, "schema", where=where)
    if schema is None:
        raise json_body.missing(where, "schema", "a JSON schema")
    return Format("json_schema", schema, json_body.optional_str(given, "name", where=where) or "")


def _refuse_elsewhere(fields: Mapping[str, Any], ignored: list[str]) -> None:
    """Refuse what would have to run, or be kept, in a place that this platform does not have."""
    if fields.get("container") is not None:
        raise BadRequest("'container' cannot be honoured: no code is run here.", param="container")
    if fields.get("inference_geo") not in (None, "global"):
        raise json_body.wrong("", "inference_geo", '"global" or absent', fields["inference_geo"])
    if json_body.optional_list(fields, "mcp_servers"):
        raise BadRequest("'mcp_servers' cannot be honoured: no servers are called here.", param="mcp_servers")
    if "mcp_servers" in fields:
        ignored.append("mcp_servers")
