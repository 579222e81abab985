"""What happened to one request and when: the marks from which its journey is told."""

from __future__ import annotations

import os
import re

from underlay.domain.views import Hop

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


class Trail:
    """The hops of one request. Times are monotonic seconds; ``began_at`` is that of the request's first byte.

    ``waited_s`` is how long it stood in line, all times together; ``waiting`` tells whether it does now.
    """

    __slots__ = ("_since", "_why", "began_at", "hops", "span_id", "trace_id", "waited_s")

    def __init__(self, began_at: float, traceparent: str = "") -> None:
        self.began_at = began_at
        self.hops: list[Hop] = []
        match = _TRACEPARENT.fullmatch(traceparent)
        known = match is not None and match[1] != "0" * 32 and match[2] != "0" * 16
        self.trace_id = match[1] if match is not None and known else os.urandom(16).hex()
        self.span_id = os.urandom(8).hex()
        self.waited_s = 0.0
        self._since: float | None = None
        self._why = ""

    @property
    def traceparent(self) -> str:
        """The W3C trace context of our own span, for the reply and for the engine."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    def hop(
        self,
        name: str,
        start: float,
        end: float,
        *,
        who: str = "",
        why: str = "",
        tokens: int | None = None,
        attempt: int | None = None,
    ) -> None:
        """Note a step that took from ``start`` to ``end``; ``attempt`` where an engine worked in it."""
        took_ms = round((end - start) * 1e3, 3)
        self.hops.append(Hop(name, self.since_ms(start), took_ms, who, why, tokens, attempt))

    @property
    def waiting(self) -> bool:
        """Whether it stands in line."""
        return self._since is not None

    def join_line(self, now: float, why: str) -> None:
        """Note that it waits from now on, or waits on for another reason."""
        if self._since is None:
            self._since = now
        self._why = why

    def leave_line(self, now: float, because: str = "") -> None:
        """Note how long it waited, if it did."""
        if self._since is not None:
            self.hop("queue", self._since, now, who="desk", why=self._why + because)
            self.waited_s += now - self._since
            self._since = None

    def since_ms(self, moment: float) -> float:
        """Milliseconds from the first byte to ``moment``."""
        return round((moment - self.began_at) * 1e3, 3)

    def server_timing(self) -> str:
        """The hops so far as a Server-Timing header, so that a browser's developer tools show them."""
        return ", ".join(f"{hop.name};dur={hop.duration_ms:.2f}" for hop in self.hops)
