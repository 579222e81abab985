"""The list of models, in the vendor's shape and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from underlay.domain.answer import ModelCard
from underlay.domain.errors import BadRequest

PAGE_DEFAULT = 20
PAGE_MAX = 1000


def card_fields(card: ModelCard) -> dict[str, Any]:
    """Describe one model."""
    return {
        "type": "model",
        "id": card.id,
        "display_name": card.id,
        "created_at": datetime.fromtimestamp(card.created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "max_input_tokens": card.context_tokens,
        "max_tokens": card.context_tokens,
        "lifecycle": "active",
        "capabilities": None,
    }


def listed(cards: Sequence[ModelCard], query: Mapping[str, str]) -> bytes:
    """List a page of the models, after or before a given one."""
    limit = _limit(query)
    shown, more = _page(cards, query, limit)
    return msgspec.json.encode(
        {
            "data": [card_fields(card) for card in shown],
            "has_more": more,
            "first_id": shown[0].id if shown else None,
            "last_id": shown[-1].id if shown else None,
        }
    )


def _limit(query: Mapping[str, str]) -> int:
    given = query.get("limit", str(PAGE_DEFAULT))
    if given.isascii() and given.isdigit() and len(given) < 6 and 1 <= int(given) <= PAGE_MAX:
        return int(given)
    raise BadRequest(f"'limit' must be an integer from 1 to {PAGE_MAX}.", param="limit")


def _page(cards: Sequence[ModelCard], query: Mapping[str, str], limit: int) -> tuple[Sequence[ModelCard], bool]:
    if "after_id" in query and "before_id" in query:
        raise BadRequest("Send 'after_id' or 'before_id', not both.", param="before_id")
    if "before_id" in query:
        end = _position(cards, query, "before_id")
        start = max(0, end - limit)
        return cards[start:end], start > 0
    start = _position(cards, query, "after_id") + 1 if "after_id" in query else 0
    return cards[start : start + limit], start + limit < len(cards)


def _position(cards: Sequence[ModelCard], query: Mapping[str, str], name: str) -> int:
    for index, card in enumerate(cards):
        if card.id == query[name]:
            return index
    raise BadRequest(f"'{name}' names no model of the list.", param=name)
