"""What every dialect offers the gateway: requests in as bytes, replies out as bytes, no sockets.

``choose`` (in this package's ``__init__``) finds the route of a request; ``DIALECTS[route.dialect]`` is an
object with the methods of ``Dialect`` below. A streamed reply is written by the ``Writer`` that
``Dialect.writer`` makes, in this order: ``open`` once (the preamble), then ``piece`` and ``end`` per strand,
then ``close`` once; or ``fail`` instead of whatever was left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from underlay.domain.answer import ModelCard, Opening, Piece, Receipt, Strand, StrandEnd, Usage
from underlay.domain.errors import UnderlayError
from underlay.domain.prompt import Ask


class Route(Struct, frozen=True):
    """Where a request goes.

    ``dialect`` is always known, so that even a 404 is answered in the caller's own error shape. ``name`` is
    the thing asked for: ``chat``, ``completions``, ``embeddings``, ``models``, ``model``, ``responses``,
    ``response``, ``response_cancel``, ``response_input_tokens``, ``messages``, ``count_tokens``,
    ``generate``, ``stream_generate``, ``embed``, ``batch_embed``, ``request_energy``, or ``unknown`` /
    ``wrong_method`` (with the allowed method in ``allow``). ``model`` or ``id`` come from the path; ``query``
    keeps the last value of each parameter, without ``key`` (a credential).
    """

    dialect: str
    name: str
    model: str | None = None
    id: str | None = None
    query: Mapping[str, str] = {}
    allow: str = ""


class Refusal(Struct, frozen=True):
    """An error as one whole response; ``headers`` are extra ones (request id, retry hints)."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


class Writer(Protocol):
    """Writes one streamed reply. Every method returns the bytes to send now (possibly none)."""

    def open(self, usage: Usage) -> bytes:
        """Write the preamble. ``usage`` is what is known when the first token comes: the prompt's tokens."""

    def piece(self, strand: int, piece: Piece) -> bytes:
        """Write what one engine event added to a strand."""

    def end(self, strand: int, end: StrandEnd) -> bytes:
        """Write that a strand ended, because the engine said so."""

    def close(self, receipt: Receipt) -> bytes:
        """Write the last frames: usage, cost and the dialect's end mark."""

    def fail(self, error: UnderlayError) -> bytes:
        """Write the dialect's in-band error frame; the caller then aborts the connection (K3)."""


class Dialect(Protocol):
    """One vendor's way of speaking."""

    name: str

    def parse(self, route: Route, body: bytes, headers: Mapping[str, str]) -> Ask:
        """Understand a request. Header names are lower-case. Raises a ``CallerError`` naming the field."""

    def stream_headers(self, route: Route, ask: Ask) -> tuple[tuple[str, str], ...]:
        """Headers of a streamed reply: its content type and what keeps proxies from buffering it."""

    def writer(self, route: Route, ask: Ask, opening: Opening) -> Writer:
        """Make the writer of a streamed reply."""

    def reply(self, route: Route, ask: Ask, opening: Opening, strands: Sequence[Strand], receipt: Receipt) -> bytes:
        """Write a whole reply."""

    def counted(self, route: Route, opening: Opening, tokens: int) -> bytes:
        """Answer a request to count tokens."""

    def embedded(
        self, route: Route, ask: Ask, opening: Opening, vectors: Sequence[Sequence[float]], receipt: Receipt
    ) -> bytes:
        """Answer a request for embeddings, one vector for each text asked."""

    def models(self, route: Route, cards: Sequence[ModelCard]) -> bytes:
        """List the models; honours the dialect's paging parameters in ``route.query``."""

    def model(self, route: Route, card: ModelCard) -> bytes:
        """Describe one model."""

    def error(self, error: UnderlayError, request_id: str) -> Refusal:
        """Turn an error into the dialect's own response, with retry hints."""
