# ruff: noqa: ARG002  (every dialect is given the same arguments; not each needs them all)
"""The dialect itself: one method for each thing the gateway needs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from underlay.dialects.delivery import EVENT_STREAM_HEADERS, UNBUFFERED_HEADERS
from underlay.dialects.energy import energy_fields
from underlay.dialects.gemini import errors, models, reply, request
from underlay.dialects.wire import Dialect, Refusal, Route, Writer
from underlay.domain.answer import ModelCard, Opening, Receipt, Strand
from underlay.domain.errors import UnderlayError
from underlay.domain.prompt import Ask


class Gemini:
    """Speaks generateContent, streamGenerateContent, countTokens and the embedding calls."""

    name = "gemini"

    def parse(self, route: Route, body: bytes, headers: Mapping[str, str]) -> Ask:
        """Understand a request; the path says what it is and which model it is for."""
        return request.parse(route, body, headers)

    def stream_headers(self, route: Route, ask: Ask) -> tuple[tuple[str, str], ...]:
        """Headers of a stream of events, or of an array that grows."""
        if request.stream_form(route) == "sse":
            return EVENT_STREAM_HEADERS
        return (("content-type", "application/json; charset=utf-8"), *UNBUFFERED_HEADERS)

    def writer(self, route: Route, ask: Ask, opening: Opening) -> Writer:
        """Make the writer of a stream."""
        return reply.ChunkWriter(opening, ask.prompt.n, events=request.stream_form(route) == "sse")

    def reply(self, route: Route, ask: Ask, opening: Opening, strands: Sequence[Strand], receipt: Receipt) -> bytes:
        """Write a whole response."""
        return reply.whole(opening, strands, receipt)

    def counted(self, route: Route, opening: Opening, tokens: int) -> bytes:
        """Answer a request to count tokens."""
        return msgspec.json.encode({"totalTokens": tokens})

    def embedded(
        self, route: Route, ask: Ask, opening: Opening, vectors: Sequence[Sequence[float]], receipt: Receipt
    ) -> bytes:
        """Answer a request for one embedding or for several."""
        embeddings = [{"values": vector} for vector in vectors]
        answer: dict[str, Any] = (
            {"embedding": embeddings[0]} if route.name == "embed" else {"embeddings": embeddings}
        )
        usage = {"promptTokenCount": receipt.usage.prompt_tokens, **energy_fields(opening, receipt)}
        return msgspec.json.encode({**answer, "usageMetadata": usage})

    def models(self, route: Route, cards: Sequence[ModelCard]) -> bytes:
        """List a page of the models."""
        return models.listed(cards, route.query)

    def model(self, route: Route, card: ModelCard) -> bytes:
        """Describe one model."""
        return msgspec.json.encode(models.card_fields(card))

    def error(self, error: UnderlayError, request_id: str) -> Refusal:
        """Turn an error into the vendor's, with retry hints."""
        return errors.refusal(error, request_id)


GEMINI: Dialect = Gemini()
