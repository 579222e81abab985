"""What the dialects have in common: headers of a stream, hints for retries, what callers ask for by header.

Headers of our own (``x-underlay-…``) are refused where they make no sense; those that others send as well are
believed as far as they can be read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from underlay.domain.errors import BadRequest, UnderlayError
from underlay.domain.prompt import Ask

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

#: The classes of urgency, highest first.
BANDS = ("priority", "standard", "batch")

BAND = "x-underlay-band"
DEADLINE = "x-underlay-deadline-ms"
DEFER = "x-underlay-defer"
SESSION = "x-session-id"
IDEMPOTENCY_KEY = "idempotency-key"
IDEMPOTENCY_KEY_MAX = 255

_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(s|min|h)")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def hint_headers(error: UnderlayError, request_id: str) -> tuple[tuple[str, str], ...]:
    """Name the request, and tell the caller why, and its SDK whether and when to try again.

    The reason is the same word in all dialects: whose limit it was does not depend on reading a message.
    """
    headers = [("x-request-id", request_id), ("x-underlay-reason", error.reason)]
    if error.retryable is not None:
        headers.append(("x-should-retry", "true" if error.retryable else "false"))
    if error.retry_after_s is not None:
        wait_s = max(0.0, error.retry_after_s)
        headers.append(("retry-after", str(math.ceil(wait_s))))
        headers.append(("retry-after-ms", str(math.ceil(wait_s * 1000))))
    return tuple(headers)


def patience_s(headers: Mapping[str, str], name: str, *, longest: float = DEADLINE_MAX_S) -> float | None:
    """How long the caller says it will wait, if it says so in a way that can be believed."""
    said = headers.get(name)
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        return None
    return min(seconds, longest) if seconds > 0 else None  # also false for NaN


def sdk_patience_s(headers: Mapping[str, str]) -> float | None:
    """How long the SDKs of OpenAI and Anthropic wait for the next byte: in Python the one, elsewhere the other."""
    said_s = patience_s(headers, "x-stainless-read-timeout")
    return patience_s(headers, "x-stainless-timeout") if said_s is None else said_s


def heeded(ask: Ask, headers: Mapping[str, str]) -> Ask:
    """The request with what its headers ask for, whatever its dialect; they come before fields and SDKs.

    Raises ``BadRequest`` naming the header.
    """
    changes: dict[str, Any] = {}
    if BAND in headers:
        changes["band"] = _band(headers[BAND])
    if headers.get(SESSION):
        changes["session"] = headers[SESSION]
    said_s = _deadline_s(headers)
    if said_s is not None:
        changes["deadline_s"] = said_s
    if DEFER in headers:
        changes |= _deferred(headers, ask)
    return msgspec.structs.replace(ask, **changes) if changes else ask


def _band(said: str) -> str:
    if said not in BANDS:
        raise BadRequest(f"The header '{BAND}' must be one of {', '.join(BANDS)}.", param=BAND)
    return said


def _deferred(headers: Mapping[str, str], ask: Ask) -> dict[str, Any]:
    """What it means that the answer can wait: what an SDK says of its own patience is about answers that cannot."""
    found = _SPAN.fullmatch(headers[DEFER].strip())
    defer_s = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0.0 < defer_s <= DEADLINE_MAX_S:
        raise BadRequest(f"The header '{DEFER}' must be a time up to 24h, such as 90min or 8h.", param=DEFER)
    if DEADLINE in headers:
        raise BadRequest(f"The headers '{DEFER}' and '{DEADLINE}' exclude each other.", param=DEFER)
    band = headers.get(BAND) or ask.band or BANDS[-1]
    return {"defer_s": defer_s, "deadline_s": None, "band": band}


def _deadline_s(headers: Mapping[str, str]) -> float | None:
    if DEADLINE not in headers:
        return patience_s(headers, "x-request-timeout")
    said_ms = patience_s(headers, DEADLINE, longest=DEADLINE_MAX_S * 1e3)
    if said_ms is None:
        raise BadRequest(f"The header '{DEADLINE}' must be a number of milliseconds above 0.", param=DEADLINE)
    return said_ms / 1e3


def idempotency_key(headers: Mapping[str, str]) -> str:
    """The key by which the caller may send this request again; empty where there is none.

    Raises ``BadRequest`` naming the header.
    """
    key = headers.get(IDEMPOTENCY_KEY)
    if key is None:
        return ""
    if not 1 <= len(key) <= IDEMPOTENCY_KEY_MAX or not key.isprintable():
        raise BadRequest(
            f"The header 'Idempotency-Key' must have 1 to {IDEMPOTENCY_KEY_MAX} printable characters.",
            param="Idempotency-Key",
        )
    return key


def id_stem(request_id: str) -> str:
    """The part of a request's id that other ids are derived from."""
    return request_id.removeprefix("req_")
