"""Errors as this API's callers know them: one object in a body, in a frame, or in a failed response."""

from __future__ import annotations

from typing import Any

from underlay.dialects.delivery import hint_headers
from underlay.dialects.openai.frames import encode
from underlay.dialects.wire import Refusal
from underlay.domain.errors import (
    BadRequest,
    BudgetExhausted,
    CallerError,
    LimitReached,
    NotSupported,
    Overloaded,
    UnderlayError,
)


def error_object(error: UnderlayError) -> dict[str, Any]:
    """Write an error; ``type`` is its family and ``code`` its one stable name."""
    return {"message": error.message, "type": _type(error), "param": error.param, "code": _code(error)}


def error_body(error: UnderlayError) -> dict[str, Any]:
    """Write an error as the whole body of a reply or of a frame."""
    return {"error": error_object(error)}


def refusal(error: UnderlayError, request_id: str) -> Refusal:
    """Write an error as a response."""
    return Refusal(
        status=error.status,
        body=encode(error_body(error)),
        headers=hint_headers(error, request_id),
    )


def failed_response_error(error: UnderlayError) -> dict[str, Any]:
    """Write an error as a failed response carries it, where the vendor allows but a few codes."""
    if error.status == 429:
        code = "rate_limit_exceeded"
    elif isinstance(error, CallerError):
        code = "invalid_prompt"
    else:
        code = "server_error"
    exact = error_object(error)
    return {"code": code, "message": exact["message"], "type": exact["type"], "param": exact["param"]}


def _type(error: UnderlayError) -> str:
    if isinstance(error, BudgetExhausted):
        return "insufficient_quota"
    if isinstance(error, LimitReached):
        return "rate_limit_error"
    if isinstance(error, (CallerError, NotSupported)):
        return "invalid_request_error"
    if isinstance(error, Overloaded):
        return "service_unavailable_error"
    return "server_error"


def _code(error: UnderlayError) -> str | None:
    if isinstance(error, Overloaded):
        return "server_is_overloaded"
    if isinstance(error, BadRequest) and error.reason == BadRequest.default_reason:
        return None  # the vendor has no code for a plain bad field: the message and ``param`` say it all
    return error.reason
