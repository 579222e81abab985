"""Real listeners for the browser tests: the console over sample data, and a small public side."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from underlay.console.app import create_app

from .sample import SampleViews, answered, journey

ANSWER = (
    "The sky is blue because air scatters **short** waves most.\n\n"
    "* Violet is scattered even more,\n* but our eyes see `blue` better.\n\n"
    "```python\nscattering = 1 / wavelength**4\n```\n\n<img src=x onerror=alert(1)> stays text."
)


@contextmanager
def serving(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """Serve an application from a thread with its own event loop, as the platform does."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_level="error",
        lifespan="off",
        ws="none",
        loop="asyncio",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


class PublicSide:
    """Answers chats from a script. The question decides what happens."""

    def __init__(self, views: SampleViews, pause_s: float = 0.004) -> None:
        self.views = views
        self.pause_s = pause_s
        self.cancelled: list[str] = []
        self.asked: list[dict[str, object]] = []
        self.keys: list[str] = []
        self.ids = itertools.count(1)

    def app(self, console_origin: str) -> Starlette:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=[console_origin],
            allow_methods=["POST", "GET"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["x-request-id", "retry-after", "retry-after-ms"],
        )
        return Starlette(routes=[Route("/v1/chat/completions", self.chat, methods=["POST"])], middleware=[cors])

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers["authorization"].removeprefix("Bearer "))
        request_id = f"req_browser{next(self.ids)}"
        question = body["messages"][-1]["content"]
        headers = {"x-request-id": request_id}
        if question == "expired" and len(self.keys) < 2:
            return self.refusal(401, "invalid_api_key", "this key has expired", headers)
        if question == "limit":
            return self.refusal(
                429, "rate_limit_exceeded", "60 requests per minute are spent", headers | {"retry-after": "2"}
            )
        if question == "full":
            return self.refusal(503, "server_is_overloaded", "every replica is taken and 1,024 wait", headers)
        return StreamingResponse(self.stream(request_id, question), media_type="text/event-stream", headers=headers)

    def refusal(self, status: int, code: str, message: str, headers: dict[str, str]) -> Response:
        error = {"error": {"message": message, "type": "error", "param": None, "code": code}}
        return JSONResponse(error, status, headers=headers)

    async def stream(self, request_id: str, question: str) -> AsyncIterator[bytes]:
        def chunk(delta: dict[str, str], finish: str | None = None, **more: object) -> bytes:
            choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
            body = {"id": f"chatcmpl-{request_id}", "object": "chat.completion.chunk", "choices": choices} | more
            return b"data: " + json.dumps(body).encode() + b"\n\n"

        try:
            await asyncio.sleep(0.05)
            yield chunk({"role": "assistant", "content": ""})
            words = ["word "] * 100_000 if question == "endless" else ANSWER.split(" ")
            for number, word in enumerate(words):
                if question == "break" and number == 9:
                    yield b'data: {"error": {"message": "the engine died", "type": "server_error", "code": "upstream_failed"}}\n\n'
                    return
                yield chunk({"content": word if question == "endless" or number == 0 else f" {word}"})
                await asyncio.sleep(self.pause_s)
            yield chunk({}, "stop")
            self.views.stories.insert(0, answered(request_id, 21, len(words)))
            usage = {"prompt_tokens": 21, "completion_tokens": len(words), "total_tokens": 21 + len(words)}
            yield chunk({}, choices=[], usage=usage)
            yield b"data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(request_id)
            self.views.stories.insert(0, journey(request_id, outcome="client_gone", status=499))
            raise


@contextmanager
def platform(views: SampleViews) -> Iterator[PublicSide]:
    """Start both listeners; ``views`` learns their addresses."""
    with serving(create_app(views)) as console:
        views.console = console
        public = PublicSide(views)
        with serving(public.app(console)) as address:
            views.public = address
            yield public
