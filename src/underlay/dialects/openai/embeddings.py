"""Embeddings: texts in, a vector for each out."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from underlay.dialects.energy import energy_fields
from underlay.dialects.json_body import missing, optional_choice, required_str
from underlay.dialects.openai.fields import deadline_s, sort_out
from underlay.dialects.openai.frames import cost_object, encode
from underlay.dialects.openai.texts import read_texts
from underlay.domain.answer import Opening, Receipt
from underlay.domain.prompt import Ask, Prompt

HONOURED = frozenset({"model", "input", "encoding_format"})
REFUSED_HERE = frozenset({"dimensions"})


def parse(fields: Mapping[str, Any], headers: Mapping[str, str]) -> Ask:
    """Understand an embedding request."""
    ignored = sort_out(fields, HONOURED, REFUSED_HERE)
    texts = read_texts(fields, "input")
    if "" in texts:
        raise missing("", "input", "at least one character in every text")
    return Ask(
        prompt=Prompt(operation="embedding", model=required_str(fields, "model"), texts=texts),
        ignored=tuple(ignored),
        deadline_s=deadline_s(headers),
        extras={"encoding_format": optional_choice(fields, "encoding_format", ("float", "base64")) or "float"},
    )


def embedded(ask: Ask, opening: Opening, vectors: Sequence[Sequence[float]], receipt: Receipt) -> bytes:
    """Write the vectors, in the order of their texts."""
    packed = ask.extras.get("encoding_format") == "base64"
    tokens = receipt.usage.prompt_tokens
    return encode(
        {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _packed(vector) if packed else list(vector),
                }
                for index, vector in enumerate(vectors)
            ],
            "model": opening.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens, **energy_fields(opening, receipt)},
            "x_cost": cost_object(receipt),
        }
    )


def _packed(vector: Sequence[float]) -> str:
    """Pack a vector as base64 of little-endian 32-bit floats, as SDKs ask by default."""
    floats = array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode("ascii")
