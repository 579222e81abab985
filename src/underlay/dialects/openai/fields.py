"""The fields that several requests share, and what becomes of every field that cannot be honoured.

A field is honoured, or refused by name because its caller would get something else than what was asked for,
or ignored because the answer is as good without it; ignored ones are reported in the request's journey.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from underlay.dialects.delivery import sdk_patience_s
from underlay.dialects.json_body import (
    missing,
    object_list,
    optional_bool,
    optional_choice,
    optional_int,
    optional_number,
    optional_object,
    optional_str,
    path,
    required_str,
    shown,
    string_list,
    wrong,
)
from underlay.domain.errors import BadRequest
from underlay.domain.prompt import Ask, Format, Sampling, Tool, ToolChoice

IGNORED: dict[str, str] = {
    "access_programs": "Access programmes are the vendor's own.",
    "background_options": "Responses are made while their caller waits.",
    "image": "The engines read and write text only.",
    "include.reasoning.encrypted_content": "The engines write no reasoning items, so none is left out.",
    "input.reasoning": "Reasoning items of another server mean nothing to these engines.",
    "max_tool_calls": "It limits the vendor's built-in tools, and there are none here.",
    "metadata": "Chat answers are not stored, so there is nothing to attach it to; responses do keep it.",
    "prediction": "It only makes answers faster, and does not change them.",
    "prompt_cache_options": "Engines keep as much of their cache as fits.",
    "prompt_cache_retention": "Engines keep as much of their cache as fits.",
    "reasoning": "The engines have no adjustable reasoning.",
    "reasoning_effort": "The engines have no adjustable reasoning.",
    "safety_identifier": "The caller is known by its key.",
    "service_tier.fast": "Every request runs as fast as its replica can.",
    "service_tier.scale": "Tiers that are bought ahead are the vendor's own.",
    "store": "Chat answers are not stored; responses are.",
    "stream_options.include_obfuscation": "Frames are not padded.",
    "text.verbosity": "The engines have no adjustable verbosity.",
    "tools.strict": "Engines constrain a tool's arguments as well as they can, strict or not.",
    "truncation": "A prompt that is too long is refused, never shortened.",
    "user": "The caller is known by its key.",
    "verbosity": "The engines have no adjustable verbosity.",
}
"""Documented fields that have no effect here, and why that does no harm."""

REFUSED: dict[str, str] = {
    "audio": "The engines of this platform read and write text only.",
    "background": "Leave it out and wait for the response, or stream it.",
    "context_management": "Leave it out and send a shorter conversation.",
    "conversation": "Continue an earlier response with 'previous_response_id' instead.",
    "dimensions": "Leave it out: an embedding has as many dimensions as its model gives.",
    "function_call": "Use 'tool_choice' instead.",
    "functions": "Use 'tools' instead.",
    "moderation": "There is no moderation on this platform.",
    "prompt": "There are no stored prompt templates: send 'instructions' and 'input'.",
    "suffix": "The engines only write what follows a prompt.",
    "web_search_options": "There is no web search on this platform.",
}
"""Fields whose caller would not get what was asked for, and what to do about it."""

TOKENS_MAX = 2**31 - 1
STRANDS_MAX = 128
STOPS_MAX = 4

SAMPLING_FIELDS = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty",
     "logit_bias", "stop"}
)  # fmt: skip

#: Tier -> class of urgency. What "auto" and "default" come to is the key's business.
BAND_OF_TIER = {"auto": "", "default": "", "priority": "priority", "flex": "batch", "scale": "", "fast": ""}
TIER_OF_BAND = {"priority": "priority", "batch": "flex"}

_IGNORED_NAME_MAX = 64
_IGNORED_MAX = 64
_TOKEN_ID = re.compile(r"[0-9]{1,9}")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def sort_out(fields: Mapping[str, Any], honoured: Collection[str], refused: Collection[str]) -> list[str]:
    """Refuse what must be refused and return the names of the fields that will have no effect."""
    ignored = []
    for name, value in fields.items():
        if value is None or name in honoured:
            continue
        if name not in refused:
            ignored.append(name[:_IGNORED_NAME_MAX])
        elif value or isinstance(value, dict):  # an empty object asks for a feature, a false does not
            raise BadRequest(f"'{name}' is not supported. {REFUSED[name]}", param=name)
    return ignored[:_IGNORED_MAX]


def deadline_s(headers: Mapping[str, str]) -> float | None:
    """How long the caller will wait, which its SDK tells in a header."""
    return sdk_patience_s(headers)


def read_band(fields: Mapping[str, Any], ignored: list[str]) -> str:
    """Read which class of urgency the tier asked for stands for."""
    tier = optional_choice(fields, "service_tier", BAND_OF_TIER) or "auto"
    if f"service_tier.{tier}" in IGNORED:
        ignored.append(f"service_tier.{tier}")
    return BAND_OF_TIER[tier]


def read_session(fields: Mapping[str, Any]) -> str:
    """Read what the caller calls the conversation: requests of one name want the same cache."""
    return optional_str(fields, "prompt_cache_key") or ""


def tier_used(ask: Ask) -> str:
    """Name the tier that a request was served in."""
    return TIER_OF_BAND.get(ask.band, "default")


def read_stream_options(fields: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Read whether usage is wanted at the end of a stream, and what else was asked in vain."""
    options = optional_object(fields, "stream_options")
    if options is None:
        return False, []
    ignored = []
    if optional_bool(options, "include_obfuscation", where="stream_options") is not None:
        ignored.append("stream_options.include_obfuscation")
    return bool(optional_bool(options, "include_usage", where="stream_options")), ignored


def read_sampling(fields: Mapping[str, Any], max_tokens: int | None, logprobs: int | None) -> Sampling:
    """Read how tokens shall be drawn."""
    return Sampling(
        max_tokens=max_tokens,
        temperature=optional_number(fields, "temperature", minimum=0, maximum=2),
        top_p=optional_number(fields, "top_p", minimum=0, maximum=1),
        top_k=optional_int(fields, "top_k", minimum=-1, maximum=TOKENS_MAX),
        min_p=optional_number(fields, "min_p", minimum=0, maximum=1),
        seed=optional_int(fields, "seed"),
        presence_penalty=optional_number(fields, "presence_penalty", minimum=-2, maximum=2),
        frequency_penalty=optional_number(fields, "frequency_penalty", minimum=-2, maximum=2),
        logit_bias=_logit_bias(fields),
        stop=_stop(fields),
        logprobs=logprobs,
    )


def read_token_limit(fields: Mapping[str, Any], name: str) -> int | None:
    """Read how many tokens may be written at most."""
    return optional_int(fields, name, minimum=1, maximum=TOKENS_MAX)


def read_n(fields: Mapping[str, Any]) -> int:
    """Read how many answers are wanted."""
    return optional_int(fields, "n", minimum=1, maximum=STRANDS_MAX) or 1


def _stop(fields: Mapping[str, Any]) -> tuple[str, ...]:
    value = fields.get("stop")
    if isinstance(value, str) and value:
        return (value,)
    if value is None or isinstance(value, list):
        return string_list(fields, "stop", longest=STOPS_MAX)
    raise wrong("", "stop", f"a non-empty string or an array of at most {STOPS_MAX}", value)


def _logit_bias(fields: Mapping[str, Any]) -> dict[str, float] | None:
    biases = optional_object(fields, "logit_bias")
    if not biases:
        return None
    for token in biases:
        if not _TOKEN_ID.fullmatch(token):
            raise BadRequest(f"The keys of 'logit_bias' must be token ids, not {shown(token)}.", param="logit_bias")
    read = {
        token: optional_number(biases, token, minimum=-100, maximum=100, where="logit_bias") for token in biases
    }
    return {token: bias for token, bias in read.items() if bias is not None}


def read_function(fields: Mapping[str, Any], where: str) -> Tool:
    """Read a function that the model may call: its name, what it does, and its parameters' schema."""
    name = required_str(fields, "name", where=where)
    if not _TOOL_NAME.fullmatch(name):
        raise wrong(where, "name", "1 to 128 letters, digits, underscores, dashes, dots or colons", name)
    return Tool(
        name=name,
        description=optional_str(fields, "description", where=where) or "",
        parameters=optional_object(fields, "parameters", where=where) or {},
    )


def tool_objects(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read the list of tools as it came; tools of the vendor's own are refused."""
    tools = object_list(fields, "tools")
    for index, tool in enumerate(tools):
        kind = required_str(tool, "type", where=f"tools[{index}]")
        if kind != "function":
            raise BadRequest(
                f"Tools of type {shown(kind)} are not supported: only functions are.", param=f"tools[{index}].type"
            )
    return tools


def refuse_repeated(tools: tuple[Tool, ...]) -> None:
    """Refuse two tools of one name: a call could mean either."""
    names = [tool.name for tool in tools]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise BadRequest(f"Two tools are named {shown(name)}. Rename one.", param=f"tools[{index}]")


def read_tool_choice(fields: Mapping[str, Any], tools: tuple[Tool, ...], *, nested: bool) -> ToolChoice:
    """Read whether a tool must be called. ``nested`` is chat's shape, ``{"function": {"name": …}}``."""
    choice = _tool_choice(fields, nested)
    if choice.mode in ("required", "named") and not tools:
        raise BadRequest("'tool_choice' demands a call, but there are no 'tools'.", param="tool_choice")
    if choice.name is not None and all(tool.name != choice.name for tool in tools):
        raise BadRequest(f"'tool_choice' names {shown(choice.name)}, which 'tools' lacks.", param="tool_choice")
    return choice


def _tool_choice(fields: Mapping[str, Any], nested: bool) -> ToolChoice:
    value = fields.get("tool_choice")
    if not isinstance(value, dict):
        mode = optional_choice(fields, "tool_choice", ("auto", "none", "required"))
        if mode == "none":
            return ToolChoice("none")
        return ToolChoice("required") if mode == "required" else ToolChoice()
    kind = required_str(value, "type", where="tool_choice")
    if kind == "allowed_tools":
        raise BadRequest("Send only the allowed tools in 'tools' instead.", param="tool_choice.type")
    if kind != "function":
        raise wrong("tool_choice", "type", '"function"', kind)
    if not nested:
        return ToolChoice("named", required_str(value, "name", where="tool_choice"))
    function = optional_object(value, "function", where="tool_choice")
    if function is None:
        raise missing("tool_choice", "function", 'an object like {"name": "…"}')
    return ToolChoice("named", required_str(function, "name", where="tool_choice.function"))


def read_format(container: Mapping[str, Any], name: str, *, where: str = "", nested: bool) -> Format:
    """Read the shape that the answer must have. ``nested`` is chat's, with ``json_schema`` inside."""
    value = optional_object(container, name, where=where)
    if value is None:
        return Format()
    here = path(where, name)
    required_str(value, "type", where=here)
    kind = optional_choice(value, "type", ("text", "json_object", "json_schema"), where=here)
    if kind == "json_object":
        return Format("json_object")
    if kind == "text":
        return Format()
    return _json_schema(value, here, nested)


def _json_schema(value: Mapping[str, Any], here: str, nested: bool) -> Format:
    if nested:
        inner = optional_object(value, "json_schema", where=here)
        here = path(here, "json_schema")
        if inner is None:
            raise BadRequest(f"'{here}' is missing. It must be an object with a 'schema'.", param=here)
        value = inner
    schema = optional_object(value, "schema", where=here)
    if schema is None:
        raise missing(here, "schema", "a JSON schema")
    return Format("json_schema", schema, optional_str(value, "name", where=here) or "answer")
