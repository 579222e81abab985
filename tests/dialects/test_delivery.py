"""What callers may ask for by header in any dialect, and how each dialect tells one refusal from another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from underlay.dialects import DIALECTS
from underlay.dialects.delivery import BANDS, heeded, idempotency_key
from underlay.dialects.wire import Refusal, Route
from underlay.domain.errors import BadRequest, BudgetExhausted, LimitReached, Overloaded
from underlay.domain.prompt import Ask, Prompt

ASK = Ask(Prompt("chat", "m"), deadline_s=600.0, session="s", band="batch")
HI = [{"role": "user", "content": "hi"}]
BODIES: dict[str, tuple[Route, dict[str, Any]]] = {
    "chat": (Route("openai", "chat"), {"model": "m", "messages": HI}),
    "completions": (Route("openai", "completions"), {"model": "m", "prompt": "hi"}),
    "responses": (Route("openai", "responses"), {"model": "m", "input": "hi"}),
    "messages": (Route("anthropic", "messages"), {"model": "m", "max_tokens": 9, "messages": HI}),
    "gemini": (Route("gemini", "generate", model="m"), {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}),
}


def parsed(kind: str, headers: dict[str, str] | None = None, **fields: Any) -> Ask:
    route, body = BODIES[kind]
    return DIALECTS[route.dialect].parse(route, json.dumps({**body, **fields}).encode(), headers or {})


# By header.


def test_without_headers_nothing_changes() -> None:
    assert heeded(ASK, {"content-type": "application/json"}) is ASK


@pytest.mark.parametrize("band", BANDS)
def test_the_band_of_the_header_wins(band: str) -> None:
    assert heeded(ASK, {"x-underlay-band": band}).band == band


@pytest.mark.parametrize("said", ["", "urgent", "Priority", "priority, batch"])
def test_no_other_band(said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        heeded(ASK, {"x-underlay-band": said})
    assert refused.value.param == "x-underlay-band"
    assert "x-underlay-band" in refused.value.message


def test_the_session_of_the_header_wins() -> None:
    assert heeded(ASK, {"x-session-id": "mine"}).session == "mine"
    assert heeded(ASK, {"x-session-id": ""}).session == "s"


@pytest.mark.parametrize(
    ("headers", "deadline_s"),
    [
        ({}, 600.0),
        ({"x-request-timeout": "30"}, 30.0),
        ({"x-request-timeout": "soon"}, 600.0),
        ({"x-underlay-deadline-ms": "1500"}, 1.5),
        ({"x-underlay-deadline-ms": "1500", "x-request-timeout": "1"}, 1.5),
        ({"x-underlay-deadline-ms": "1e99"}, 86_400.0),
    ],
)
def test_deadlines_by_header(headers: dict[str, str], deadline_s: float) -> None:
    assert heeded(ASK, headers).deadline_s == deadline_s


@pytest.mark.parametrize("said", ["", "0", "-1", "nan", "soon"])
def test_our_own_deadline_must_make_sense(said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        heeded(ASK, {"x-underlay-deadline-ms": said})
    assert refused.value.param == "x-underlay-deadline-ms"


@pytest.mark.parametrize("kind", ["chat", "completions", "responses", "messages"])
def test_sdks_tell_their_read_timeout_under_two_names(kind: str) -> None:
    assert parsed(kind, {"x-stainless-timeout": "60"}).deadline_s == 60.0
    assert parsed(kind, {"x-stainless-timeout": "60", "x-stainless-read-timeout": "5"}).deadline_s == 5.0
    assert parsed(kind, {"x-stainless-timeout": "NOT_GIVEN"}).deadline_s is None


def test_an_idempotency_key_is_short_and_printable() -> None:
    assert idempotency_key({}) == ""
    for good in ("a", "x" * 255, "8f14e45f-ceea 467a", "\xe9"):
        assert idempotency_key({"idempotency-key": good}) == good
    for bad in ("", "x" * 256, "a\tb", "\x85"):
        with pytest.raises(BadRequest) as refused:
            idempotency_key({"idempotency-key": bad})
        assert refused.value.param == "Idempotency-Key"


# By field.


@pytest.mark.parametrize("kind", ["chat", "completions", "responses"])
def test_openai_tiers_are_bands(kind: str) -> None:
    def band(**fields: Any) -> str:
        return parsed(kind, **fields).band

    assert [band(), band(service_tier=None), band(service_tier="auto"), band(service_tier="default")] == [""] * 4
    assert (band(service_tier="priority"), band(service_tier="flex")) == ("priority", "batch")
    assert parsed(kind, service_tier="flex").ignored == ()
    assert parsed(kind, service_tier="scale").ignored == ("service_tier.scale",)
    with pytest.raises(BadRequest, match="service_tier"):
        band(service_tier="golden")


def test_anthropic_tiers_leave_the_band_to_the_key() -> None:
    for tier in ("auto", "standard_only"):
        assert (parsed("messages", service_tier=tier).band, parsed("messages", service_tier=tier).ignored) == (
            "",
            (),
        )
    with pytest.raises(BadRequest, match="service_tier"):
        parsed("messages", service_tier="priority")


def test_gemini_tiers_are_bands() -> None:
    tiers = ("flex", "FLEX", "priority", "standard", "unspecified", None)
    assert [parsed("gemini", serviceTier=tier).band for tier in tiers] == ["batch", "batch", "priority", "", "", ""]
    assert parsed("gemini", service_tier="flex").band == "batch"
    assert parsed("gemini", serviceTier="flex").ignored == ()
    for wrong in ("golden", 3):
        with pytest.raises(BadRequest, match="serviceTier"):
            parsed("gemini", serviceTier=wrong)


def test_conversations_are_known_by_the_vendors_fields() -> None:
    for kind in ("chat", "completions", "responses"):
        assert parsed(kind).session == ""
        assert parsed(kind, prompt_cache_key="c").session == "c"
        assert parsed(kind, prompt_cache_key="c").ignored == ()
    ask = parsed("messages", metadata={"user_id": "user_1_session_2", "colour": "red"})
    assert (ask.session, ask.ignored) == ("user_1_session_2", ("metadata.colour",))
    for kind, fields in (("chat", {"prompt_cache_key": 1}), ("messages", {"metadata": {"user_id": 1}})):
        with pytest.raises(BadRequest):
            parsed(kind, **fields)


# What refusals say.


def said(name: str, error: Any) -> tuple[Refusal, dict[str, str], Any]:
    refusal = DIALECTS[name].error(error, "req_1")
    return refusal, dict(refusal.headers), json.loads(refusal.body)["error"]


@pytest.mark.parametrize("name", DIALECTS)
def test_your_limit_your_budget_and_a_full_platform_are_told_apart(name: str) -> None:
    limit, limit_headers, _ = said(name, LimitReached("m", retry_after_s=1.2))
    budget, budget_headers, _ = said(name, BudgetExhausted("m", retry_after_s=3600))
    full, full_headers, _ = said(name, Overloaded("m", retry_after_s=0.5))
    assert limit.status == 429
    assert full.status == {"anthropic": 529}.get(name, 503)
    assert budget.status == {"anthropic": 402}.get(name, 429)
    assert [h.get("x-should-retry") for h in (limit_headers, budget_headers, full_headers)] == [
        None, "false", "true",
    ]  # fmt: skip
    assert [h["x-underlay-reason"] for h in (limit_headers, budget_headers, full_headers)] == [
        "rate_limit_exceeded", "insufficient_quota", "overloaded",
    ]  # fmt: skip
    assert [(h["retry-after"], h["retry-after-ms"]) for h in (limit_headers, budget_headers, full_headers)] == [
        ("2", "1200"), ("3600", "3600000"), ("1", "500"),
    ]  # fmt: skip


def test_each_vendor_has_its_own_words_for_them() -> None:
    errors = (LimitReached("m", retry_after_s=2), BudgetExhausted("m"), Overloaded("m", retry_after_s=2))
    openai, anthropic, gemini = ([said(name, error)[2] for error in errors] for name in DIALECTS)
    assert [(error["type"], error["code"]) for error in openai] == [
        ("rate_limit_error", "rate_limit_exceeded"),
        ("insufficient_quota", "insufficient_quota"),
        ("service_unavailable_error", "server_is_overloaded"),
    ]
    assert [error["type"] for error in anthropic] == ["rate_limit_error", "billing_error", "overloaded_error"]
    assert [error["status"] for error in gemini] == ["RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"]
    reasons = [
        [detail.get("reason") or detail.get("retryDelay") for detail in error["details"]] for error in gemini
    ]
    assert reasons == [["RATE_LIMIT_EXCEEDED", "2s"], ["INSUFFICIENT_QUOTA"], ["OVERLOADED", "2s"]]


@pytest.mark.parametrize(
    ("said", "defer_s"),
    [("8h", 28_800.0), ("90min", 5400.0), ("1.5 h", 5400.0), (" 30s ", 30.0), ("24h", 86_400.0)],
)
def test_what_can_wait_says_how_long(said: str, defer_s: float) -> None:
    found = heeded(Ask(Prompt("chat", "m"), deadline_s=600.0), {"x-underlay-defer": said})
    assert (found.defer_s, found.deadline_s, found.band) == (defer_s, None, "batch")


def test_what_can_wait_keeps_the_band_it_asked_for() -> None:
    assert heeded(ASK, {"x-underlay-defer": "2h", "x-underlay-band": "standard"}).band == "standard"


@pytest.mark.parametrize("said", ["", "8", "8 hours", "-1h", "0h", "25h", "nanh", "1e9h"])
def test_a_time_to_wait_must_make_sense(said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        heeded(ASK, {"x-underlay-defer": said})
    assert refused.value.param == "x-underlay-defer"


def test_nobody_waits_for_hours_who_gives_up_in_seconds() -> None:
    with pytest.raises(BadRequest, match="exclude"):
        heeded(ASK, {"x-underlay-defer": "2h", "x-underlay-deadline-ms": "1500"})
