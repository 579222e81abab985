"""What an answer is held to: JSON of a schema, a call of a tool, or either a call or text.

The first attempt gives llama.cpp the schema. An attempt that goes on elsewhere cannot: the engine would begin
the JSON anew behind its first half. It gets the grammar of what may still follow (``residual``) instead.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from underlay.domain.answer import Resume
from underlay.domain.errors import BadRequest, EngineFailed
from underlay.domain.prompt import Prompt, Tool
from underlay.live.engines.grammar import Grammar
from underlay.live.engines.json_grammar import NotCovered, compile_schema
from underlay.live.engines.residual import Residual, Underivable
from underlay.live.engines.schemas import closed, guard, moved

Constraint = Literal["none", "json", "tool", "tool_or_text"]

#: Compact JSON: a small model that may write white space between tokens may write it without end.
_COMPACT = {"x-guidance": {"whitespace_flexible": False, "coerce_one_of": True}}

_PLANS_MAX = 32


class _Plan(Struct, frozen=True):
    """What a schema comes to: as the engine gets it, and as a grammar if it is covered."""

    schema: bytes
    grammar: Grammar | None


#: By what was asked for. Callers send the same few schemas again and again; the latest are kept.
_plans: dict[bytes, _Plan] = {}


def constraint(prompt: Prompt) -> Constraint:
    """What the engine's grammar holds the answer to."""
    if prompt.operation == "chat" and prompt.tools and prompt.tool_choice.mode != "none":
        return "tool_or_text" if prompt.tool_choice.mode == "auto" else "tool"
    return "json" if prompt.format.kind != "text" else "none"


def written(resume: Resume | None) -> str:
    """All that the engine had written of what was delivered: calls are delivered taken apart."""
    if resume is None:
        return ""
    calls = resume.tool_calls
    return resume.text + (f'{{"name":{_json(calls[0].name)},"arguments":{calls[0].arguments}' if calls else "")


def resumable(prompt: Prompt) -> bool:
    """Whether the answer can go on elsewhere: it is held to nothing, or to a schema that can be replayed."""
    kind = constraint(prompt)
    if kind == "none":
        return True
    try:
        return _plan(prompt, kind).grammar is not None
    except BadRequest:
        return False


def held(prompt: Prompt, resume: Resume | None) -> dict[str, Any]:
    """The fields of the engine's request that hold it to what is wanted.

    Raises ``BadRequest`` for schemas no engine takes and ``EngineFailed`` where the delivered part is no
    beginning of what the schema allows, as far as we can tell.
    """
    kind = constraint(prompt)
    if kind == "none":
        return {}
    plan = _plan(prompt, kind)
    if begun := written(resume):
        return _rest(plan, kind, begun)
    if kind != "tool_or_text":
        return {"json_schema": msgspec.Raw(plan.schema)}
    # The engine's grammar language: a call, or any text that does not begin like one.
    return {
        "grammar": f'%llguidance {{}}\nstart: call | text\ncall: " "? %json {plan.schema.decode()}\n'
        "text: / ?[^{\\s][\\s\\S]*/\n"
    }


def _rest(plan: _Plan, kind: Constraint, begun: str) -> dict[str, Any]:
    if kind == "tool_or_text" and not begun.startswith("{"):
        return {}
    if plan.grammar is None:
        raise EngineFailed("An answer of this schema cannot go on elsewhere.", reason="not_resumable")
    residual = Residual(plan.grammar)
    try:
        residual.feed(begun)
    except Underivable as error:
        message = f"The answer so far does not lead anywhere in its schema ({error})."
        raise EngineFailed(message, reason="not_resumable") from None
    return {"grammar": residual.gbnf()}


def _plan(prompt: Prompt, kind: Constraint) -> _Plan:
    asked = msgspec.json.encode(prompt.format if kind == "json" else (prompt.tools, prompt.tool_choice))
    plan = _plans.get(asked)
    if plan is None:
        schema = _schema(prompt, kind)
        if len(_plans) >= _PLANS_MAX:
            del _plans[next(iter(_plans))]
        plan = _plans[asked] = _Plan(msgspec.json.encode(schema), _compiled(schema))
    return plan


def _compiled(schema: dict[str, Any]) -> Grammar | None:
    try:
        return compile_schema(schema)
    except NotCovered:
        return None


def _schema(prompt: Prompt, kind: Constraint) -> dict[str, Any]:
    if kind != "json":
        return _calls(prompt)
    schema = prompt.format.schema if prompt.format.kind == "json_schema" else None
    if prompt.format.kind == "json_schema":
        guard(schema, "response_format")
    return {**closed(schema or {"type": "object"}), **_COMPACT}


def _calls(prompt: Prompt) -> dict[str, Any]:
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


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
