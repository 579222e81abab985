"""A crowd of callers that ask when they want to, not when they are answered. A process of its own.

Reads a plan on stdin, {url, seed, callers: [{name, key, body}], phases: [{seconds, rates, even}]}, and prints one
list of [who, asked, sent, status, answered, first, ended, tokens, whole], times in seconds from its beginning.
Connections are kept and used again, as SDKs do, and there are as many as it takes.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import sys
import time
import urllib.parse
from collections import deque
from typing import Any

import uvloop

_MARKER = b'"delta":{"content":"'  # a token; the first chunk, which names the role, has another form
_ERROR = b'"error":{'
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_LIMIT_S = 40.0


class Line(asyncio.Protocol):
    """One connection, used for one request after the other."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._row: list[Any] | None = None
        self._tail = b""
        self._head = b""
        self.open = False

    def connection_made(self, transport: Any) -> None:
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport
        self.open = True

    def ask(self, request: bytes, row: list[Any]) -> None:
        self._row, self._tail, self._head = row, b"", b""
        row[2] = self._crowd.now()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        row = self._row
        if row is None:
            self._transport.close()
            return
        now = self._crowd.now()
        if not row[3]:
            row[3], row[4] = int(data[9:12]), now
        if row[3] != 200:
            self._refusal(data)
            return
        seen = self._tail + data  # a marker may be cut in two
        self._tail = seen[1 - len(_MARKER) :]
        if _ERROR in seen and row[5] is None:  # refused after its headers had gone out, while it waited
            row[3], row[4] = 503, now
        count = seen.count(_MARKER)
        if count and row[5] is None:
            row[5] = now
        row[7] += count
        if seen.endswith(b"\r\n0\r\n\r\n"):
            self._end(whole=True)

    def _refusal(self, data: bytes) -> None:
        self._head += data
        head, mark, body = self._head.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if mark and length is not None and len(body) >= int(length[1]):
            self._end(whole=False)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.open = False
        if self._row is not None:
            self._end(whole=False)

    def _end(self, *, whole: bool) -> None:
        row, self._row = self._row, None
        if row is not None:
            row[6], row[8] = self._crowd.now(), whole
            self._crowd.over(self)


class Crowd:
    def __init__(self, plan: dict[str, Any]) -> None:
        parts = urllib.parse.urlsplit(plan["url"])
        self._address = (parts.hostname, parts.port)
        self._plan = plan
        self._dice = random.Random(plan["seed"])
        self._idle: deque[Line] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self.rows: list[list[Any]] = []
        self._open = 0
        self._requests = {caller["name"]: self._request(caller) for caller in plan["callers"]}

    def _request(self, caller: dict[str, Any]) -> bytes:
        data = json.dumps(caller["body"]).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {caller['key']}\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data

    def now(self) -> float:
        return time.monotonic() - self._began

    def arrivals(self) -> list[tuple[float, str]]:
        """When who asks."""
        found: list[tuple[float, str]] = []
        start = 0.0
        for phase in self._plan["phases"]:
            for name, rate in phase["rates"].items():
                at = start + self._dice.random() / rate if rate else float("inf")
                while at < start + phase["seconds"]:
                    found.append((at, name))
                    at += 1 / rate if phase["even"] else self._dice.expovariate(rate)
            start += phase["seconds"]
        return sorted(found)

    async def run(self) -> list[list[Any]]:
        arrivals = self.arrivals()
        self._began = time.monotonic()
        for at, name in arrivals:
            wait_s = at - self.now()
            if wait_s > 0.0005:
                await asyncio.sleep(wait_s)
            elif len(self.rows) % 50 == 0:
                await asyncio.sleep(0)  # it is behind: still let the answers in
            self._ask(name, at)
        until = self.now() + _LIMIT_S
        while self._open and self.now() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return self.rows

    def _ask(self, name: str, at: float) -> None:
        row = [name, at, at, 0, 0.0, None, 0.0, 0, False]
        self.rows.append(row)
        self._open += 1
        while self._idle:
            line = self._idle.pop()
            if line.open:
                line.ask(self._requests[name], row)
                return
        task = asyncio.get_running_loop().create_task(self._connect(name, row))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, name: str, row: list[Any]) -> None:
        try:
            _, line = await asyncio.get_running_loop().create_connection(lambda: Line(self), *self._address)
        except OSError:
            row[6] = self.now()
            self._open -= 1
            return
        line.ask(self._requests[name], row)

    def over(self, line: Line) -> None:
        self._open -= 1
        if line.open:
            self._idle.append(line)


if __name__ == "__main__":
    rows = uvloop.run(Crowd(json.load(sys.stdin)).run())
    json.dump(rows, sys.stdout)
