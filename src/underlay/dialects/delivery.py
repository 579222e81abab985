"""What the dialects' replies have in common: headers of a stream, hints for retries, a caller's patience."""

from __future__ import annotations

import math
from collections.abc import Mapping

from underlay.domain.errors import UnderlayError

#: No proxy may compress, cache or buffer what is streamed.
UNBUFFERED_HEADERS: tuple[tuple[str, str], ...] = (
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
)

EVENT_STREAM_HEADERS: tuple[tuple[str, str], ...] = (
    ("content-type", "text/event-stream; charset=utf-8"),
    *UNBUFFERED_HEADERS,
)

#: Longest patience worth a number: a day. Also keeps absurd values out of timers.
DEADLINE_MAX_S = 86_400.0


def hint_headers(error: UnderlayError, request_id: str) -> tuple[tuple[str, str], ...]:
    """Name the request, and tell the caller's SDK whether and when to try again."""
    headers = [("x-request-id", request_id)]
    if error.retryable is not None:
        headers.append(("x-should-retry", "true" if error.retryable else "false"))
    if error.retry_after_s is not None:
        wait_s = max(0.0, error.retry_after_s)
        headers.append(("retry-after", str(math.ceil(wait_s))))
        headers.append(("retry-after-ms", str(math.ceil(wait_s * 1000))))
    return tuple(headers)


def patience_s(headers: Mapping[str, str], name: str) -> float | None:
    """How long the caller says it will wait, if it says so in a way that can be believed."""
    said = headers.get(name)
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        return None
    return min(seconds, DEADLINE_MAX_S) if seconds > 0 else None  # also false for NaN


def id_stem(request_id: str) -> str:
    """The part of a request's id that other ids are derived from."""
    return request_id.removeprefix("req_")
