"""Every base URL that a user may plausibly type leads to the same place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.dialects import DIALECTS, choose, credentials, without_credentials
from underlay.dialects.routes import POSTED


def at(method: str, path: str, query: str = "", **headers: str) -> tuple[str, str, str | None]:
    route = choose(method, path, query, {name.replace("_", "-"): value for name, value in headers.items()})
    return route.dialect, route.name, route.model or route.id


@pytest.mark.parametrize("prefix", ["", "/v1", "/v1/v1", "/v1beta", "/v1/v1beta", "//v1/"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_any_base_url_works(prefix: str, slash: str) -> None:
    for rest, (dialect, name) in POSTED.items():
        assert at("POST", f"{prefix}/{'/'.join(rest)}{slash}") == (dialect, name, None)


@pytest.mark.parametrize("version", ["", "/v1", "/v1beta", "/v1alpha", "/v1beta/v1beta", "/v1/v1beta"])
@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("generateContent", "generate"),
        ("streamGenerateContent", "stream_generate"),
        ("countTokens", "count_tokens"),
        ("embedContent", "embed"),
        ("batchEmbedContents", "batch_embed"),
    ],
)
@pytest.mark.parametrize("model", ["m", "models/m", "models%2Fm", "Qwen/Qwen3-8B", "llama3:8b", "gemini-2.5-flash"])
def test_gemini_actions(version: str, action: str, name: str, model: str) -> None:
    bare = model.replace("%2F", "/").removeprefix("models/")
    for colon in (":", "%3A", "%3a"):
        assert at("POST", f"{version}/models/{model}{colon}{action}") == ("gemini", name, bare)


def test_gemini_without_a_model_is_unknown() -> None:
    assert at("POST", "/v1beta/models/:generateContent")[:2] == ("gemini", "unknown")
    assert at("POST", "/v1beta/m:generateContent")[:2] == ("gemini", "unknown")
    assert at("POST", "/v1beta/models/m:generateNothing")[:2] == ("gemini", "unknown")


@pytest.mark.parametrize(
    ("path", "query", "headers", "dialect"),
    [
        ("/v1/models", "", {}, "openai"),
        ("/v1/models", "", {"authorization": "Bearer x"}, "openai"),
        ("/v1/models", "", {"x_api_key": "x"}, "openai"),
        ("/v1/models", "", {"anthropic_version": "2026-10-21"}, "anthropic"),
        ("/v1/models", "", {"anthropic_version": "2026-10-21", "authorization": "Bearer x"}, "anthropic"),
        ("/v1/models", "", {"x_goog_api_key": "x"}, "gemini"),
        ("/v1/models", "", {"x_goog_api_client": "genai"}, "gemini"),
        ("/v1/models", "key=x", {}, "gemini"),
        ("/v1/models", "pageSize=3", {}, "openai"),
        ("/v1beta/models", "", {}, "gemini"),
        ("/v1alpha/models", "", {}, "gemini"),
        ("/models", "", {}, "openai"),
    ],
)
def test_shared_paths(path: str, query: str, headers: dict[str, str], dialect: str) -> None:
    assert at("GET", path, query, **headers) == (dialect, "models", None)
    assert at("HEAD", path, query, **headers) == (dialect, "models", None)
    assert at("GET", path + "/a/b", query, **headers) == (dialect, "model", "a/b")
    assert at("DELETE", path, query, **headers)[:2] == (dialect, "wrong_method")


def test_an_unknown_path_is_refused_in_the_callers_own_words() -> None:
    assert at("GET", "/nothing")[:2] == ("openai", "unknown")
    assert at("GET", "/")[:2] == ("openai", "unknown")
    assert at("GET", "/v1beta/nothing")[:2] == ("gemini", "unknown")
    assert at("POST", "/v1/messages/batches")[:2] == ("anthropic", "unknown")
    assert at("GET", "/nothing", anthropic_version="1")[:2] == ("anthropic", "unknown")
    assert at("GET", "/v1/responses/a/b/c")[:2] == ("openai", "unknown")


def test_wrong_methods_name_the_right_one() -> None:
    for method, path, allow in [
        ("GET", "/v1/messages", "POST"),
        ("GET", "/v1/chat/completions", "POST"),
        ("GET", "/v1beta/models/m:generateContent", "POST"),
        ("POST", "/v1/responses/resp_1", "GET, HEAD, DELETE"),
        ("GET", "/v1/responses/resp_1/cancel", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
    ]:
        route = choose(method, path, "", {})
        assert (route.name, route.allow) == ("wrong_method", allow)


def test_the_record_of_a_request_s_energy_is_nobody_s_dialect() -> None:
    path = "/v1/requests/req_1/energy"
    assert at("GET", path) == ("openai", "request_energy", "req_1")
    assert choose("GET", path, "", {"anthropic-version": "1"}).dialect == "anthropic"
    assert choose("GET", path.replace("v1", "v1beta"), "", {}).dialect == "gemini"
    assert choose("POST", path, "", {}).allow == "GET, HEAD"
    assert (
        at("GET", "/v1/requests/req_1")[:2] == at("GET", "/v1/requests/req_1/energy/x")[:2] == ("openai", "unknown")
    )


def test_stored_responses() -> None:
    assert at("GET", "/v1/responses/resp_1") == ("openai", "response", "resp_1")
    assert at("DELETE", "/v1/responses/resp_1") == ("openai", "response", "resp_1")
    assert at("POST", "/v1/responses/resp_1/cancel") == ("openai", "response_cancel", "resp_1")
    assert at("POST", "/responses/input_tokens") == ("openai", "response_input_tokens", None)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../v1/messages",
        "/v1/%2e%2e/messages",
        "/v1/models/../admin",
        "/v1/messages%0a",
        "/v1/mess%00ages",
        "/v1/%ff/messages",
        "/v1/models/%252e%252e/%2e%2e",
        "/./v1/messages",
    ],
)
def test_tricky_paths_match_nothing(path: str) -> None:
    assert choose("POST", path, "", {}).name == "unknown"
    assert choose("GET", path, "", {}).name == "unknown"


def test_a_path_is_decoded_only_once() -> None:
    assert at("GET", "/v1/models/a%252Fb") == ("openai", "model", "a%2Fb")


def test_the_query_keeps_the_last_value_and_no_secret() -> None:
    route = choose("POST", "/v1beta/models/m:streamGenerateContent", "alt=json&alt=sse&key=s&x=", {})
    assert route.query == {"alt": "sse", "x": ""}


def test_credentials_of_every_carrier() -> None:
    headers = {"authorization": "bearer  a ", "x-api-key": "b", "x-goog-api-key": "c"}
    assert credentials("/v1/models?key=d&key=a", headers) == ("a", "b", "c", "d")
    assert credentials("key=d%2B", {}) == ("d+",)
    assert credentials("alt=sse?&key=d?e", {}) == ("d?e",)
    assert credentials("/v1/models", {"authorization": "Basic a"}) == ()
    assert credentials("/v1/models?key=", {"authorization": "Bearer"}) == ()


def test_secrets_leave_the_query() -> None:
    assert without_credentials("key=s&alt=sse") == "alt=sse"
    assert without_credentials("alt=sse&%6bey=s&key") == "alt=sse"
    assert without_credentials("a=%20&monkey=1") == "a=%20&monkey=1"
    assert without_credentials("") == ""


@given(st.sampled_from(["GET", "POST", "PUT"]), st.text(), st.text())
def test_anything_has_a_route(method: str, path: str, query: str) -> None:
    route = choose(method, path, query, {})
    assert route.dialect in DIALECTS
    assert "key" not in route.query
    credentials(path + "?" + query, {})
