"""A platform without sockets: the vendor's own SDK talks to the dialect through a transport made of Python."""

import json

import httpx2 as httpx
import openai

from underlay.dialects.openai import OPENAI
from underlay.dialects.wire import Route
from underlay.domain.answer import ModelCard, Opening, Piece, Receipt, Strand, StrandEnd, ToolCallDelta, Usage
from underlay.domain.errors import UnderlayError
from underlay.domain.prompt import ToolCall

OPENING = Opening("req_abc123", 1_700_000_000, "small")
USAGE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=5)
RECEIPT = Receipt(USAGE, "0.000012")
ROUTES = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
    "/v1/responses/input_tokens": "response_input_tokens",
    "/v1/models": "models",
    "/v1/models/small": "model",
}
CARD = ModelCard("small", 1_690_000_000, 8192)


def parse(name, fields, headers=None):
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return OPENAI.parse(Route("openai", name), body, headers or {})


def chat(**fields):
    return parse("chat", {"model": "small", "messages": [{"role": "user", "content": "hi"}], **fields})


def complete(**fields):
    return parse("completions", {"model": "small", "prompt": "hi", **fields})


def respond(**fields):
    return parse("responses", {"model": "small", "input": "hi", **fields})


def writer(name, ask):
    return OPENAI.writer(Route("openai", name), ask, OPENING)


def reply(name, ask, *strands):
    body = OPENAI.reply(Route("openai", name), ask, OPENING, strands, RECEIPT)
    return json.loads(body)


def written(name, ask, pieces, finish="stop"):
    """A whole stream: the pieces go to every strand in turn."""
    it = writer(name, ask)
    frames = [it.open(Usage(10, 4, 0))]
    strands = ask.prompt.strands
    frames += [it.piece(strand, piece) for piece in pieces for strand in range(strands)]
    frames += [it.end(strand, StrandEnd(finish)) for strand in range(strands)]
    frames.append(it.close(RECEIPT))
    return b"".join(frames)


def data_of(stream):
    """The JSON of every frame, without the end mark."""
    assert stream.endswith(b"\n\n")
    lines = [line for frame in stream.decode().split("\n\n") for line in frame.split("\n")]
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(text) for text in data if text != "[DONE]"]


class Platform:
    """Answers with ``pieces``; remembers the last ask; fails with ``error`` after ``pieces`` if it is set."""

    def __init__(self, *pieces, finish="stop", error=None, refuse=None):
        self.pieces, self.finish, self.error, self.refuse = pieces, finish, error, refuse
        self.ask = None

    def client(self):
        http = httpx.Client(transport=httpx.MockTransport(self.answer))
        return openai.OpenAI(base_url="http://platform/v1", api_key="k", http_client=http, max_retries=0)

    def answer(self, request):
        route = Route("openai", ROUTES[request.url.path])
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            if self.refuse:
                raise self.refuse
            return self._answer(route, request.content, headers)
        except UnderlayError as error:
            refusal = OPENAI.error(error, OPENING.request_id)
            return httpx.Response(
                refusal.status,
                content=refusal.body,
                headers=[*refusal.headers, ("content-type", refusal.content_type)],
            )

    def _answer(self, route, body, headers):
        json_type = {"content-type": "application/json"}
        if route.name == "models":
            return httpx.Response(200, content=OPENAI.models(route, [CARD]), headers=json_type)
        if route.name == "model":
            return httpx.Response(200, content=OPENAI.model(route, CARD), headers=json_type)
        self.ask = ask = OPENAI.parse(route, body, headers)
        if route.name == "response_input_tokens":
            return httpx.Response(200, content=OPENAI.counted(route, OPENING, 42), headers=json_type)
        if route.name == "embeddings":
            vectors = [[0.5, -1.0, float(index)] for index in range(len(ask.prompt.texts))]
            return httpx.Response(
                200, content=OPENAI.embedded(route, ask, OPENING, vectors, RECEIPT), headers=json_type
            )
        if not ask.stream:
            strands = [self._strand() for _ in range(ask.prompt.strands)]
            return httpx.Response(
                200, content=OPENAI.reply(route, ask, OPENING, strands, RECEIPT), headers=json_type
            )
        return httpx.Response(
            200, content=self._stream(route, ask), headers=list(OPENAI.stream_headers(route, ask))
        )

    def _stream(self, route, ask):
        if not self.error:
            return written(route.name, ask, self.pieces, self.finish)
        it = writer(route.name, ask)
        return it.open(USAGE) + b"".join(it.piece(0, piece) for piece in self.pieces) + it.fail(self.error)

    def _strand(self):
        calls = {}
        for delta in (delta for piece in self.pieces for delta in piece.tool_calls):
            old = calls.get(delta.index, ToolCall("", "", ""))
            calls[delta.index] = ToolCall(
                delta.id or old.id, delta.name or old.name, old.arguments + delta.arguments
            )
        return Strand(
            text="".join(piece.text for piece in self.pieces),
            end=StrandEnd(self.finish),
            tool_calls=tuple(calls.values()),
            logprobs=tuple(token for piece in self.pieces for token in piece.logprobs),
        )


TEXTS = (Piece("Hel"), Piece(""), Piece('lo "wörld"\n'), Piece("🙂"))
TEXT = 'Hello "wörld"\n🙂'
CALLS = (
    Piece(tool_calls=(ToolCallDelta(0, None, "look", ""),)),
    Piece(tool_calls=(ToolCallDelta(0, arguments='{"a":'),)),
    Piece(tool_calls=(ToolCallDelta(0, arguments="1}"), ToolCallDelta(1, "call_given", "find", "{}"))),
)
