import json

import openai
import pytest
from tests.dialects.openai.openai_platform import Platform

from underlay.dialects.openai import OPENAI
from underlay.domain import errors as e


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "hints"),
    [
        (e.BadRequest("m", param="x"), 400, "invalid_request_error", None, {"x-should-retry": "false"}),
        (e.PromptTooLong("m"), 400, "invalid_request_error", "context_length_exceeded", {"x-should-retry": "false"}),
        (e.Unauthenticated("m"), 401, "invalid_request_error", "invalid_api_key", {"x-should-retry": "false"}),
        (e.Forbidden("m"), 403, "invalid_request_error", "model_not_allowed", {"x-should-retry": "false"}),
        (e.UnknownModel("m"), 404, "invalid_request_error", "model_not_found", {"x-should-retry": "false"}),
        (e.BodyTooLarge("m"), 413, "invalid_request_error", "body_too_large", {"x-should-retry": "false"}),
        (e.LimitReached("m", retry_after_s=1.2), 429, "rate_limit_error", "rate_limit_exceeded", {"retry-after": "2", "retry-after-ms": "1200"}),
        (e.BudgetExhausted("m"), 429, "insufficient_quota", "insufficient_quota", {"x-should-retry": "false"}),
        (e.Overloaded("m", retry_after_s=0.25), 503, "service_unavailable_error", "server_is_overloaded", {"retry-after": "1", "retry-after-ms": "250", "x-should-retry": "true"}),
        (e.EngineFailed("m"), 502, "server_error", "upstream_failed", {"x-should-retry": "true"}),
        (e.DeadlinePassed("m"), 504, "server_error", "deadline_exceeded", {"x-should-retry": "false"}),
        (e.NotSupported("m"), 501, "invalid_request_error", "not_supported", {"x-should-retry": "false"}),
        (e.Internal("m"), 500, "server_error", "internal", {}),
    ],
)  # fmt: skip
def test_every_error_has_its_type_its_code_and_its_hints(error, status, kind, code, hints):
    refusal = OPENAI.error(error, "req_1")
    assert refusal.status == status
    assert json.loads(refusal.body) == {"error": {"message": "m", "type": kind, "param": error.param, "code": code}}
    assert dict(refusal.headers) == {"x-request-id": "req_1", "x-underlay-reason": error.reason, **hints}


@pytest.mark.parametrize("kind", list(e.ERROR_OF_REASON.values()))
def test_no_error_is_without_words(kind):
    body = json.loads(OPENAI.error(kind("m"), "req_1").body)["error"]
    assert body["type"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (e.Unauthenticated("no"), openai.AuthenticationError),
        (e.LimitReached("no"), openai.RateLimitError),
        (e.UnknownModel("no"), openai.NotFoundError),
        (e.Overloaded("no"), openai.InternalServerError),
    ],
)
def test_the_sdk_raises_its_own_exceptions(error, raised):
    with pytest.raises(raised) as caught:
        Platform(refuse=error).client().chat.completions.create(model="m", messages=[])
    assert caught.value.code == json.loads(OPENAI.error(error, "").body)["error"]["code"]
    assert caught.value.request_id == "req_abc123"
