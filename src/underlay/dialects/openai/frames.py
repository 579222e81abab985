"""What several replies share: ids, server-sent events, usage and probabilities as this API writes them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from underlay.dialects.delivery import id_stem
from underlay.dialects.energy import energy_fields
from underlay.domain.answer import Opening, Receipt, TokenLogprob
from underlay.domain.prompt import ToolCall

encode = msgspec.json.Encoder().encode

DONE = b"data: [DONE]\n\n"

IMPOSSIBLE_LOGPROB = -9999.0
"""What the vendor writes for a probability of nothing; JSON has no minus infinity."""


def bare_id(opening: Opening) -> str:
    """Take the prefix off a request's id, so that other ids can be made of the rest."""
    return id_stem(opening.request_id)


def tool_call_id(opening: Opening, strand: int, index: int) -> str:
    """Name a tool call whose engine gave it no id."""
    return f"call_{bare_id(opening)}_{strand}_{index}"


def data_frame(value: Any) -> bytes:
    """Write one unnamed server-sent event."""
    return b"data: " + encode(value) + b"\n\n"


def named_frame(name: str, value: Any) -> bytes:
    """Write one named server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + encode(value) + b"\n\n"


def usage_object(opening: Opening, receipt: Receipt) -> dict[str, Any]:
    """Write token counts, and joules where they are metered; the prompt's include those found in a cache."""
    usage = receipt.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
        **energy_fields(opening, receipt),
    }


def cost_object(receipt: Receipt) -> dict[str, str]:
    """Write what a request cost: our addition beside the vendor's ``usage``."""
    return {"usd": receipt.cost_usd}


def finite(logprob: float) -> float:
    """Make a probability fit JSON."""
    return logprob if math.isfinite(logprob) else IMPOSSIBLE_LOGPROB


def token_object(token: TokenLogprob) -> dict[str, Any]:
    """Write a token with its probability and its bytes."""
    raw = token.token.encode("utf-8", "surrogatepass")
    return {"token": token.token, "logprob": finite(token.logprob), "bytes": list(raw)}


def token_objects(tokens: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    """Write tokens with their likeliest alternatives."""
    return [
        {**token_object(token), "top_logprobs": [token_object(other) for other in token.top]} for token in tokens
    ]


def tool_call_object(call: ToolCall, opening: Opening, strand: int, index: int) -> dict[str, Any]:
    """Write a whole tool call of a chat answer."""
    return {
        "id": call.id or tool_call_id(opening, strand, index),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
