"""From an error to the vendor's error body, status and headers."""

from __future__ import annotations

from typing import Any

import msgspec

from underlay.dialects.delivery import hint_headers
from underlay.dialects.wire import Refusal
from underlay.domain.errors import EngineError, Unauthenticated, UnderlayError

#: HTTP status -> the vendor's name for it; others are ``INVALID_ARGUMENT`` below 500, ``INTERNAL`` above.
NAME_OF_STATUS = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

DOMAIN = "underlay"
TYPES = "type.googleapis.com/google.rpc."


def error_body(error: UnderlayError, request_id: str) -> bytes:
    """Write the error object, the same in a response and in a stream."""
    status = status_of(error)
    return msgspec.json.encode(
        {
            "error": {
                "code": status,
                "message": error.message,
                "status": NAME_OF_STATUS.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL"),
                "details": _details(error, request_id),
            }
        }
    )


def _details(error: UnderlayError, request_id: str) -> list[dict[str, Any]]:
    reason = "API_KEY_INVALID" if isinstance(error, Unauthenticated) else error.reason.upper()
    details: list[dict[str, Any]] = [
        {
            "@type": TYPES + "ErrorInfo",
            "reason": reason,
            "domain": DOMAIN,
            "metadata": {"requestId": request_id},
        }
    ]
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": TYPES + "BadRequest", "fieldViolations": [violation]})
    if error.retry_after_s is not None and error.retryable is not False:
        wait_s = f"{max(0.0, error.retry_after_s):.3f}".rstrip("0").rstrip(".")
        details.append({"@type": TYPES + "RetryInfo", "retryDelay": wait_s + "s"})
    return details


def status_of(error: UnderlayError) -> int:
    """The HTTP status that the vendor would answer with."""
    return 503 if isinstance(error, EngineError) else error.status


def refusal(error: UnderlayError, request_id: str) -> Refusal:
    """Write an error as a whole response."""
    return Refusal(
        status=status_of(error),
        body=error_body(error, request_id),
        headers=hint_headers(error, request_id),
    )
