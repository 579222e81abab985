"""From ``tools`` and ``toolConfig`` to tools and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from underlay.dialects import json_body
from underlay.dialects.gemini.fields import inner, inner_list
from underlay.dialects.gemini.schemas import json_schema
from underlay.domain.errors import BadRequest
from underlay.domain.prompt import Tool, ToolChoice

DECLARATION_FIELDS = frozenset({"name", "description", "parameters", "parametersJsonSchema"})
#: The vendor's VALIDATED is AUTO with the schema enforced, which is the engine's own affair here.
MODES = ("AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED")


class Tooling(NamedTuple):
    """The tools that may be called, and whether one must be."""

    tools: tuple[Tool, ...]
    choice: ToolChoice


def tooling_of(fields: Mapping[str, Any], where: str, ignored: list[str]) -> Tooling:
    """Read the declared functions and the calling configuration."""
    tools = _tools(fields, where, ignored)
    config = inner(fields, "toolConfig", where=where)
    ignored += [f"toolConfig.{name}" for name in config if name != "functionCallingConfig"]
    here = json_body.path(where, "toolConfig")
    calling = inner(config, "functionCallingConfig", where=here)
    here += ".functionCallingConfig"
    ignored += [
        f"toolConfig.functionCallingConfig.{name}"
        for name in calling
        if name not in ("mode", "allowedFunctionNames")
    ]
    return _chosen(tools, calling, here)


def _chosen(tools: tuple[Tool, ...], calling: Mapping[str, Any], where: str) -> Tooling:
    mode = json_body.optional_choice(calling, "mode", MODES, where=where)
    allowed = json_body.string_list(calling, "allowedFunctionNames", where=where)
    _check_declared(allowed, tools, where)
    if mode == "NONE":
        return Tooling(tools, ToolChoice("none"))
    if mode == "ANY" and not tools:
        raise BadRequest(f"'{where}.mode' asks for a function, but none is declared.", param=f"{where}.mode")
    if mode == "ANY" and len(set(allowed)) == 1:
        return Tooling(tools, ToolChoice("named", allowed[0]))
    if allowed:
        tools = tuple(tool for tool in tools if tool.name in allowed)
    return Tooling(tools, ToolChoice("required" if mode == "ANY" else "auto"))


def _check_declared(allowed: tuple[str, ...], tools: tuple[Tool, ...], where: str) -> None:
    declared = {tool.name for tool in tools}
    for index, name in enumerate(allowed):
        if name not in declared:
            raise json_body.wrong(where, f"allowedFunctionNames[{index}]", "the name of a declared function", name)


def _tools(fields: Mapping[str, Any], where: str, ignored: list[str]) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for index, tool in enumerate(inner_list(fields, "tools", where=where)):
        here = f"{json_body.path(where, 'tools')}[{index}]"
        for name in tool:
            if name != "functionDeclarations":
                param = f"{here}.{name}"
                raise BadRequest(
                    f"'{param}' cannot be honoured: this platform runs no tools itself. "
                    "Declare functions and answer their calls.",
                    param=param,
                )
        declarations = inner_list(tool, "functionDeclarations", where=here)
        for number, declaration in enumerate(declarations):
            tools.append(_tool(declaration, f"{here}.functionDeclarations[{number}]"))
            ignored += [
                f"tools[].functionDeclarations[].{name}" for name in declaration if name not in DECLARATION_FIELDS
            ]
    return tuple(tools)


def _tool(declaration: Mapping[str, Any], where: str) -> Tool:
    described = json_body.optional_object(declaration, "parameters", where=where)
    exact = json_body.optional_object(declaration, "parametersJsonSchema", where=where)
    parameters = exact if exact is not None else json_schema(described or {})
    return Tool(
        name=json_body.required_str(declaration, "name", where=where),
        description=json_body.optional_str(declaration, "description", where=where) or "",
        parameters=parameters or {"type": "object", "properties": {}},
    )
