"""The frames of a server-sent-event stream, as engines write them."""

from __future__ import annotations

from underlay.domain.errors import EngineFailed

#: A frame longer than this is no token event; without a bound a sick engine could fill our memory.
FRAME_BYTES_MAX = 4 * 1024 * 1024


class Frames:
    """Splits body bytes, however they were cut, into the payloads of ``data:`` lines.

    Comments (llama.cpp's pings), blank lines and other fields are skipped. llama.cpp used to announce errors
    in an ``error:`` field; its payload is handed on like any other, being JSON with an ``error`` in it.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, return the payloads they complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > FRAME_BYTES_MAX:
            raise EngineFailed("The engine sent an event that never ends.", reason="upstream_malformed")
        return [line[line.index(b":") + 1 :].strip() for line in lines if line.startswith((b"data:", b"error:"))]
