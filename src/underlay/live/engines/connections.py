"""The gateway's side towards engines: pooled HTTP/1.1 connections that are used cleanly or destroyed.

A connection whose exchange did not end cleanly is never used again: a reply that belongs to somebody else could
still be in it (the cause of ChatGPT's leak of 2023-03-20). Nor is one in which anything came behind a reply, or
came unasked. Idle ones are kept for less time than llama.cpp keeps its end open (5 s).
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections import deque
from typing import Protocol, cast

import httptools

from underlay.live.engines.adapter import EngineRequest

_IDLE_S = 4.0
_IDLE_MAX = 64
_CONNECT_S = 5.0

Address = tuple[str, int]


class Receiver(Protocol):
    """Who hears what an engine answers. Exactly one of ``done`` and ``failed`` comes, and comes last."""

    def status(self, code: int) -> None:
        """Hear the status, before any of the body."""

    def body(self, data: bytes) -> None:
        """Hear some of the body."""

    def done(self) -> None:
        """Hear that the reply ended cleanly."""

    def failed(self, failure: str, detail: str) -> None:
        """Hear that it did not: ``refused`` (nobody listens there), ``connect`` or ``reset``."""


class Call:
    """One request to an engine, from its start until ``done``, ``failed`` or ``abort``."""

    __slots__ = ("_connection", "_message", "_pool", "_receiver", "_task", "_wants_pause", "address", "over")

    def __init__(self, pool: Pool, address: Address, message: bytes, receiver: Receiver) -> None:
        self._pool = pool
        self._message = message
        self._receiver = receiver
        self._connection: _Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._wants_pause = False
        self.address = address
        self.over = False

    def start(self) -> None:
        """Send it on an idle connection, or on a new one."""
        connection = self._pool.take(self.address)
        if connection is None:
            self._connect()
        else:
            self._send(connection)

    def _connect(self) -> None:
        self._task = self._pool.loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            connection = await self._pool.connect(self.address)
        except (OSError, TimeoutError) as error:
            failure = "refused" if isinstance(error, ConnectionRefusedError) else "connect"
            self.fail(failure, str(error) or "timed out")
            return
        if self.over:
            connection.destroy()
            return
        self._task = None
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        self._connection = connection
        connection.call = self
        connection.write(self._message)
        if self._wants_pause:
            connection.pause()

    def pause(self) -> None:
        """Stop reading, so that the engine feels the slow reader."""
        self._wants_pause = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        self._wants_pause = False
        if self._connection is not None:
            self._connection.resume()

    def abort(self) -> None:
        """Stop it: the connection is destroyed, by which the engine frees the slot. Nothing is heard after."""
        self.over = True
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.call = None
            self._connection.destroy()
            self._connection = None

    # From the connection.

    def status(self, code: int) -> None:
        self._receiver.status(code)

    def body(self, data: bytes) -> None:
        if not self.over:
            self._receiver.body(data)

    def complete(self) -> None:
        if not self.over:
            self.over = True
            self._connection = None
            self._receiver.done()

    def lost(self, *, untouched: bool, detail: str) -> None:
        """Hear that the connection broke; one that was idle too long is replaced, as nothing had come back."""
        self._connection = None
        if self.over:
            return
        if untouched:
            self._connect()
        else:
            self.fail("reset", detail)

    def fail(self, failure: str, detail: str) -> None:
        if not self.over:
            self.over = True
            self._receiver.failed(failure, detail)


class _Connection(asyncio.Protocol):
    """One connection to an engine; belongs to at most one call at a time."""

    __slots__ = (
        "_ended",
        "_keep",
        "_parser",
        "_paused",
        "_pool",
        "_spoilt",
        "_touched",
        "_transport",
        "address",
        "call",
        "idle_since",
        "used",
    )

    def __init__(self, pool: Pool, address: Address) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._touched = False  # something of the present reply has come
        self._keep = False
        self._paused = False
        self._ended = False  # the present reply is whole
        self._spoilt = False  # something came behind it
        self.address = address
        self.call: Call | None = None
        self.used = False  # it has served a call before
        self.idle_since = 0.0

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.forget(self)
        call, self.call = self.call, None
        if call is not None:
            call.lost(untouched=self.used and not self._touched, detail=str(exc or "closed by the engine"))

    def data_received(self, data: bytes) -> None:
        if self.call is None:  # an engine that speaks without being asked is not to be trusted
            self.destroy()
            return
        self._touched = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._spoilt = True
            if not self._ended:
                call, self.call = self.call, None
                self.destroy()
                if call is not None:
                    call.lost(untouched=False, detail=f"not HTTP: {error}")
                return
        if self._ended:
            self._end_call()

    def on_message_begin(self) -> None:
        self._spoilt = self._ended

    def on_headers_complete(self) -> None:
        code = self._parser.get_status_code()
        if not self._ended and code >= 200:  # the others only announce an answer
            self._keep = self._parser.should_keep_alive()
            if self.call is not None:
                self.call.status(code)

    def on_body(self, body: bytes) -> None:
        if self.call is not None and not self._ended:
            self.call.body(body)

    def on_message_complete(self) -> None:
        self._ended = self._ended or self._parser.get_status_code() >= 200

    def _end_call(self) -> None:
        """The reply is whole, and so is the data that it came with: only now may the next call have the connection.

        Were it given back in the middle of that data, the rest would be taken for the answer to the next call.
        """
        call, self.call = self.call, None
        if self._keep and call is not None and not self._paused and not self._spoilt:
            self.used, self._touched, self._ended = True, False, False
            self._pool.keep(self)
        else:
            self.destroy()
        if call is not None:
            call.complete()

    def silent(self) -> bool:
        """Whether nothing has come since the last reply, not even its end."""
        if self._transport is None:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause(self) -> None:
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused:
            self._paused = False
            self._transport.resume_reading()

    def destroy(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Pool:
    """Connections to all engines, by address."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._idle: dict[Address, deque[_Connection]] = {}
        self._all: set[_Connection] = set()

    def call(self, address: Address, request: EngineRequest, receiver: Receiver, extra: bytes = b"") -> Call:
        """Send a request; ``extra`` are further header lines, each with its line end."""
        call = Call(self, address, _message(address, request, extra), receiver)
        call.start()
        return call

    def take(self, address: Address) -> _Connection | None:
        """An idle connection to ``address`` that is still good, the most recently used first."""
        idle = self._idle.get(address)
        while idle:
            connection = idle.pop()
            if connection.open and time.monotonic() - connection.idle_since < _IDLE_S and connection.silent():
                return connection
            connection.destroy()
        return None

    async def connect(self, address: Address) -> _Connection:
        """Open a connection. Raises ``OSError`` or ``TimeoutError``."""
        async with asyncio.timeout(_CONNECT_S):
            _, protocol = await self.loop.create_connection(lambda: _Connection(self, address), *address)
        self._all.add(protocol)
        return protocol

    def keep(self, connection: _Connection) -> None:
        """Take a connection back after a clean exchange."""
        idle = self._idle.setdefault(connection.address, deque())
        connection.idle_since = time.monotonic()
        idle.append(connection)
        if len(idle) > _IDLE_MAX:
            idle.popleft().destroy()

    def forget(self, connection: _Connection) -> None:
        """Drop a connection that is closed."""
        self._all.discard(connection)
        idle = self._idle.get(connection.address)
        if idle is not None and connection in idle:
            idle.remove(connection)

    def sweep(self) -> None:
        """Close what has been idle too long."""
        limit = time.monotonic() - _IDLE_S
        for idle in self._idle.values():
            while idle and idle[0].idle_since < limit:
                idle.popleft().destroy()

    def close(self) -> None:
        """Destroy every connection."""
        for connection in list(self._all):
            connection.destroy()


def _message(address: Address, request: EngineRequest, extra: bytes) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers)
    head = (
        f"{request.method} {request.path} HTTP/1.1\r\nhost: {address[0]}:{address[1]}\r\n{lines}"
        f"content-length: {len(request.body)}\r\n"
    )
    return head.encode("latin-1") + extra + b"\r\n" + request.body
