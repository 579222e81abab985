"""A gateway without sockets, desk or engine: it answers every request with the same scripted reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
from msgspec import Struct

from underlay.dialects import DIALECTS, choose
from underlay.domain.answer import ModelCard, Opening, Piece, Receipt, Strand, StrandEnd, Usage
from underlay.domain.errors import MethodNotAllowed, NotFound, UnderlayError
from underlay.domain.prompt import Ask, ToolCall

OPENING = Opening("req_0123456789abcdef", 1_700_000_000, "gemma")
RECEIPT = Receipt(Usage(prompt_tokens=12, cached_tokens=4, completion_tokens=3), "0.00015")
CARDS = tuple(ModelCard(name, 1_700_000_000, 8192) for name in ("alpha", "beta", "gamma"))
EMBEDDER = ModelCard("embedder", 1_700_000_000, 512, operations=("embedding",))


class Script(Struct, frozen=True):
    """What the engine says for one strand."""

    pieces: tuple[Piece, ...] = (Piece("Hel"), Piece("lo"), Piece(" wörld\n"))
    end: StrandEnd = StrandEnd("stop")
    fail_after: UnderlayError | None = None


def strand_of(script: Script) -> Strand:
    calls: dict[int, dict[str, str]] = {}
    for piece in script.pieces:
        for delta in piece.tool_calls:
            call = calls.setdefault(delta.index, {"id": delta.id or "", "name": delta.name or "", "arguments": ""})
            call["arguments"] += delta.arguments
    return Strand(
        text="".join(piece.text for piece in script.pieces),
        end=script.end,
        tool_calls=tuple(ToolCall(**call) for call in calls.values()),
        logprobs=tuple(entry for piece in script.pieces for entry in piece.logprobs),
    )


class Answer(Struct):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class TinyGateway:
    def __init__(self) -> None:
        self.script = Script()
        self.error: UnderlayError | None = None
        self.asks: list[Ask] = []

    def answer(self, method: str, path: str, query: str, headers: Any, body: bytes) -> Answer:
        route = choose(method, path, query, headers)
        dialect = DIALECTS[route.dialect]
        try:
            if self.error is not None:
                raise self.error
            if route.name == "unknown":
                raise NotFound("There is nothing here.")
            if route.name == "wrong_method":
                raise MethodNotAllowed(f"Use {route.allow}.")
            return self._served(route, dialect, headers, body)
        except UnderlayError as error:
            refusal = dialect.error(error, OPENING.request_id)
            return Answer(refusal.status, [("content-type", refusal.content_type), *refusal.headers], refusal.body)

    def _served(self, route: Any, dialect: Any, headers: Any, body: bytes) -> Answer:
        json = [("content-type", "application/json"), ("request-id", OPENING.request_id)]
        if route.name == "models":
            return Answer(200, json, dialect.models(route, CARDS))
        if route.name == "model":
            return Answer(200, json, dialect.model(route, CARDS[0]))
        ask = dialect.parse(route, body, headers)
        self.asks.append(ask)
        if ask.prompt.operation == "count":
            return Answer(200, json, dialect.counted(route, OPENING, 42))
        if ask.prompt.operation == "embedding":
            vectors = [[0.5, -0.25, index] for index in range(len(ask.prompt.texts))]
            return Answer(200, json, dialect.embedded(route, ask, OPENING, vectors, RECEIPT))
        if not ask.stream:
            strands = [strand_of(self.script)] * ask.prompt.strands
            return Answer(200, json, dialect.reply(route, ask, OPENING, strands, RECEIPT))
        frames = self.frames(dialect.writer(route, ask, OPENING), ask.prompt.strands)
        return Answer(200, list(dialect.stream_headers(route, ask)), b"".join(frames))

    def transport(self) -> httpx2.MockTransport:
        """What an official SDK's HTTP client talks to instead of a network."""

        def handle(request: httpx2.Request) -> httpx2.Response:
            path = request.url.raw_path.decode().partition("?")[0]
            headers = {name.lower(): value for name, value in request.headers.items()}
            answer = self.answer(request.method, path, request.url.query.decode(), headers, request.content)
            return httpx2.Response(answer.status, headers=answer.headers, content=answer.body)

        return httpx2.MockTransport(handle)

    def frames(self, writer: Any, strands: int = 1) -> Sequence[bytes]:
        frames = [writer.open(Usage(12, 4, 0))]
        for piece in self.script.pieces:
            frames += [writer.piece(strand, piece) for strand in range(strands)]
        if self.script.fail_after is not None:
            return [*frames, writer.fail(self.script.fail_after)]
        frames += [writer.end(strand, self.script.end) for strand in range(strands)]
        return [*frames, writer.close(RECEIPT)]


@pytest.fixture
def gateway() -> TinyGateway:
    return TinyGateway()


@pytest.fixture
def script() -> type[Script]:
    return Script
