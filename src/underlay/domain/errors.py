"""Everything that can go wrong with a prompt, as one tree split by whose fault it is.

    UnderlayError
    ├── CallerError            the request cannot be served as it was sent
    │   ├── BadRequest            400  bad JSON, bad field, a field that cannot be honoured
    │   ├── PromptTooLong         400  more tokens than the model's context
    │   ├── Unauthenticated       401  no key, a wrong one, an expired or revoked one
    │   ├── Forbidden             403  the key may not use this model
    │   ├── UnknownModel          404
    │   ├── NotFound              404  no such path or thing
    │   ├── MethodNotAllowed      405
    │   ├── RequestTimeout        408  half a request, then silence
    │   ├── Conflict              409
    │   ├── BodyTooLarge          413
    │   ├── LimitReached          429  the caller's own limit; says which and when it resets
    │   ├── BudgetExhausted       429
    │   ├── HeadersTooLarge       431
    │   └── ClientLeft            499  nobody is there to read it; for logs and journeys only
    ├── OurError               we could not serve it; the same request may work later
    │   ├── Internal              500  a defect of ours
    │   ├── NotSupported          501  no engine here can do it
    │   ├── Overloaded            503  platform full or draining, never the caller's limit
    │   └── DeadlinePassed        504  waited longer than the caller would
    └── EngineError            the engine failed
        └── EngineFailed          502  and nobody else could take over

Raise these anywhere; only the one outgoing door (a dialect's ``error``) turns them into bytes.
"""

from __future__ import annotations

from typing import ClassVar


class UnderlayError(Exception):
    """Base of the tree.

    ``reason`` is the one stable code for tables, metrics and tests; ``message`` says what to do about it;
    ``param`` names the offending field; ``retry_after_s`` is when trying again makes sense; ``retryable``
    tells SDKs outright whether to try again (``None`` leaves it to their defaults).
    """

    status: ClassVar[int] = 500
    default_reason: ClassVar[str] = "internal"
    default_retryable: ClassVar[bool | None] = None

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.param = param
        self.retry_after_s = retry_after_s
        self.retryable = self.default_retryable if retryable is None else retryable


class CallerError(UnderlayError):
    """The request cannot be served as it was sent."""

    status = 400
    default_reason = "bad_request"
    default_retryable: ClassVar[bool | None] = False


class BadRequest(CallerError):
    """Bad JSON, a bad field, or a field that no engine here can honour (named in ``param``)."""


class PromptTooLong(CallerError):
    """The prompt and the tokens asked for do not fit the model's context."""

    default_reason = "context_length_exceeded"


class Unauthenticated(CallerError):
    """No key, a wrong key, an expired or a revoked one."""

    status = 401
    default_reason = "invalid_api_key"


class Forbidden(CallerError):
    """The key is good but may not use this model or route."""

    status = 403
    default_reason = "model_not_allowed"


class UnknownModel(CallerError):
    """No such model on this platform."""

    status = 404
    default_reason = "model_not_found"


class NotFound(CallerError):
    """No such path, or no such thing under it."""

    status = 404
    default_reason = "not_found"


class MethodNotAllowed(CallerError):
    """The path exists, the method does not."""

    status = 405
    default_reason = "method_not_allowed"


class RequestTimeout(CallerError):
    """The request did not arrive whole in time."""

    status = 408
    default_reason = "request_timeout"


class Conflict(CallerError):
    """The request contradicts something that is already there."""

    status = 409
    default_reason = "conflict"


class BodyTooLarge(CallerError):
    """The body is larger than this listener accepts."""

    status = 413
    default_reason = "body_too_large"


class LimitReached(CallerError):
    """The caller's own limit. The message names it and says when it resets."""

    status = 429
    default_reason = "rate_limit_exceeded"
    default_retryable = None


class BudgetExhausted(CallerError):
    """The caller's budget is spent; trying again will not help."""

    status = 429
    default_reason = "insufficient_quota"


class HeadersTooLarge(CallerError):
    """The header block is larger than this listener accepts."""

    status = 431
    default_reason = "headers_too_large"


class ClientLeft(CallerError):
    """The caller closed the connection before the answer ended."""

    status = 499
    default_reason = "client_gone"


class OurError(UnderlayError):
    """We could not serve it; the same request may work later."""


class Internal(OurError):
    """A defect of ours."""


class NotSupported(OurError):
    """No engine of this platform can do what was asked."""

    status = 501
    default_reason = "not_supported"
    default_retryable = False


class Overloaded(OurError):
    """The platform is full, draining or has no healthy replica; not the caller's limit."""

    status = 503
    default_reason = "overloaded"
    default_retryable = True


class DeadlinePassed(OurError):
    """The caller's deadline passed before an engine could start."""

    status = 504
    default_reason = "deadline_exceeded"
    default_retryable = False


class EngineError(UnderlayError):
    """The engine failed."""

    status = 502
    default_reason = "upstream_failed"
    default_retryable = True


class EngineFailed(EngineError):
    """The engine failed and nobody else could take over."""


#: reason code -> the error that says it; the desk speaks in reasons, the driver raises these.
ERROR_OF_REASON: dict[str, type[UnderlayError]] = {
    kind.default_reason: kind
    for kind in (
        BadRequest,
        PromptTooLong,
        Unauthenticated,
        Forbidden,
        UnknownModel,
        NotFound,
        MethodNotAllowed,
        RequestTimeout,
        Conflict,
        BodyTooLarge,
        LimitReached,
        BudgetExhausted,
        HeadersTooLarge,
        ClientLeft,
        Internal,
        NotSupported,
        Overloaded,
        DeadlinePassed,
        EngineFailed,
    )
}
