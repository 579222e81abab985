"""The list of models, and one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from underlay.dialects.openai.frames import encode
from underlay.domain.answer import ModelCard


def models(cards: Sequence[ModelCard]) -> bytes:
    """List the models; this API has no pages of them."""
    return encode({"object": "list", "data": [_model_object(card) for card in cards]})


def model(card: ModelCard) -> bytes:
    """Describe one model."""
    return encode(_model_object(card))


def _model_object(card: ModelCard) -> dict[str, Any]:
    # ``max_model_len`` is not the vendor's, but what clients of local engines look for.
    return {
        "id": card.id,
        "object": "model",
        "created": card.created_s,
        "owned_by": card.owned_by,
        "max_model_len": card.context_tokens,
    }
