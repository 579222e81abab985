# ruff: noqa: ARG002  (every dialect is given the same arguments; not each needs them all)
"""The dialect itself: one method for each thing the gateway needs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from underlay.dialects.anthropic import errors, models, reply, request
from underlay.dialects.delivery import EVENT_STREAM_HEADERS
from underlay.dialects.wire import Dialect, Refusal, Route, Writer
from underlay.domain.answer import ModelCard, Opening, Receipt, Strand
from underlay.domain.errors import NotSupported, UnderlayError
from underlay.domain.prompt import Ask


class Anthropic:
    """Speaks the Messages API."""

    name = "anthropic"

    def parse(self, route: Route, body: bytes, headers: Mapping[str, str]) -> Ask:
        """Understand a request for a message or for a count of its tokens."""
        return request.parse("count" if route.name == "count_tokens" else "chat", body, headers)

    def stream_headers(self, route: Route, ask: Ask) -> tuple[tuple[str, str], ...]:
        """Headers of a stream of events."""
        return EVENT_STREAM_HEADERS

    def writer(self, route: Route, ask: Ask, opening: Opening) -> Writer:
        """Make the writer of a streamed message."""
        return reply.MessageWriter(ask, opening)

    def reply(
        self,
        route: Route,
        ask: Ask,
        opening: Opening,
        strands: Sequence[Strand],
        receipt: Receipt,
    ) -> bytes:
        """Write a whole message."""
        return reply.whole(ask, opening, strands, receipt)

    def counted(self, route: Route, opening: Opening, tokens: int) -> bytes:
        """Answer a request to count tokens."""
        return msgspec.json.encode({"input_tokens": tokens})

    def embedded(
        self, route: Route, ask: Ask, opening: Opening, vectors: Sequence[Sequence[float]], receipt: Receipt
    ) -> bytes:
        """Refuse: the vendor has no embeddings, so no route leads here."""
        raise NotSupported("This API has no embeddings.")

    def models(self, route: Route, cards: Sequence[ModelCard]) -> bytes:
        """List a page of the models."""
        return models.listed(cards, route.query)

    def model(self, route: Route, card: ModelCard) -> bytes:
        """Describe one model."""
        return msgspec.json.encode(models.card_fields(card))

    def error(self, error: UnderlayError, request_id: str) -> Refusal:
        """Turn an error into the vendor's, with retry hints."""
        return errors.refusal(error, request_id)


ANTHROPIC: Dialect = Anthropic()
