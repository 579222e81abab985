"""The response as one object, and the items that its output is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from underlay.dialects.energy import energy_fields
from underlay.dialects.openai.fields import tier_used
from underlay.dialects.openai.frames import bare_id, cost_object, encode, token_objects, tool_call_id
from underlay.domain.answer import Opening, Receipt, Strand, StrandEnd, TokenLogprob
from underlay.domain.prompt import Ask

_INCOMPLETE_REASON = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_id(opening: Opening) -> str:
    """Name the response of a request."""
    return "resp_" + bare_id(opening)


def message_id(opening: Opening, output_index: int) -> str:
    """Name the message at a place of the output."""
    return f"msg_{bare_id(opening)}_{output_index}"


def call_item_id(opening: Opening, output_index: int) -> str:
    """Name the function call at a place of the output."""
    return f"fc_{bare_id(opening)}_{output_index}"


def text_part(text: str, logprobs: Sequence[TokenLogprob] = ()) -> dict[str, Any]:
    """Write the text of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": token_objects(logprobs)}


def message_item(item_id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    """Write a message of the assistant."""
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def call_item(item_id: str, status: str, call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """Write a function call of the assistant."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def item_status(end: StrandEnd) -> str:
    """Say whether an item is whole, given how its strand ended."""
    return "incomplete" if end.finish in _INCOMPLETE_REASON else "completed"


def usage_object(opening: Opening, receipt: Receipt) -> dict[str, Any]:
    """Write token counts under this API's names, and joules where they are metered."""
    usage = receipt.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
        **energy_fields(opening, receipt),
    }


def response_object(
    ask: Ask,
    opening: Opening,
    status: str,
    *,
    output: list[dict[str, Any]],
    error: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a response that is not finished: with ``status`` and without usage."""
    prompt, extras = ask.prompt, ask.extras
    return {
        "id": response_id(opening),
        "object": "response",
        "created_at": opening.created_s,
        "status": status,
        "background": False,
        "error": error,
        "incomplete_details": None,
        "instructions": extras.get("instructions"),
        "max_output_tokens": prompt.sampling.max_tokens,
        "max_tool_calls": None,
        "metadata": extras.get("metadata", {}),
        "model": opening.model,
        "output": output,
        "parallel_tool_calls": prompt.parallel_tool_calls,
        "previous_response_id": ask.previous,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": tier_used(ask),
        "store": ask.store,
        "temperature": prompt.sampling.temperature,
        "text": {"format": extras.get("format", {"type": "text"})},
        "tool_choice": extras.get("tool_choice", "auto"),
        "tools": extras.get("tools", []),
        "top_logprobs": prompt.sampling.logprobs,
        "top_p": prompt.sampling.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def finished_object(
    ask: Ask, opening: Opening, end: StrandEnd, receipt: Receipt, output: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write a finished response: completed, or incomplete and why."""
    reason = _INCOMPLETE_REASON.get(end.finish)
    response = response_object(ask, opening, "incomplete" if reason else "completed", output=output)
    if reason:
        response["incomplete_details"] = {"reason": reason}
    response["usage"] = usage_object(opening, receipt)
    response["x_cost"] = cost_object(receipt)
    return response


def reply(ask: Ask, opening: Opening, strands: Sequence[Strand], receipt: Receipt) -> bytes:
    """Write a whole response. This API knows one answer for a request: one strand."""
    strand = strands[0]
    return encode(finished_object(ask, opening, strand.end, receipt, _output(opening, strand)))


def _output(opening: Opening, strand: Strand) -> list[dict[str, Any]]:
    status = item_status(strand.end)
    output: list[dict[str, Any]] = []
    if strand.text or not strand.tool_calls:
        part = text_part(strand.text, strand.logprobs)
        output.append(message_item(message_id(opening, 0), status, [part]))
    for index, call in enumerate(strand.tool_calls):
        place = len(output)
        call_id = call.id or tool_call_id(opening, 0, index)
        output.append(call_item(call_item_id(opening, place), status, call_id, call.name, call.arguments))
    return output
