"""Plain sockets for tests: a client that sees every byte, scripted engines as processes, and a line that breaks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

SCRIPTED = Path(__file__).parents[1] / "support" / "scripted.py"


def eventually(what: Callable[[], Any], limit_s: float = 5.0) -> Any:
    """Wait until ``what`` is true."""
    until = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)
    return found


class Answer(NamedTuple):
    """A reply as it came. ``whole`` tells whether it ended as its framing says."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection."""

    def __init__(self, address: tuple[str, int], *, timeout_s: float = 20.0, receive_bytes: int = 0) -> None:
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(timeout_s)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.got = b""
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Client:
        with contextlib.suppress(ConnectionError):  # it may have been refused already; then there is an answer
            self.socket.sendall(data)
        return self

    def more(self) -> bool:
        """Read some; False at the end."""
        if self.ended:
            return False
        try:
            data = self.socket.recv(65_536)
        except ConnectionResetError:
            data = b""
        self.got += data
        self.ended = not data
        return bool(data)

    def until(self, what: bytes, times: int = 1) -> bytes:
        """Read until ``what`` was seen that often."""
        while self.got.count(what) < times:
            assert self.more(), f"ended before {what!r}: {self.got[-500:]!r}"
        return self.got

    def answer(self) -> Answer:
        """Read one reply, chunked or not, and take it off what was got."""
        while b"\r\n\r\n" not in self.got:
            assert self.more(), f"no reply, only {self.got!r}"
        head, _, self.got = self.got.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        status = int(lines[0].split()[1])
        if status == 100:
            return self.answer()
        if "transfer-encoding" in headers:
            body, whole = self._chunks()
        elif "content-length" in headers:
            length = int(headers["content-length"])
            while len(self.got) < length and self.more():
                pass
            body, self.got = self.got[:length], self.got[length:]
            whole = len(body) == length
        else:
            while status != 204 and self.more():
                pass
            body, self.got, whole = self.got, b"", True
        return Answer(status, headers, body, whole)

    def _chunks(self) -> tuple[bytes, bool]:
        body = b""
        while True:
            while b"\r\n" not in self.got:
                if not self.more():
                    return body, False
            size_text, _, rest = self.got.partition(b"\r\n")
            size = int(size_text, 16)
            while len(rest) < size + 2:
                if not self.more():
                    return body + rest[:size], False
                rest = self.got.partition(b"\r\n")[2]
            body += rest[:size]
            self.got = rest[size + 2 :]
            if size == 0:
                return body, True


def http(path: str, body: Any = None, *, key: str = "", method: str = "POST", head: str = "") -> bytes:
    """A request as bytes."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    bearer = f"Authorization: Bearer {key}\r\n" if key else ""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{bearer}{head}"
        f"Content-Length: {len(data)}\r\n\r\n"
    ).encode("latin-1") + data


class Said(NamedTuple):
    """What a stream or a reply says, in any dialect."""

    text: str
    finish: str | None
    completion_tokens: int | None
    prompt_tokens: int | None
    error: Any


class OpenAI:
    name = "openai"
    stopped, limited = "stop", "length"
    error_key = "error"

    def path(self, stream: bool) -> str:
        return "/v1/chat/completions"

    def body(self, text: str, *, stream: bool = True, max_tokens: int | None = None, stop: Any = None) -> dict:
        body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        if stop:
            body["stop"] = stop
        return body

    def read(self, frames: list[Any]) -> Said:
        text, finish, usage, error = "", None, {}, None
        for frame in frames:
            error = frame.get("error") or error
            usage = frame.get("usage") or usage
            for choice in frame.get("choices", []):
                said = choice.get("delta") or choice.get("message") or {}
                text += said.get("content") or ""
                finish = choice.get("finish_reason") or finish
        return Said(text, finish, usage.get("completion_tokens"), usage.get("prompt_tokens"), error)


class Anthropic:
    name = "anthropic"
    stopped, limited = "end_turn", "max_tokens"
    error_key = "error"

    def path(self, stream: bool) -> str:
        return "/v1/messages"

    def body(self, text: str, *, stream: bool = True, max_tokens: int | None = None, stop: Any = None) -> dict:
        body: dict[str, Any] = {
            "model": "m", "messages": [{"role": "user", "content": text}], "stream": stream,
            "max_tokens": max_tokens or 2000,
        }  # fmt: skip
        if stop:
            body["stop_sequences"] = stop
        return body

    def read(self, frames: list[Any]) -> Said:
        text, finish, usage, error = "", None, {}, None
        for frame in frames:
            kind = frame.get("type")
            if kind == "error":
                error = frame["error"]
            elif kind == "message_start":
                usage = dict(frame["message"]["usage"])
            elif kind == "content_block_delta":
                text += frame["delta"].get("text", "")
            elif kind == "message_delta":
                finish = frame["delta"]["stop_reason"]
                usage |= {k: v for k, v in frame["usage"].items() if v is not None}
            elif kind == "message":
                text += "".join(block.get("text", "") for block in frame["content"])
                finish, usage = frame["stop_reason"], frame["usage"]
        prompt = usage.get("input_tokens")
        if prompt is not None:
            prompt += usage.get("cache_read_input_tokens") or 0
        return Said(text, finish, usage.get("output_tokens"), prompt, error)


class Gemini:
    name = "gemini"
    stopped, limited = "STOP", "MAX_TOKENS"
    error_key = "error"

    def path(self, stream: bool) -> str:
        return "/v1beta/models/m:streamGenerateContent?alt=sse" if stream else "/v1beta/models/m:generateContent"

    def body(self, text: str, *, stream: bool = True, max_tokens: int | None = None, stop: Any = None) -> dict:
        config: dict[str, Any] = {}
        if max_tokens is not None:
            config["maxOutputTokens"] = max_tokens
        if stop:
            config["stopSequences"] = stop
        return {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config}

    def read(self, frames: list[Any]) -> Said:
        text, finish, usage, error = "", None, {}, None
        for frame in frames:
            error = frame.get("error") or error
            usage = frame.get("usageMetadata") or usage
            for candidate in frame.get("candidates", []):
                text += "".join(part.get("text", "") for part in candidate.get("content", {}).get("parts", []))
                finish = candidate.get("finishReason") or finish
        return Said(text, finish, usage.get("candidatesTokenCount"), usage.get("promptTokenCount"), error)


DIALECTS: list[Any] = [OpenAI(), Anthropic(), Gemini()]


def frames(body: bytes) -> list[Any]:
    """The JSON of a stream's events, or of a whole reply."""
    if body.lstrip().startswith(b"{"):
        return [json.loads(body)]
    found = re.findall(rb"^data: ?(.*?)\r?$", body, re.MULTILINE)
    return [json.loads(data) for data in found if data != b"[DONE]"]


def ask(platform: Any, dialect: Any, text: str, *, stream: bool = True, key: str = "", **wishes: Any) -> tuple:
    """One request; returns the answer and what it says."""
    with Client(platform.address) as client:
        data = http(dialect.path(stream), dialect.body(text, stream=stream, **wishes), key=key or platform.key)
        answer = client.send(data).answer()
    return answer, dialect.read(frames(answer.body))


class Engine:
    """A scripted engine as a process of its own.

    One that is ``mortal`` has a second process ready, so that it is back at once when it was killed: a new Python
    takes a third of a second to begin.
    """

    def __init__(self, port: int = 0, *, mortal: bool = False, **flags: Any) -> None:
        self.flags = flags
        self._spare = self._popen("--spare") if mortal else None
        self._start(port)

    def _popen(self, *more: str) -> subprocess.Popen[bytes]:
        words = [f"--{name.replace('_', '-')}={value}" for name, value in self.flags.items()]
        command = [sys.executable, str(SCRIPTED), *more, *words]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _start(self, port: int) -> None:
        if self._spare is None:
            self.process = self._popen("--port", str(port))
        else:
            self.process, self._spare = self._spare, self._popen("--spare")
            assert self.process.stdin is not None
            self.process.stdin.write(b"%d\n" % port)
            self.process.stdin.flush()
        assert self.process.stdout is not None
        self.url: str = json.loads(self.process.stdout.readline())["listening"]
        self.port = int(self.url.rpartition(":")[2])

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def restart(self) -> None:
        """Come back at the same address, if it is dead."""
        if not self.alive:
            _close_pipes(self.process)
            self._start(self.port)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(5)

    def stop(self) -> None:
        if self.alive:
            self.kill()
        _close_pipes(self.process)
        if self._spare is not None:
            self._spare.kill()
            self._spare.wait(5)
            _close_pipes(self._spare)

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=5) as reply:
            return reply.read()

    def busy(self) -> int:
        return sum(slot["is_processing"] for slot in json.loads(self.get("/slots")))

    def count(self, name: str) -> int:
        found = re.search(rf"^llamacpp:{name} (\d+)", self.get("/metrics").decode(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def held(self) -> int:
        return self.count("requests_held")

    def fault(self, kind: str, after: int, times: int = 1, tag: str = "") -> None:
        self._tell("/fault", {"kind": kind, "after": after, "times": times, "tag": tag})

    def go(self, kind: str = "", tag: str = "") -> None:
        """Let the answers that are held, of a tag if it is given, go on or meet a fault."""
        self._tell("/go", {"kind": kind, "tag": tag})

    def _tell(self, path: str, wish: dict[str, Any]) -> None:
        request = urllib.request.Request(self.url + path, json.dumps(wish).encode())
        urllib.request.urlopen(request, timeout=5).close()


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


@contextlib.contextmanager
def engines(count: int, **flags: Any) -> Iterator[list[Engine]]:
    started: list[Engine] = []
    try:
        for _ in range(count):
            started.append(Engine(**flags))  # noqa: PERF401  # those that started are to be stopped
        yield started
    finally:
        for engine in started:
            engine.stop()


def model(urls: list[str], kind: str = "llamacpp", **settings: Any) -> dict[str, Any]:
    """Settings of the model ``m`` on engines that run already; quick to notice that one is back."""
    engine = {"kind": kind, "addresses": urls, "probe_s": 0.2, **settings}
    return {"name": "m", "engine": engine, "context_tokens": 1_000_000}


class Line:
    """A line to an engine that breaks once in the reply to a request, wherever in it that is.

    ``breaks`` says after how many bytes of the stream, by the tag in the request's prompt.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.breaks: dict[str, int] = {}
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._open = False
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while self._open:
                near, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        tags = [""]  # of the latest request
        with near, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._engine.port)) as far:
            back = threading.Thread(target=self._back, args=(far, near, tags), daemon=True)
            back.start()
            while data := near.recv(65_536):
                if self.breaks and (told := re.search(rb"tag=(\w+)", data)):
                    tags[0] = told[1].decode()
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)
            back.join(5)

    def _back(self, far: socket.socket, near: socket.socket, tags: list[str]) -> None:
        streamed = 0
        with contextlib.suppress(OSError):
            while data := far.recv(65_536):
                if data.startswith(b"HTTP/1.1 "):
                    streamed = 0
                if streamed or b"text/event-stream" in data:
                    streamed += len(data)
                limit = self.breaks.get(tags[0])
                if limit is not None and streamed >= limit:
                    del self.breaks[tags[0]]
                    near.sendall(data[: len(data) - (streamed - limit)])
                    break
                near.sendall(data)
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)
            far.shutdown(socket.SHUT_RDWR)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
