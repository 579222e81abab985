"""A lean load generator: raw asyncio protocols, one connection a stream, SSE events counted as they come."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.parse
from typing import Any


class Stream(asyncio.Protocol):
    """One streamed request. Times are monotonic seconds; ``events`` holds the arrival of each content event."""

    def __init__(self, request: bytes, marker: bytes, done: asyncio.Future[Stream], *, keep: bool) -> None:
        self._request = request
        self._marker = marker
        self._done = done
        self._keep = keep
        self._tail = b""
        self.sent_at = 0.0
        self.events: list[float] = []
        self.data: list[bytes] = []
        self.status = 0
        self.clean = False

    def connection_made(self, transport: Any) -> None:
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport
        self.sent_at = time.monotonic()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if not self.status:
            self.status = int(data[9:12])
        if self._keep:
            self.data.append(data)
        # A marker may be cut in two by a packet's end; what overlaps is too short to hold a whole one.
        seen = self._tail + data
        self._tail = seen[-(len(self._marker) - 1) :]
        self.events.extend([now] * seen.count(self._marker))
        self.clean = self.status == 200 and seen.endswith(b"0\r\n\r\n")
        if self.clean or self.status != 200:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # its interface
        if not self._done.done():
            self._done.set_result(self)

    @property
    def ttft_s(self) -> float:
        return self.events[0] - self.sent_at if self.events else float("nan")


def post(url: str, path: str, body: dict[str, Any], key: str | None = None) -> tuple[str, int, bytes]:
    """A request as bytes, and where it goes."""
    parts = urllib.parse.urlsplit(url)
    data = json.dumps(body).encode()
    credential = f"authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n{credential}"
        f"content-length: {len(data)}\r\n\r\n"
    )
    return parts.hostname or "", parts.port or 80, head.encode() + data


async def stream(
    target: tuple[str, int, bytes], marker: bytes, *, keep: bool = False, limit_s: float = 120
) -> Stream:
    """Run one stream to its end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Stream] = loop.create_future()
    host, port, request = target
    await loop.create_connection(lambda: Stream(request, marker, done, keep=keep), host, port)
    async with asyncio.timeout(limit_s):
        return await done


async def closed_loop(
    target: tuple[str, int, bytes], marker: bytes, *, streams: int, rounds: int, over_s: float = 0.0
) -> tuple[list[Stream], float]:
    """Keep ``streams`` streams going, each ``rounds`` times; returns all of them and the seconds it took.

    They begin spread over ``over_s`` seconds, so that they do not all ask at the same moment for ever.
    """
    finished: list[Stream] = []

    async def one(number: int) -> None:
        await asyncio.sleep(over_s * number / streams)
        finished.extend([await stream(target, marker) for _ in range(rounds)])

    began = time.monotonic()
    await asyncio.gather(*(one(number) for number in range(streams)))
    return finished, time.monotonic() - began
