"""The list of models, in the vendor's shape and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from underlay.dialects.gemini.fields import camel
from underlay.domain.answer import ModelCard
from underlay.domain.errors import BadRequest

PAGE_DEFAULT = 50
PAGE_MAX = 1000

METHODS_OF_OPERATION = {
    "chat": ("generateContent", "streamGenerateContent"),
    "count": ("countTokens",),
    "embedding": ("embedContent", "batchEmbedContents"),
}


def card_fields(card: ModelCard) -> dict[str, Any]:
    """Describe one model."""
    return {
        "name": f"models/{card.id}",
        "baseModelId": card.id,
        "version": "1",
        "displayName": card.id,
        "description": f"{card.id}, owned by {card.owned_by}",
        "inputTokenLimit": card.context_tokens,
        "outputTokenLimit": card.context_tokens,
        "supportedGenerationMethods": [
            method
            for operation, methods in METHODS_OF_OPERATION.items()
            if operation in card.operations
            for method in methods
        ],
    }


def listed(cards: Sequence[ModelCard], query: Mapping[str, str]) -> bytes:
    """List a page of the models; a page's token is the name of its first model."""
    parameters = {camel(name): value for name, value in query.items()}
    size = _size(parameters.get("pageSize", ""))
    start = _start(cards, parameters.get("pageToken", ""))
    page: dict[str, Any] = {"models": [card_fields(card) for card in cards[start : start + size]]}
    if start + size < len(cards):
        page["nextPageToken"] = cards[start + size].id
    return msgspec.json.encode(page)


def _size(given: str) -> int:
    if not given:
        return PAGE_DEFAULT
    if given.isascii() and given.isdigit() and len(given) < 10:
        return min(int(given), PAGE_MAX) or PAGE_DEFAULT
    raise BadRequest("'pageSize' must be a whole number.", param="pageSize")


def _start(cards: Sequence[ModelCard], token: str) -> int:
    if not token:
        return 0
    for index, card in enumerate(cards):
        if card.id == token:
            return index
    raise BadRequest("'pageToken' is not one that this list gave.", param="pageToken")
