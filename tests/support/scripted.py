"""A scripted engine: the HTTP of llama.cpp and of OpenAI, without a model.

The i-th token of every answer depends on nothing but i (and on a tag in the prompt), so a test can tell a lost,
a doubled or a foreign token by looking, and a continuation, from ids or from text, goes on at the right place.
A multi-byte character comes up every few tokens.

As a process:   python tests/support/scripted.py --port 0 --slots 4 --itl-ms 5 --tokens 20
                prints {"listening": "http://127.0.0.1:PORT", "pid": PID} and serves.
In a test:      engine = ScriptedEngine(Script(tokens=5)); await engine.start(); engine.url; await engine.stop()

A prompt may carry directives, [[tokens=50 itl=10 tag=abc]], which override the script for that request:
  tokens=N ttft=MS itl=MS tag=WORD   length, delays, and the letters its words begin with
  status=N                           answer this status with an error body
  die=K                              the process ends after K tokens of the answer (counted from its start)
  hang=K                             silence after K tokens, the connection stays open
  reset=K                            the connection is reset after K tokens
  close=K                            the connection is closed after K tokens, in mid-body
  cut=K                              the body ends properly after K tokens, but no last event came
  malformed=K, error=K               an event that is no JSON, or an error event, after K tokens
  slow=K                             from K tokens on the next one takes 300 ms each time
  held=K                             silence after K tokens, until it is let go
A fault strikes when the count passes K, so an attempt that begins at token K or later is spared.
POST /go {} lets all go on that are held, or those of a tag; with {"kind": "reset"} they meet that fault there.
POST /fault {"kind": "die", "after": 3, "times": 1} does the same to the next requests, without a directive; with
"tag": "abc" to the next ones of that tag, whatever others come between.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import heapq
import json
import os
import re
import signal
import socket
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

FIRST_ID = 100_000
_DIRECTIVE = re.compile(r"\[\[([^\]]*)\]\]")
_FAULTS = ("die", "hang", "reset", "close", "cut", "malformed", "error", "slow", "held")
_SLOW_S = 0.3
_TICK_S = 0.001


def word(index: int, tag: str = "w") -> str:
    """The text of token number ``index`` of every answer."""
    if index % 7 == 3:
        return f" é{tag}{index}"
    if index % 11 == 5:
        return f" 😀{tag}{index}"
    return f" {tag}{index}"


def words(count: int, tag: str = "w", start: int = 0) -> str:
    """The text of tokens ``start`` to ``count``."""
    return "".join(word(i, tag) for i in range(start, count))


@dataclass(frozen=True)
class Script:
    """How the engine behaves unless the prompt says otherwise."""

    slots: int = 4
    ttft_ms: float = 0.0
    itl_ms: float = 0.0
    tokens: int = 20
    tag: str = "w"
    context: int = 4096
    start_ms: float = 0.0
    model: str = "scripted"


@dataclass
class Counters:
    """What /metrics shows."""

    requests_cancelled_total: int = 0
    requests_total: int = 0
    prompt_tokens_total: int = 0
    tokens_predicted_total: int = 0
    n_decode_total: int = 0


class Stream:
    """One generation in progress."""

    def __init__(self, engine: ScriptedEngine, connection: Connection, wire: str, body: dict) -> None:
        self.engine = engine
        self.connection = connection
        self.wire = wire
        self.streamed = bool(body.get("stream"))
        self.usage = bool((body.get("stream_options") or {}).get("include_usage"))
        original, parts = _split(wire, body)
        self.text_of_prompt = original
        wishes = _wishes(original)
        script = engine.script
        self.tag = wishes.get("tag", script.tag)
        self.total = int(wishes.get("tokens", script.tokens))
        self.itl_s = float(wishes.get("itl", script.itl_ms)) / 1e3
        self.ttft_s = float(wishes.get("ttft", script.ttft_ms)) / 1e3
        self.status = int(wishes.get("status", 200))
        self.start, self.half = _resumed(original, parts, self.tag)
        self.next = self.start
        self.fault, self.fault_after = engine.fault_of(wishes, self.start)
        limit = body.get("n_predict" if wire == "llamacpp" else "max_tokens")
        limit = body.get("max_completion_tokens") if limit is None else limit
        self.limit = self.total if limit is None or limit < 0 else int(limit)
        stops = body.get("stop") or []
        self.stops = [stops] if isinstance(stops, str) else list(stops)
        self.evaluated = len(original) // 4 + 1 + self.start
        self.withheld = ""
        self.written: list[str] = []
        self.slot: int | None = None
        self.began_s = 0.0

    @property
    def predicted(self) -> int:
        return self.next - self.start

    def begin(self, now_s: float) -> None:
        self.began_s = now_s
        self.engine.counters.prompt_tokens_total += self.evaluated
        if self.streamed:
            self.connection.open_stream()
        self.engine.schedule(now_s + self.ttft_s, self)

    def step(self, now_s: float) -> None:
        """Make the next token, or the end, or the fault that is due."""
        if self.connection.stream is not self:
            return
        if self.connection.paused:
            # Its reader is slow: make nothing that nobody takes.
            self.engine.schedule(now_s + 0.005, self)
            return
        if self.fault and self.predicted + self.start >= self.fault_after and self._strike():
            return
        if self.next >= self.total:
            self._end("eos")
            return
        if self.predicted >= self.limit:
            self._end("limit")
            return
        self.engine.counters.tokens_predicted_total += 1
        index, self.next = self.next, self.next + 1
        text = word(index, self.tag)
        if self.half:
            text, self.half = text[self.half :], 0
        if not self._say(text, FIRST_ID + index):
            return
        self.engine.schedule(now_s + self.itl_s, self)

    def _say(self, text: str, token: int) -> bool:
        """Send text, or keep what may be the beginning of a stop string; False if one was met."""
        self.withheld += text
        for stop in self.stops:
            place = self.withheld.find(stop)
            if place >= 0:
                self._send(self.withheld[:place], token)
                self._end("word", stop)
                return False
        keep = max((_overlap(self.withheld, stop) for stop in self.stops), default=0)
        cut = len(self.withheld) - keep
        self._send(self.withheld[:cut], token)
        self.withheld = self.withheld[cut:]
        return True

    def _send(self, text: str, token: int) -> None:
        self.written.append(text)
        if not self.streamed:
            return
        if self.wire == "llamacpp":
            self.connection.event(
                b'{"index":0,"content":%s,"tokens":[%d],"stop":false,"id_slot":-1,'
                b'"tokens_predicted":%d,"tokens_evaluated":%d}'
                % (json.dumps(text).encode(), token, self.predicted, self.evaluated)
            )
        elif text:
            self.connection.event(self._choice(text, None))

    def _choice(self, text: str, finish: str | None) -> bytes:
        chat = self.wire == "chat"
        said = {"delta": {"content": text} if text else {}} if chat else {"text": text}
        return json.dumps({
            "id": "scripted", "object": "chat.completion.chunk" if chat else "text_completion", "created": 0,
            "model": self.engine.script.model, "choices": [{"index": 0, **said, "finish_reason": finish}],
        }).encode()  # fmt: skip

    def _usage(self) -> dict:
        return {
            "prompt_tokens": self.evaluated, "completion_tokens": self.predicted,
            "total_tokens": self.evaluated + self.predicted, "prompt_tokens_details": {"cached_tokens": 0},
        }  # fmt: skip

    def _end(self, kind: str, stop: str = "") -> None:
        if kind != "word" and self.withheld:
            text, self.withheld = self.withheld, ""
            self.written.append(text)
            if self.streamed and self.wire != "llamacpp":
                self.connection.event(self._choice(text, None))
        else:
            text = ""
        self.engine.release(self)
        finish = "length" if kind == "limit" else "stop"
        if self.wire == "llamacpp":
            self._end_llamacpp(kind, stop, text)
        elif self.streamed:
            self.connection.event(self._choice("", finish))
            if self.usage:
                self.connection.event(json.dumps({"choices": [], "usage": self._usage()}).encode())
            self.connection.event(b"[DONE]")
            self.connection.close_stream()
        else:
            answer = "".join(self.written)
            said = (
                {"message": {"role": "assistant", "content": answer}} if self.wire == "chat" else {"text": answer}
            )
            choice = {"index": 0, **said, "finish_reason": finish}
            self.connection.reply(
                200, {"id": "scripted", "created": 0, "model": self.engine.script.model,
                      "object": "chat.completion" if self.wire == "chat" else "text_completion",
                      "choices": [choice], "usage": self._usage()},
            )  # fmt: skip

    def _end_llamacpp(self, kind: str, stop: str, text: str) -> None:
        decode_ms = (time.monotonic() - self.began_s - self.ttft_s) * 1e3
        last = {
            "index": 0, "content": text if self.streamed else "".join(self.written), "tokens": [], "stop": True,
            "stop_type": kind, "stopping_word": stop, "truncated": False,
            "tokens_predicted": self.predicted, "tokens_evaluated": self.evaluated,
            "tokens_cached": self.evaluated + self.predicted,
            "timings": {"cache_n": 0, "prompt_n": self.evaluated, "prompt_ms": self.ttft_s * 1e3,
                        "predicted_n": self.predicted, "predicted_ms": decode_ms},
        }  # fmt: skip
        if self.streamed:
            self.connection.event(json.dumps(last).encode())
            self.connection.close_stream()
        else:
            self.connection.reply(200, last)

    def _strike(self) -> bool:
        """Meet the fault; whether that was all for now."""
        fault, self.fault = self.fault, ""
        if fault == "die":
            os._exit(137)
        if fault == "slow":
            self.itl_s = _SLOW_S
            return False
        if fault == "held":
            self.engine.held.append(self)
        elif fault != "hang":
            self._break(fault)
        return True

    def _break(self, fault: str) -> None:
        self.engine.release(self)
        if fault == "reset":
            self.connection.reset()
        elif fault == "close":
            self.connection.close()
        elif fault == "cut":
            self.connection.close_stream()
        elif fault == "malformed":
            self.connection.event(b'{"content": ')
            self.connection.close_stream()
        elif fault == "error":
            error = {"error": {"code": 500, "message": "scripted", "type": "server_error"}}
            self.connection.event(json.dumps(error).encode())
            self.connection.close_stream()


def steps_taken(monkeypatch: Any) -> list[float]:
    """How long engines of this process really take from each token to the next: the list grows as they work.

    On a busy machine that is more than they are told.
    """
    taken_s: list[float] = []
    last_at: dict[Stream, float] = {}
    step = Stream.step

    def watched(stream: Stream, now_s: float) -> None:
        if stream in last_at:
            taken_s.append(now_s - last_at[stream])
        last_at[stream] = now_s
        step(stream, now_s)

    monkeypatch.setattr(Stream, "step", watched)
    return taken_s


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters of ``text`` may be the beginning of ``stop``."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def _split(wire: str, body: dict) -> tuple[str, list[int | str]]:
    """The original prompt as text, and the parts of the answer that came with it."""
    if wire == "chat":
        messages = body.get("messages", [])
        begun = messages[-1:] if messages and messages[-1].get("role") == "assistant" else []
        rest = messages[: len(messages) - len(begun)]
        return "\n".join(_plain(m) for m in rest), [_plain(m) for m in begun]
    prompt = body.get("prompt", "")
    if isinstance(prompt, str):
        return prompt, []
    if prompt and isinstance(prompt[0], str):
        return prompt[0], prompt[1:]
    own = next((n for n, part in enumerate(prompt) if isinstance(part, str) or part >= FIRST_ID), len(prompt))
    return "".join(f"<{part}>" for part in prompt[:own]), prompt[own:]


def _plain(message: dict) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _resumed(original: str, parts: list[int | str], tag: str) -> tuple[int, int]:
    """The token that comes next, and how many characters of it were already said."""
    if not parts:
        place = original.rfind(word(0, tag))
        said = original[place:] if place >= 0 else ""
        count, half = _consume(said, 0, tag)
        return (count, half) if count + half and words(count + 1, tag).startswith(said) else (0, 0)
    index, half = 0, 0
    for part in parts:
        if isinstance(part, int):
            if part != FIRST_ID + index:
                raise ValueError(f"token {part} cannot come at place {index}")
            index += 1
        else:
            begun = part if part.startswith(" ") or index or not part else f" {part}"
            index, half = _consume(begun, index, tag)
    return index, half


def _consume(text: str, index: int, tag: str) -> tuple[int, int]:
    while text and text.startswith(word(index, tag)):
        text = text[len(word(index, tag)) :]
        index += 1
    return index, len(text) if text and word(index, tag).startswith(text) else 0


def _wishes(prompt: str) -> dict[str, str]:
    found = _DIRECTIVE.findall(prompt)
    return dict(wish.split("=", 1) for wish in found[-1].split() if "=" in wish) if found else {}


class Connection(asyncio.Protocol):
    """One HTTP connection."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.engine = engine
        self.stream: Stream | None = None
        self.paused = False
        self._parser = httptools.HttpRequestParser(self)
        self._path = ""
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.engine.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.engine.connections.discard(self)
        if self.stream is not None:
            self.engine.counters.requests_cancelled_total += 1
            self.engine.release(self.stream)
            if self.stream in self.engine.held:
                self.engine.held.remove(self.stream)
            self.stream = None

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._path = urlsplit(url.decode()).path
        self._body = []

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        try:
            self.engine.serve(self, self._path, b"".join(self._body))
        except (ValueError, KeyError, TypeError) as error:
            self.reply(400, {"error": {"code": 400, "message": str(error), "type": "invalid_request_error"}})

    def reply(self, status: int, body: object) -> None:
        self.stream = None
        text = isinstance(body, str)
        payload = body.encode() if text else json.dumps(body).encode()
        kind = b"text/plain" if text else b"application/json"
        self._transport.write(
            b"HTTP/1.1 %d Scripted\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (status, kind, len(payload), payload)
        )
        if not self._parser.should_keep_alive():
            self._transport.close()

    def open_stream(self) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

    def event(self, payload: bytes) -> None:
        self._transport.write(b"%x\r\ndata: %b\n\n\r\n" % (len(payload) + 8, payload))

    def close_stream(self) -> None:
        self.stream = None
        self._transport.write(b"0\r\n\r\n")

    def close(self) -> None:
        self.stream = None
        self._transport.close()

    def reset(self) -> None:
        self.stream = None
        linger = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()


class ScriptedEngine:
    """The engine: slots, a queue, one timer for all streams."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.counters = Counters()
        self.connections: set[Connection] = set()
        self.bodies: deque[tuple[str, dict]] = deque(maxlen=100)
        self._free = list(range(self.script.slots))[::-1]
        self._busy: dict[int, Stream] = {}
        self._waiting: deque[Stream] = deque()
        self._due: list[tuple[float, int, Stream]] = []
        self._order = 0
        self._timer: asyncio.TimerHandle | None = None
        self._faults: list[tuple[str, int, str]] = []
        self.held: list[Stream] = []
        self._ready_s = 0.0
        self.url = ""

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        self._loop = asyncio.get_running_loop()
        self._ready_s = time.monotonic() + self.script.start_ms / 1e3
        self._server = await self._loop.create_server(lambda: Connection(self), host, port, backlog=4096)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{self.host}:{self.port}"
        return self.url

    async def stop(self) -> None:
        self._server.close()
        for connection in list(self.connections):
            connection.reset()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.sleep(0)

    @property
    def busy(self) -> int:
        return len(self._busy)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def fault(self, kind: str, after: int = 0, times: int = 1, tag: str = "") -> None:
        """Let the next ``times`` requests, of ``tag`` if it is given, meet a fault after ``after`` tokens.

        ``none`` forgets those to come.
        """
        if kind == "none":
            self._faults.clear()
            return
        if kind not in _FAULTS:
            raise ValueError(f"no fault is called {kind}")
        self._faults.extend([(kind, after, tag)] * times)

    def go(self, kind: str = "", tag: str = "") -> None:
        """Let those that are held, of ``tag`` if it is given, go on or meet a fault."""
        for stream in [stream for stream in self.held if tag in ("", stream.tag)]:
            self.held.remove(stream)
            stream.fault, stream.fault_after = kind, 0
            self.schedule(time.monotonic(), stream)

    def fault_of(self, wishes: dict[str, str], start: int) -> tuple[str, int]:
        for kind in _FAULTS:
            if kind in wishes and start < max(1, int(wishes[kind])):
                return kind, int(wishes[kind])
        for place, (kind, after, tag) in enumerate(self._faults):
            if tag in ("", wishes.get("tag")):
                del self._faults[place]
                return kind, after
        return "", 0

    def serve(self, connection: Connection, path: str, body: bytes) -> None:
        wire = {"/completion": "llamacpp", "/v1/chat/completions": "chat", "/v1/completions": "completion"}.get(
            path
        )
        if path == "/health":
            ready = time.monotonic() >= self._ready_s
            connection.reply(200 if ready else 503, {"status": "ok" if ready else "loading model"})
        elif path == "/metrics":
            connection.reply(200, self.metrics())
        elif path == "/slots":
            connection.reply(200, [{"id": n, "is_processing": n in self._busy} for n in range(self.script.slots)])
        elif path == "/v1/models":
            connection.reply(200, {"object": "list", "data": [{"id": self.script.model, "object": "model"}]})
        elif path in ("/tokenize", "/v1/chat/completions/input_tokens"):
            self._tokenize(connection, json.loads(body))
        elif path == "/fault":
            wish = json.loads(body)
            self.fault(wish["kind"], int(wish.get("after", 0)), int(wish.get("times", 1)), wish.get("tag", ""))
            connection.reply(200, {})
        elif path == "/go":
            wish = json.loads(body)
            self.go(wish.get("kind", ""), wish.get("tag", ""))
            connection.reply(200, {})
        elif wire is not None:
            self._generate(connection, wire, json.loads(body))
        else:
            connection.reply(404, {"error": {"code": 404, "message": "not found", "type": "not_found_error"}})

    def _tokenize(self, connection: Connection, body: dict) -> None:
        text = body.get("content", body.get("prompt")) or "\n".join(_plain(m) for m in body.get("messages", []))
        count = len(text) // 4 + 1
        connection.reply(200, {"tokens": list(range(count)), "count": count, "input_tokens": count})

    def _generate(self, connection: Connection, wire: str, body: dict) -> None:
        self.bodies.append((wire, body))
        stream = Stream(self, connection, wire, body)
        self.counters.requests_total += 1
        if stream.status != 200:
            error = {"code": stream.status, "message": "scripted", "type": "scripted"}
            connection.reply(stream.status, {"error": error})
            return
        if stream.evaluated > self.script.context:
            error = {
                "code": 400,
                "message": "exceeds the available context size",
                "type": "exceed_context_size_error",
            }
            connection.reply(400, {"error": error})
            return
        connection.stream = stream
        self._waiting.append(stream)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._free:
            stream = self._waiting.popleft()
            stream.slot = self._free.pop()
            self._busy[stream.slot] = stream
            stream.begin(time.monotonic())

    def release(self, stream: Stream) -> None:
        if stream.slot is None:
            with contextlib.suppress(ValueError):
                self._waiting.remove(stream)
            return
        del self._busy[stream.slot]
        self._free.append(stream.slot)
        stream.slot = None
        self._admit()

    def schedule(self, due_s: float, stream: Stream) -> None:
        self._order += 1
        heapq.heappush(self._due, (due_s, self._order, stream))
        if self._timer is None:
            self._timer = self._loop.call_later(max(0.0, due_s - time.monotonic()), self._tick)

    def _tick(self) -> None:
        """Move every stream that is due, then sleep until the next is, but never for less than a tick."""
        now_s = time.monotonic()
        due = self._due
        worked = 0
        while due and due[0][0] <= now_s and worked < 5000:
            _, _, stream = heapq.heappop(due)
            stream.step(now_s + 1e-9)
            worked += 1
        self.counters.n_decode_total += worked > 0
        self._timer = None
        if due:
            pause_s = max(due[0][0] - time.monotonic(), 0.0)
            self._timer = self._loop.call_later(pause_s and max(pause_s, _TICK_S), self._tick)

    def metrics(self) -> str:
        c = self.counters
        values = {
            "requests_processing": len(self._busy), "requests_deferred": len(self._waiting),
            "prompt_tokens_total": c.prompt_tokens_total, "tokens_predicted_total": c.tokens_predicted_total,
            "n_decode_total": c.n_decode_total, "requests_cancelled_total": c.requests_cancelled_total,
            "requests_total": c.requests_total, "requests_held": len(self.held),
        }  # fmt: skip
        return "".join(f"# TYPE llamacpp:{name} gauge\nllamacpp:{name} {value}\n" for name, value in values.items())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--spare", action="store_true", help="begin when the port comes as a line on stdin")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--ttft-ms", type=float, default=0.0)
    parser.add_argument("--itl-ms", type=float, default=0.0)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--tag", default="w")
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--start-ms", type=float, default=0.0)
    parser.add_argument("--model", default="scripted")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    fields = {name: value for name, value in vars(arguments).items() if name not in ("host", "port", "spare")}
    engine = ScriptedEngine(replace(Script(), **fields))
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    url = await engine.start(arguments.host, arguments.port)
    sys.stdout.write(json.dumps({"listening": url, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    await done.wait()


def main() -> None:
    # No scripted engine outlives the test that started it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    arguments = _arguments()
    if arguments.spare:
        line = sys.stdin.readline()
        if not line:
            return
        arguments.port = int(line)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(arguments))


if __name__ == "__main__":
    main()
