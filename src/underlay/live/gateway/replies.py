"""Replies kept for who sends a request twice: in memory, for a day, for the tenant who got them.

Only whole good replies to requests that carried an idempotency key. Bounded in bytes, each and together, and in
time; a restart forgets them, because they hold text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from underlay.live.gateway.framing import Headers
from underlay.live.gateway.http import Connection, Request
from underlay.live.settings import PublicSettings

REPLY_BYTES_MAX = 1_048_576
KEPT_BYTES_MAX = 67_108_864
KEPT_S = 86_400.0
#: What a kept reply weighs besides its bytes; a thousand empty ones are not free.
_OVERHEAD_BYTES = 512


class Reply(NamedTuple):
    """A whole reply as it was sent."""

    at: float
    status: int
    content_type: str
    body: bytes


class _Drawer:
    """What is kept for one tenant, by ticket, oldest first."""

    __slots__ = ("bytes", "replies")

    def __init__(self) -> None:
        self.replies: OrderedDict[str, Reply] = OrderedDict()
        self.bytes = 0

    def put(self, ticket: str, reply: Reply) -> None:
        self.replies[ticket] = reply
        self.bytes += len(reply.body) + _OVERHEAD_BYTES

    def drop_oldest(self) -> None:
        _, oldest = self.replies.popitem(last=False)
        self.bytes -= len(oldest.body) + _OVERHEAD_BYTES

    @property
    def oldest_at(self) -> float:
        return next(iter(self.replies.values())).at


class Replies:
    """The kept replies of all tenants by ticket. ``now`` tells the time in seconds.

    When there is no more room, whoever takes up most of it gives some back: nobody can push out the others'.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._drawers: dict[str, _Drawer] = {}  # by tenant; none is empty

    def keep(self, ticket: str, tenant: str, status: int, content_type: str, body: bytes) -> None:
        """Keep a reply, if it is small enough; each ticket has one."""
        if len(body) > REPLY_BYTES_MAX or self.find(ticket, tenant) is not None:
            return
        drawer = self._drawers.setdefault(tenant, _Drawer())
        drawer.put(ticket, Reply(self._now(), status, content_type, body))
        while sum(drawer.bytes for drawer in self._drawers.values()) > KEPT_BYTES_MAX:
            self._drop_oldest(max(self._drawers, key=lambda name: self._drawers[name].bytes))

    def find(self, ticket: str, tenant: str) -> Reply | None:
        """The reply to this ticket, if it is kept; somebody else's is as absent as one that never was."""
        since = self._now() - KEPT_S
        for name in list(self._drawers):
            while name in self._drawers and self._drawers[name].oldest_at < since:
                self._drop_oldest(name)
        drawer = self._drawers.get(tenant)
        return drawer.replies.get(ticket) if drawer is not None else None

    def _drop_oldest(self, tenant: str) -> None:
        drawer = self._drawers[tenant]
        drawer.drop_oldest()
        if not drawer.replies:
            del self._drawers[tenant]


class Recorder:
    """A connection that remembers what it sends for one request; ``on_sent`` gets a reply that is whole and good.

    It stands in for the connection only where somebody may ask again: everybody else's tokens pay nothing for it.
    """

    def __init__(self, connection: Connection, on_sent: Callable[[int, str, bytes], None]) -> None:
        self._connection = connection
        self._on_sent = on_sent
        self._content_type = ""
        self._parts: list[bytes] | None = None  # of the stream; none before it, and after it grew too long
        self._bytes = 0

    @property
    def settings(self) -> PublicSettings:
        """The limits of the listener."""
        return self._connection.settings

    def send(self, request: Request, status: int, headers: Headers, body: bytes) -> None:
        """Send one whole reply."""
        if status == 200:
            self._on_sent(status, dict(headers)["content-type"], body)
        self._connection.send(request, status, headers, body)

    def begin_stream(self, request: Request, headers: Headers, first: bytes) -> None:
        """Send the head of a streamed 200 and its first bytes."""
        self._content_type = dict(headers)["content-type"]
        self._parts = []
        self._note(first)
        self._connection.begin_stream(request, headers, first)

    def stream(self, data: bytes) -> None:
        """Send more of a stream."""
        self._note(data)
        self._connection.stream(data)

    def end_stream(self, request: Request, last: bytes) -> None:
        """Send the last of a stream and its end."""
        self._note(last)
        if self._parts is not None:
            self._on_sent(200, self._content_type, b"".join(self._parts))
        self._parts = None
        self._connection.end_stream(request, last)

    def break_stream(self, last: bytes) -> None:
        """Send an error frame and close: this is no answer to give again."""
        self._parts = None
        self._connection.break_stream(last)

    def abort(self) -> None:
        """Close at once."""
        self._parts = None
        self._connection.abort()

    def _note(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > REPLY_BYTES_MAX:
            self._parts = None
        elif self._parts is not None and data != b"\n":  # silence need not be kept
            self._parts.append(data)
