"""From an error to the vendor's error body, status and headers."""

from __future__ import annotations

import msgspec

from underlay.dialects.delivery import hint_headers
from underlay.dialects.wire import Refusal
from underlay.domain.errors import (
    BudgetExhausted,
    EngineError,
    Overloaded,
    UnderlayError,
)

#: Status -> the vendor's name for it; others are ``invalid_request_error`` below 500, ``api_error`` above.
TYPE_OF_STATUS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

#: Where the vendor's status differs from ours.
STATUS_OF_KIND: tuple[tuple[type[UnderlayError], int], ...] = (
    (BudgetExhausted, 402),
    (EngineError, 500),
    (Overloaded, 529),
)


def error_body(error: UnderlayError, request_id: str) -> bytes:
    """Write the error object, the same in a response and in a stream."""
    status = status_of(error)
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {
                "type": TYPE_OF_STATUS.get(status, "invalid_request_error" if status < 500 else "api_error"),
                "message": error.message,
                "details": {"error_code": error.reason},
            },
            "request_id": request_id,
        }
    )


def status_of(error: UnderlayError) -> int:
    """The HTTP status that the vendor would answer with."""
    return next((status for kind, status in STATUS_OF_KIND if isinstance(error, kind)), error.status)


def refusal(error: UnderlayError, request_id: str) -> Refusal:
    """Write an error as a whole response."""
    return Refusal(
        status=status_of(error),
        body=error_body(error, request_id),
        headers=(("request-id", request_id), *hint_headers(error, request_id)),
    )
