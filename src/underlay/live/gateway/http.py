"""The public listener's HTTP/1.1: bytes of strangers in, whole requests out, replies back, all bounded.

An asyncio protocol on httptools (llhttp), because a web framework costs ten to fifty times as much per request
(docs/log.md). llhttp refuses a request with both Content-Length and Transfer-Encoding, bare line feeds in
headers and repeated lengths; what it does not bound (header, trailer and body size, time) is bounded here. One
request of a connection is worked on at a time; pipelined ones wait, and reading stops while many do, or while
the client leaves its replies unread.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from underlay.domain.errors import (
    BodyTooLarge,
    HeadersTooLarge,
    Overloaded,
    RequestTimeout,
    UnderlayError,
)
from underlay.live.gateway import framing
from underlay.live.gateway.framing import Headers
from underlay.live.settings import PublicSettings

_PIPELINED_MAX = 8
_LINGER_S = 2.0  # how long a refused client may go on sending, so that it gets to read why


class Request:
    """One whole request. Header names are lower-case; ``began_at`` is monotonic time of its first byte."""

    __slots__ = ("began_at", "body", "connection", "headers", "keep_alive", "method", "path", "query", "version")

    def __init__(self, connection: Connection, began_at: float) -> None:
        self.connection = connection
        self.began_at = began_at
        self.method = ""
        self.path = ""
        self.query = ""
        self.version = "1.1"
        self.keep_alive = True
        self.headers: dict[str, str] = {}
        self.body = b""


class Listener(Protocol):
    """Who gets the requests of all connections of a listening socket."""

    settings: PublicSettings
    connections: set[Connection]
    draining: bool

    def accepts(self, connection: Connection) -> bool:
        """Whether one more connection is let in."""

    def screen(self, request: Request) -> None:
        """Look at a head before its body is taken in; raises an ``UnderlayError`` to refuse it."""

    def received(self, request: Request) -> Occupant | None:
        """Take a whole request; the occupant hears of the connection until it calls ``finish``."""

    def refuse(self, connection: Connection, error: UnderlayError, path: str, headers: dict[str, str]) -> None:
        """Answer a request that never became whole."""


class Occupant(Protocol):
    """Whoever is answering on a connection."""

    def client_gone(self) -> None:
        """Hear that the connection is closed; nothing more can be sent."""

    def pause(self) -> None:
        """Hear that the client reads too slowly: stop producing."""

    def resume(self) -> None:
        """Hear that the client caught up."""


class Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_backlog",
        "_begun",
        "_body",
        "_body_bytes",
        "_chunked",
        "_head_bytes",
        "_header_list",
        "_held",
        "_listener",
        "_muted",
        "_occupant",
        "_parser",
        "_phase",
        "_request",
        "_serving",
        "_target",
        "_transport",
        "_upgrading",
        "busy",
        "client",
        "deadline",
        "unread_since",
        "written_bytes",
    )

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._backlog: deque[Request] = deque()
        self._occupant: Occupant | None = None
        self._phase = "idle"  # idle, head, body; closed: whatever else the client sends is thrown away
        self._begun = 0  # how many requests have begun
        self._head_bytes = 0  # of the present head; of the present body and its framing
        self._held = False  # reading has stopped
        self._serving = False
        self._upgrading = b""  # how the body is framed of a request that asked to upgrade
        self._muted = False  # what the parser says is known already
        self._chunked = False
        self._transport: asyncio.Transport | None = None
        self.busy = False
        self.client = ""
        self.unread_since: float | None = None
        self.deadline = 0.0
        self.written_bytes = 0  # since it was opened

    # From asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if peer else ""
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.set_write_buffer_limits(high=self._listener.settings.unread_bytes_max)
        self.deadline = time.monotonic() + self._listener.settings.header_timeout_s
        if not self._listener.accepts(self):
            self._reject(Overloaded("too many connections are open", retry_after_s=1.0))
            return
        self._listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # however it went, nobody is there any more
        self._phase = "closed"
        self._listener.connections.discard(self)
        self._backlog.clear()
        self._transport = None
        occupant, self._occupant = self._occupant, None
        if occupant is not None:
            occupant.client_gone()

    def pause_writing(self) -> None:
        self.unread_since = time.monotonic()
        self._hold_or_read()
        if self._occupant is not None:
            self._occupant.pause()

    def resume_writing(self) -> None:
        self.unread_since = None
        if self._occupant is not None:
            self._occupant.resume()
        self._serve_next()

    def data_received(self, data: bytes) -> None:
        if self._phase == "closed":
            return
        phase, begun = self._phase, self._begun
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._reject(framing.refusal(error))
        else:
            first = phase == "idle" and self._phase == "head"
            if self._begun == begun + first and (first or self._phase == phase):  # all of it of one head or body
                self._count_bytes(len(data))

    def _feed(self, data: bytes) -> None:
        """Parse. Who asks to upgrade is answered in HTTP/1.1, as if it had not asked: Java's client always does."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if self._upgrading:
                    self._take_up_body()
            else:
                return

    def _take_up_body(self) -> None:
        """Go on with a body that llhttp takes for another protocol: a new parser is told of it, and how long."""
        head, self._upgrading = b"POST / HTTP/1.1\r\n" + self._upgrading + b"\r\n\r\n", b""
        self._parser = httptools.HttpRequestParser(self)
        self._muted = True
        self._parser.feed_data(head)
        self._muted = False

    def _count_bytes(self, count: int) -> None:
        """Bound what httptools holds back until it is whole: a long header, a trailer, the lines of chunks."""
        settings = self._listener.settings
        self._head_bytes += count
        if self._phase == "head" and self._head_bytes > settings.header_bytes_max:
            self._reject(self._head_too_large())
        elif self._phase == "body" and self._head_bytes > 2 * settings.body_bytes_max + settings.header_bytes_max:
            self._reject(self._body_too_large())

    def _head_too_large(self) -> UnderlayError:
        return HeadersTooLarge(f"headers may have {self._listener.settings.header_bytes_max} bytes")

    # From httptools.

    def on_message_begin(self) -> None:
        if self._muted:
            return
        now = time.monotonic()
        self._phase = "head"
        self._begun += 1
        self._head_bytes = 0
        self._request = Request(self, now)
        self._target = b""
        self._header_list: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self.deadline = now + self._listener.settings.header_timeout_s

    def on_url(self, url: bytes) -> None:
        if not self._muted:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase == "head":  # not a trailer: those mean nothing here
            self._header_list.append((name, value))

    def on_headers_complete(self) -> None:
        if self._muted:
            return
        request, parser, settings = self._request, self._parser, self._listener.settings
        lines = sum(len(name) + len(value) + 4 for name, value in self._header_list)
        if lines + len(self._target) > settings.header_bytes_max:
            raise framing.Refused(self._head_too_large())
        request.method = parser.get_method().decode("latin-1")
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        path, _, query = framing.origin_form(self._target).partition(b"?")
        request.path, request.query = path.decode("latin-1"), query.decode("latin-1")
        request.headers = framing.folded(self._header_list)
        framing.check_head(request.method, request.version, self._header_list)
        self._phase = "body"
        self._head_bytes = 0
        if parser.should_upgrade():
            self._upgrading = framing.body_line(request.headers)
        self.deadline = time.monotonic() + settings.body_timeout_s
        length = request.headers.get("content-length", "0")
        if length.isdigit() and int(length[:20]) > settings.body_bytes_max:
            raise framing.Refused(self._body_too_large())
        try:
            self._listener.screen(request)
        except UnderlayError as error:
            raise framing.Refused(error) from error
        if request.headers.get("expect", "").lower() == "100-continue" and not (self.busy or self._backlog):
            self.write_raw(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _body_too_large(self) -> UnderlayError:
        return BodyTooLarge(f"a body may have {self._listener.settings.body_bytes_max} bytes")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._listener.settings.body_bytes_max:
            raise framing.Refused(self._body_too_large())
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        request = self._request
        request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._phase = "idle"
        self._body = []
        self.deadline = time.monotonic() + self._listener.settings.idle_timeout_s
        self._backlog.append(request)
        self._serve_next()

    # For whoever answers.

    @property
    def settings(self) -> PublicSettings:
        """The limits of this listener."""
        return self._listener.settings

    def _serve_next(self) -> None:
        """Serve those that wait, one after the other, as far as the client reads its replies."""
        if not self._serving:  # else the loop below goes on with it
            self._serving = True
            try:
                while self._backlog and not self.busy and self.unread_since is None and self.open:
                    self._serve(self._backlog.popleft())
            finally:
                self._serving = False
        self._hold_or_read()

    def _serve(self, request: Request) -> None:
        self.busy = True
        occupant = self._listener.received(request)
        if self.busy:  # it did not answer at once
            self._occupant = occupant

    def _hold_or_read(self) -> None:
        """Stop reading while many requests wait, or while nobody reads the replies."""
        held = len(self._backlog) >= _PIPELINED_MAX or (self.unread_since is not None and not self.busy)
        if held == self._held or not self.open:
            return
        self._held = held
        transport = cast("asyncio.Transport", self._transport)
        (transport.pause_reading if held else transport.resume_reading)()

    @property
    def open(self) -> bool:
        """Whether anything can still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def mid_request(self) -> bool:
        """Whether part of a request has arrived and the rest has not."""
        return self._phase in ("head", "body")

    def send(self, request: Request, status: int, headers: Headers, body: bytes) -> None:
        """Send one whole reply, and be ready for the next request."""
        keep = self._keeps(request)
        head = framing.head(status, headers, keep, "" if status == 204 else f"content-length: {len(body)}\r\n")
        self.write_raw(head if request.method == "HEAD" else head + body)
        self.finish(keep)

    def begin_stream(self, request: Request, headers: Headers, first: bytes) -> None:
        """Send the head of a streamed 200 and its first bytes."""
        self._chunked = request.version == "1.1"
        keep = self._keeps(request) and self._chunked
        head = framing.head(200, headers, keep, "transfer-encoding: chunked\r\n" if self._chunked else "")
        self.write_raw(head + (framing.chunk(first) if self._chunked and first else first))

    def stream(self, data: bytes) -> None:
        """Send more of a stream: one write, so that one event is one packet."""
        self.write_raw(framing.chunk(data) if self._chunked else data)

    def end_stream(self, request: Request, last: bytes) -> None:
        """Send the last of a stream and its end."""
        if self._chunked:
            self.write_raw((framing.chunk(last) if last else b"") + b"0\r\n\r\n")
        elif last:
            self.write_raw(last)
        self.finish(self._keeps(request) and self._chunked)

    def break_stream(self, last: bytes) -> None:
        """Send an error frame and close without the end mark, so that no client takes it for a whole answer."""
        self._occupant = None
        if self._transport is None:
            return
        if self._chunked:
            self.stream(last)
            self.close()
        else:  # without chunks a clean close would look like a clean end
            self._transport.abort()

    def write_raw(self, data: bytes) -> None:
        """Write bytes unless the client has left."""
        if self._transport is not None:
            self.written_bytes += len(data)
            self._transport.write(data)

    def finish(self, keep: bool) -> None:
        """End the present reply; go on with the next request or close."""
        self._occupant = None
        self.busy = False
        if not keep:
            self._hang_up()
            return
        settings = self._listener.settings
        wait_s = settings.header_timeout_s if self.mid_request else settings.idle_timeout_s
        self.deadline = time.monotonic() + wait_s
        self._serve_next()

    def _keeps(self, request: Request) -> bool:
        return request.keep_alive and not self._listener.draining and self.open and self._phase != "closed"

    def _hang_up(self) -> None:
        """Close after what was written has been sent.

        While the client is still sending, closing would reset the connection, and with it the reply that tells
        the client what was wrong; so only our side is closed at first.
        """
        self._backlog.clear()
        unread_input = self._phase != "idle" and self in self._listener.connections
        self._phase = "closed"
        if not unread_input or not self.open:
            self.close()
            return
        self.deadline = time.monotonic() + _LINGER_S
        cast("asyncio.Transport", self._transport).write_eof()

    def sweep(self, now: float) -> None:
        """Enforce the time limits that hold at ``now`` (monotonic seconds)."""
        if self.unread_since is not None and now - self.unread_since > self._listener.settings.unread_timeout_s:
            self.abort()
        elif not self.open or (self._phase == "closed" and not self.busy):
            if now > self.deadline:  # it was to read the last of its reply, or to stop sending
                self.abort()
        elif not self.busy and now > self.deadline:
            if self._phase == "idle":
                self.close()
            else:
                self._reject(RequestTimeout("the rest of the request did not come in time"))

    def close(self) -> None:
        """Close after what was written has been sent."""
        if self.open:
            self.deadline = time.monotonic() + self._listener.settings.unread_timeout_s
            cast("asyncio.Transport", self._transport).close()

    def abort(self) -> None:
        """Close at once; unsent bytes are dropped."""
        if self._transport is not None:
            self._transport.abort()

    abandon = abort  # after a defect of ours

    def _reject(self, error: UnderlayError) -> None:
        """Answer a request that cannot become whole, and close."""
        if self._phase == "closed":
            return
        self._phase = "closed"
        if self.busy or self._backlog:  # nothing may be put into the middle of a reply: it is the last one
            return
        head: list[tuple[bytes, bytes]] = getattr(self, "_header_list", [])
        path = framing.origin_form(getattr(self, "_target", b"")).partition(b"?")[0].decode("latin-1")
        self._listener.refuse(self, error, path, framing.folded(head))


def connection_factory(listener: Listener) -> Callable[[], Connection]:
    """Make connections for ``loop.create_server``."""
    return lambda: Connection(listener)
