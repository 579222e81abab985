"""The OpenAI dialect: chat completions, legacy completions, embeddings, models and responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from underlay.dialects.delivery import EVENT_STREAM_HEADERS
from underlay.dialects.json_body import decode_object
from underlay.dialects.openai import (
    chat,
    completions,
    embeddings,
    errors,
    models,
    response_object,
    responses,
)
from underlay.dialects.openai.chat import ChatWriter
from underlay.dialects.openai.completions import CompletionWriter
from underlay.dialects.openai.fields import IGNORED, REFUSED
from underlay.dialects.openai.response_object import response_id
from underlay.dialects.openai.response_stream import ResponseWriter
from underlay.dialects.openai.responses import (
    cancel_refusal,
    continued,
    conversation_after,
    deleted_object,
    not_stored,
    stored_object,
)
from underlay.dialects.wire import Dialect, Refusal, Route, Writer
from underlay.domain.answer import ModelCard, Opening, Receipt, Strand
from underlay.domain.errors import NotFound, UnderlayError
from underlay.domain.prompt import Ask

__all__ = [
    "IGNORED", "OPENAI", "REFUSED", "OpenAI", "ResponseWriter", "cancel_refusal", "continued",
    "conversation_after", "deleted_object", "not_stored", "response_id", "stored_object",
]  # fmt: skip


class OpenAI:
    """OpenAI's way of speaking; ``OPENAI`` is the one instance, as there is no state."""

    name = "openai"

    def parse(self, route: Route, body: bytes, headers: Mapping[str, str]) -> Ask:
        """Understand a request. Header names are lower-case. Raises a ``CallerError`` naming the field."""
        fields = decode_object(body)
        if route.name == "chat":
            return chat.parse(fields, headers)
        if route.name == "completions":
            return completions.parse(fields, headers)
        if route.name == "embeddings":
            return embeddings.parse(fields, headers)
        if route.name == "responses":
            return responses.parse(fields, headers)
        if route.name == "response_input_tokens":
            return responses.parse(fields, headers, operation="count")
        raise NotFound("Nothing can be generated under this path.")

    def stream_headers(self, route: Route, ask: Ask) -> tuple[tuple[str, str], ...]:  # noqa: ARG002
        """Name the content type, and keep proxies from buffering."""
        return EVENT_STREAM_HEADERS

    def writer(self, route: Route, ask: Ask, opening: Opening) -> Writer:
        """Make the writer of a streamed reply."""
        if route.name == "responses":
            return ResponseWriter(ask, opening)
        return CompletionWriter(ask, opening) if route.name == "completions" else ChatWriter(ask, opening)

    def reply(self, route: Route, ask: Ask, opening: Opening, strands: Sequence[Strand], receipt: Receipt) -> bytes:
        """Write a whole reply."""
        if route.name == "responses":
            return response_object.reply(ask, opening, strands, receipt)
        if route.name == "completions":
            return completions.reply(ask, opening, strands, receipt)
        return chat.reply(ask, opening, strands, receipt)

    def counted(self, route: Route, opening: Opening, tokens: int) -> bytes:  # noqa: ARG002
        """Answer a request to count tokens."""
        return responses.counted(tokens)

    def embedded(
        self,
        route: Route,  # noqa: ARG002
        ask: Ask,
        opening: Opening,
        vectors: Sequence[Sequence[float]],
        receipt: Receipt,
    ) -> bytes:
        """Answer a request for embeddings, one vector for each text asked."""
        return embeddings.embedded(ask, opening, vectors, receipt)

    def models(self, route: Route, cards: Sequence[ModelCard]) -> bytes:  # noqa: ARG002
        """List the models."""
        return models.models(cards)

    def model(self, route: Route, card: ModelCard) -> bytes:  # noqa: ARG002
        """Describe one model."""
        return models.model(card)

    def error(self, error: UnderlayError, request_id: str) -> Refusal:
        """Turn an error into a response, with retry hints."""
        return errors.refusal(error, request_id)


OPENAI: Dialect = OpenAI()
