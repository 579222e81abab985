"""A lean load generator: raw asyncio protocols, one connection a stream, SSE events counted as they come."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.parse
from typing import Any


class Stream:
    """One streamed request. Times are monotonic seconds; ``events`` holds the arrival of each content event."""

    def __init__(self) -> None:
        self.sent_at = time.monotonic()
        self.events: list[float] = []
        self.data: list[bytes] = []
        self.status = 0
        self.clean = False

    @property
    def ttft_s(self) -> float:
        return self.events[0] - self.sent_at if self.events else float("nan")


class Client(asyncio.Protocol):
    """One connection, used for one stream after the other, as SDKs do."""

    def __init__(self, marker: bytes, *, keep: bool) -> None:
        self._marker = marker
        self._keep = keep
        self._tail = b""
        self._stream = Stream()
        self._done: asyncio.Future[Stream] | None = None
        self.open = True

    def connection_made(self, transport: Any) -> None:
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[Stream]:
        """Send a request; the future is done when its stream is over."""
        self._stream, self._tail = Stream(), b""
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        one = self._stream
        if not one.status:
            one.status = int(data[9:12])
        if self._keep:
            one.data.append(data)
        # A marker may be cut in two by a packet's end; what overlaps is too short to hold a whole one.
        seen = self._tail + data
        self._tail = seen[-(len(self._marker) - 1) :]
        one.events.extend([now] * seen.count(self._marker))
        one.clean = one.status == 200 and seen.endswith(b"\r\n0\r\n\r\n")
        if one.clean or one.status != 200:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # its interface
        self.open = False
        self._end()

    def _end(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(self._stream)

    def close(self) -> None:
        self._transport.close()


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


async def connect(target: tuple[str, int, bytes], marker: bytes, *, keep: bool = False) -> Client:
    """Open a connection to where a request goes."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Client(marker, keep=keep), *target[:2])
    return client


async def stream(
    target: tuple[str, int, bytes], marker: bytes, *, keep: bool = False, limit_s: float = 120
) -> Stream:
    """Run one stream to its end, on a connection of its own."""
    client = await connect(target, marker, keep=keep)
    async with asyncio.timeout(limit_s):
        done = await client.ask(target[2])
    client.close()
    return done


async def closed_loop(
    target: tuple[str, int, bytes], marker: bytes, *, streams: int, rounds: int, over_s: float = 0.0
) -> tuple[list[Stream], float]:
    """Keep ``streams`` streams going, each ``rounds`` times on one connection; returns them and the seconds taken.

    They begin spread over ``over_s`` seconds, so that they do not all ask at the same moment for ever.
    """
    clients = [await connect(target, marker) for _ in range(streams)]
    finished: list[Stream] = []

    async def one(number: int) -> None:
        await asyncio.sleep(over_s * number / streams)
        for _ in range(rounds):
            if not clients[number].open:  # some servers close after a stream
                clients[number] = await connect(target, marker)
            finished.append(await clients[number].ask(target[2]))

    began = time.monotonic()
    async with asyncio.timeout(300):
        await asyncio.gather(*(one(number) for number in range(streams)))
    took = time.monotonic() - began
    for client in clients:
        client.close()
    return finished, took
