"""What the gateway needs to know of an engine: how to ask it, and how to read what it says.

An adapter turns prompts into HTTP requests and response bytes into ``EngineEvent``s. It opens no sockets; the
gateway moves the bytes. ``llamacpp`` speaks llama.cpp's own ``/completion`` (token ids, timings, grammar);
``openai`` speaks to vLLM and to any other OpenAI-compatible server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from underlay.domain.answer import EngineEvent, Resume, Usage
from underlay.domain.errors import UnderlayError
from underlay.domain.prompt import Prompt
from underlay.live.engines.slots import Seat


class EngineRequest(Struct, frozen=True):
    """One HTTP request to an engine; ``path`` includes the query, ``headers`` exclude Host and lengths."""

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


class Reader(Protocol):
    """Reads one streamed reply of an engine."""

    def feed(self, data: bytes) -> list[EngineEvent]:
        """Take body bytes as they come, return the events they complete.

        Raises ``EngineFailed`` on an error frame or a malformed one, and ``BadRequest`` where the engine turns
        out unable to hold the answer to the caller's schema (before any piece).
        """

    def finish(self) -> None:
        """Tell the reader that the body ended cleanly; raises ``EngineFailed`` if no last event had come."""


class Adapter(Protocol):
    """One kind of engine serving one model."""

    def resumable(self, prompt: Prompt) -> bool:
        """Whether a strand of this prompt can go on elsewhere after it delivered something.

        False where the engine's grammar would have to be replayed and cannot be.
        """

    def opening(self, prompt: Prompt) -> int:
        """A number that the turns of one conversation share, for ``Slots.take``; others seldom have the same."""

    def generate(
        self, prompt: Prompt, strand: int, resume: Resume | None, seat: Seat | None = None
    ) -> EngineRequest:
        """Ask for one strand, streamed; with ``resume``, for what comes after the delivered part.

        ``seat`` says what of the engine's prefix cache the request may use; without one, anything.
        """

    def reader(self, prompt: Prompt, resume: Resume | None = None) -> Reader:
        """Make the reader of such a reply.

        ``resume`` is what was given to ``generate``: a first piece may have its leading space trimmed, a later
        one may not, and what was resumed from is no part of the prompt's tokens.
        """

    def warm(self, slot: int) -> EngineRequest | None:
        """Have a slot read what all conversations begin with; ``None`` where they have nothing in common."""

    def read_warm(self, body: bytes) -> int:
        """Read the answer to ``warm``: how many tokens were read, those left out that the slot still held."""

    def count(self, prompt: Prompt) -> EngineRequest:
        """Ask how many tokens a prompt is."""

    def read_count(self, body: bytes) -> int:
        """Read the answer to ``count``."""

    def embed(self, prompt: Prompt) -> EngineRequest:
        """Ask for the embeddings of ``prompt.texts``."""

    def read_embeddings(self, body: bytes) -> tuple[Sequence[Sequence[float]], Usage]:
        """Read the answer to ``embed``."""

    def error(self, status: int, body: bytes) -> UnderlayError:
        """Say what an engine's answer other than 200 means: the caller's fault (400) or the engine's."""
