"""The console's listener: who gets in, what is sent, and with which headers."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import schemathesis
from starlette.testclient import TestClient

import underlay.console
from underlay.console.app import create_app
from underlay.console.assets import Assets
from underlay.console.openapi import document
from underlay.console.sessions import SESSION_S, Sessions
from underlay.domain.views import Journey, LedgerRow, PlatformRow, ReplicaRow

from .sample import CONSOLE_KEY, SampleViews

OWN = "http://127.0.0.1:8081"
BEARER = {"authorization": f"Bearer {CONSOLE_KEY}"}
STATIC = Path(underlay.console.__file__).parent / "static"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def views() -> SampleViews:
    return SampleViews()


@pytest.fixture
def client(views: SampleViews, clock: Clock) -> Iterator[TestClient]:
    with TestClient(create_app(views, clock=clock), base_url=OWN, client=("127.0.0.1", 5000)) as client:
        yield client


@pytest.fixture
def stranger(views: SampleViews) -> Iterator[TestClient]:
    with TestClient(create_app(views), base_url=OWN, client=("192.0.2.7", 5000)) as client:
        yield client


def log_in(client: TestClient) -> None:
    assert client.post("/api/session", json={"key": CONSOLE_KEY}).status_code == 204


# Who gets in


@pytest.mark.parametrize(
    "path",
    [
        "/api/session",
        "/api/platform",
        "/api/replicas",
        "/api/journeys",
        "/api/journeys/req_01newest",
        "/api/ledger",
        "/openapi.json",
    ],
)
def test_everything_with_content_needs_a_key(client, path):
    refusal = client.get(path)
    assert refusal.status_code == 401
    assert refusal.headers["www-authenticate"].startswith("Bearer")
    assert refusal.json()["error"]["request_id"] == refusal.headers["x-request-id"]
    assert client.get(path, headers={"authorization": "Bearer ul_wrong"}).status_code == 401
    assert client.get(path, headers={"authorization": f"Basic {CONSOLE_KEY}"}).status_code == 401
    assert client.get(path, headers=BEARER).status_code == 200


def test_the_page_itself_holds_nothing_and_needs_no_key(client):
    page = client.get("/")
    assert page.status_code == 200
    assert CONSOLE_KEY not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert client.get("/journeys/req_01newest").text == client.get("/fleet").text == page.text


def test_a_login_sets_a_cookie_that_scripts_cannot_read(client):
    answer = client.post(
        "/api/session", json={"key": CONSOLE_KEY}, headers={"origin": OWN, "sec-fetch-site": "same-origin"}
    )
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("underlay_session_8081=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert CONSOLE_KEY not in cookie
    session = client.get("/api/session").json()
    assert session["public_url"] == "http://127.0.0.1:8080"
    assert session["key"] == "ul_session_0"
    assert session["models"][0]["id"] == "gemma-3-270m"


def test_over_https_the_cookie_is_bound_to_the_host(views):
    with TestClient(create_app(views), base_url="https://localhost:8081") as client:
        cookie = client.post("/api/session", json={"key": CONSOLE_KEY}).headers["set-cookie"]
    assert cookie.startswith("__Host-underlay_session_8081=")
    assert "Secure" in cookie
    assert "Path=/" in cookie


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"key": 1}', b'{"key": "x", "more": 1}', b"\xff", b'{"key":"\xff"}']
)
def test_a_malformed_login_is_the_callers_fault(client, body):
    refusal = client.post("/api/session", content=body)
    assert refusal.status_code == 400
    assert refusal.json()["error"]["param"] == "key"


def test_a_login_is_small(client):
    assert client.post("/api/session", content=b" " * 5000).status_code == 413


def test_a_wrong_key_does_not_log_in(client):
    answer = client.post("/api/session", json={"key": "ul_wrong"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_logging_out_ends_the_session_on_both_sides(client):
    log_in(client)
    cookie = client.cookies.get("underlay_session_8081")
    assert client.delete("/api/session").status_code == 204
    assert client.get("/api/platform").status_code == 401
    assert client.get("/api/platform", headers={"cookie": f"underlay_session_8081={cookie}"}).status_code == 401


def test_a_session_ends_by_itself(client, clock):
    log_in(client)
    clock.now += SESSION_S - 1
    assert client.get("/api/platform").status_code == 200
    clock.now += 1
    assert client.get("/api/platform").status_code == 401


def test_revoking_the_key_ends_its_sessions(client, views):
    log_in(client)
    assert client.get("/api/platform").status_code == 200
    views.secrets.clear()
    assert client.get("/api/platform").status_code == 401


def test_sessions_are_bounded_and_the_oldest_makes_room():
    sessions = Sessions(lambda: 0.0, count=3)
    cookies = [sessions.start(f"secret {n}") for n in range(5)]
    assert len(sessions) == 3
    assert [sessions.secret(cookie) for cookie in cookies] == [None, None, "secret 2", "secret 3", "secret 4"]
    assert sessions.secret("never given") is None


def test_probes_and_metrics_need_a_key_only_from_elsewhere(client, stranger):
    for path in ("/livez", "/readyz", "/metrics"):
        assert client.get(path).status_code == 200
        assert client.get(path, headers={"x-forwarded-for": "192.0.2.7"}).status_code == 401
        assert stranger.get(path).status_code == 401
        assert stranger.get(path, headers=BEARER).status_code == 200


# Which host, which page


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8081",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "[::1",
        "127.0.0.1:x",
        "",
        "a:b:c",
    ],
)
def test_other_host_names_are_refused_before_anything_else(client, host):
    for path in ("/", "/metrics", "/api/platform", "/nowhere"):
        refusal = client.get(path, headers={"host": host} | BEARER)
        assert refusal.status_code == 421
        assert refusal.json()["error"]["code"] == "misdirected_request"
        assert "content-security-policy" in refusal.headers


@pytest.mark.parametrize("host", ["127.0.0.1:8081", "localhost:8081", "[::1]:8081", "LOCALHOST", "localhost:9999"])
def test_loopback_names_are_allowed(client, host):
    assert client.get("/livez", headers={"host": host}).status_code == 200


def test_a_configured_name_and_the_listeners_own_are_allowed(views):
    views.console = "http://10.1.2.3:8081"
    with TestClient(create_app(views, hosts=("Console.example",)), base_url="http://10.1.2.3:8081") as client:
        assert client.get("/").status_code == 200
        assert client.get("/", headers={"host": "console.example"}).status_code == 200
        assert client.get("/", headers={"host": "10.1.2.4:8081"}).status_code == 421


def test_another_loopback_name_leads_to_the_one_that_the_public_side_answers(client):
    moved = client.get("/journeys/req_1?x=%0d", headers={"host": "localhost:8081"}, follow_redirects=False)
    assert moved.status_code == 307
    assert moved.headers["location"] == "http://127.0.0.1:8081/journeys/req_1"
    # A tunnel's port leads nowhere else: this machine's port may not be reachable from that browser.
    assert client.get("/", headers={"host": "localhost:9999"}, follow_redirects=False).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "null"},
        {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},
    ],
)
def test_other_pages_can_neither_log_in_nor_use_the_cookie(client, headers):
    assert client.post("/api/session", json={"key": CONSOLE_KEY}, headers=headers).status_code == 403
    log_in(client)
    assert client.get("/api/session", headers=headers).status_code == 403
    assert client.delete("/api/session", headers=headers).status_code == 403
    assert client.get("/api/session").status_code == 200


def test_an_address_typed_in_may_read_but_not_change(client):
    log_in(client)
    assert client.get("/api/platform", headers={"sec-fetch-site": "none"}).status_code == 200
    assert client.delete("/api/session", headers={"sec-fetch-site": "none"}).status_code == 403


# What is sent


def test_records_are_sent_as_the_domain_defines_them(client, views):
    client.headers.update(BEARER)
    assert msgspec.json.decode(client.get("/api/platform").content, type=PlatformRow) == views.platform()
    assert msgspec.json.decode(client.get("/api/replicas").content, type=list[ReplicaRow]) == views.replicas()
    assert msgspec.json.decode(client.get("/api/journeys").content, type=list[Journey]) == views.stories
    assert msgspec.json.decode(client.get("/api/journeys/req_02refused").content, type=Journey) == views.stories[1]
    for group in ("request", "tenant", "key", "model", "region", "day"):
        found = client.get("/api/ledger", params={"group": group}).content
        assert msgspec.json.decode(found, type=list[LedgerRow]) == views.ledger(group)


def test_a_replica_is_drained_and_put_back(client, views):
    name = views.replicas()[0].name
    for drain, state in ((True, "draining"), (False, "ready")):
        reply = client.post("/api/replicas/drain", json={"replica": name, "drain": drain}, headers=BEARER)
        assert (reply.status_code, reply.json()["name"], reply.json()["state"]) == (200, name, state)
    assert views.drained == [(name, True), (name, False)]
    unknown = client.post("/api/replicas/drain", json={"replica": "x/0", "drain": True}, headers=BEARER)
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "replica")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"replica": 1, "drain": true}', b'{"replica": "m/0"}', b"x" * 5000])
def test_a_malformed_drain_is_the_callers_fault(client, views, body):
    reply = client.post("/api/replicas/drain", content=body, headers=BEARER)
    assert reply.status_code in (400, 413)
    assert views.drained == []


def test_draining_needs_a_key_and_the_consoles_own_page(client, views):
    body = {"replica": views.replicas()[0].name, "drain": True}
    assert client.post("/api/replicas/drain", json=body).status_code == 401
    log_in(client)
    other = {"origin": "http://127.0.0.1:9999", "sec-fetch-site": "same-site"}
    assert client.post("/api/replicas/drain", json=body, headers=other).status_code == 403
    assert client.post("/api/replicas/drain", json=body).status_code == 200
    assert views.drained == [(body["replica"], True)]


def test_journeys_are_paged_by_time(client, views):
    client.headers.update(BEARER)
    seen: list[str] = []
    before: dict[str, float] = {}
    while page := client.get("/api/journeys", params={"limit": 4, **before}).json():
        seen += [row["id"] for row in page]
        before = {"before": page[-1]["at_s"]}
    assert seen == [story.id for story in views.stories]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("journeys?limit=0", "limit"),
        ("journeys?limit=501", "limit"),
        ("journeys?limit=ten", "limit"),
        ("journeys?before=noon", "before"),
        ("ledger?group=colour", "group"),
    ],
)
def test_a_bad_parameter_is_named(client, query, param):
    refusal = client.get(f"/api/{query}", headers=BEARER)
    assert refusal.status_code == 400
    assert refusal.json()["error"]["param"] == param


def test_unknown_things_and_wrong_methods_are_json_too(client):
    for answer, status in (
        (client.get("/api/journeys/req_unknown", headers=BEARER), 404),
        (client.get("/api/nothing"), 404),
        (client.get("/api/../../etc/passwd"), 404),
        (client.put("/api/platform"), 405),
    ):
        assert answer.status_code == status
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "GET" in client.put("/api/platform").headers["allow"]


def test_readiness_says_why_when_asked(client, views):
    assert client.get("/readyz").json() == {"ready": True}
    views.is_ready, views.reasons = False, ["no replica of gemma-3-270m is ready"]
    refusal = client.get("/readyz?verbose")
    assert refusal.status_code == 503
    assert refusal.json() == {"ready": False, "reasons": ["no replica of gemma-3-270m is ready"]}


def test_metrics_are_the_platforms_own(client):
    answer = client.get("/metrics")
    assert answer.text.endswith("underlay_up 1\n")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_every_reply_carries_the_careful_headers(client):
    version = Assets().version
    paths = ("/", "/nowhere", "/api/platform", "/livez", "/metrics", f"/ui/{version}/app.js")
    for answer in (client.get(path) for path in paths):
        policy = answer.headers["content-security-policy"]
        for part in (
            "default-src 'self'",
            "script-src 'self'",
            "style-src 'self'",
            "object-src 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "connect-src 'self' http://127.0.0.1:8080",
            "require-trusted-types-for 'script'",
        ):
            assert part in policy.split("; ")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "camera=()" in answer.headers["permissions-policy"]
        assert answer.headers["x-request-id"].startswith("con_")
        assert "unsafe" not in policy


# The page's files


def test_files_are_cacheable_for_ever_under_their_version(client):
    assets = Assets()
    assert f"/ui/{assets.version}/app.js" in client.get("/").text
    for path, asset in assets.files.items():
        answer = client.get(f"/ui/{assets.version}/{path}", headers={"accept-encoding": "gzip"})
        assert answer.status_code == 200
        assert answer.content == asset.body
        assert answer.headers["content-encoding"] == "gzip"
        assert "immutable" in answer.headers["cache-control"]
    plain = client.get(f"/ui/{assets.version}/app.js", headers={"accept-encoding": "identity"})
    assert plain.content == assets.files["app.js"].body
    assert "content-encoding" not in plain.headers
    stale = client.get("/ui/0000000000000000/app.js")
    assert stale.status_code == 404
    assert stale.headers["cache-control"] == "no-store"


def test_the_version_follows_every_byte(tmp_path):
    (tmp_path / "vendor").mkdir()
    (tmp_path / "index.html").write_text("<p>%UI%</p>")
    (tmp_path / "vendor" / "a.js").write_text("1")
    first = Assets(tmp_path).version
    (tmp_path / "vendor" / "a.js").write_text("2")
    assert Assets(tmp_path).version != first


def test_no_file_could_leave_the_static_folder(client):
    version = Assets().version
    for path in ("../app.py", "..%2fapp.py", "%2e%2e/app.py", "vendor/../../app.py", "/etc/passwd"):
        assert client.get(f"/ui/{version}/{path}").status_code == 404


def test_vendored_files_are_the_ones_that_were_locked():
    lock = json.loads((STATIC / "vendor" / "vendor.lock.json").read_text())
    locked = {name: digest for package in lock["packages"] for name, digest in package["files"].items()}
    found = {
        str(path.relative_to(STATIC / "vendor")): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (STATIC / "vendor").rglob("*")
        if path.is_file() and path.name != "vendor.lock.json"
    }
    assert found == locked
    for package in lock["packages"]:
        assert package["licence"] in {"MIT", "Apache-2.0"}
        assert any("LICENSE" in name for name in package["files"])


def test_the_page_fits_its_budget_and_needs_nobody_elses_server():
    sent = [p for p in STATIC.rglob("*") if p.suffix in {".js", ".css", ".html", ".svg"}]
    assert sum(len(gzip.compress(p.read_bytes(), 9)) for p in sent) <= 150_000
    for path in sent:
        text = path.read_text()
        assert "sourceMappingURL" not in text
        if path.is_relative_to(STATIC / "vendor"):
            continue
        assert "https://" not in text, path
        assert "innerHTML" not in text, path
        assert "localStorage" not in text or path.name in {"boot.js", "prefs.js"}, path


# The description


def described() -> dict[str, Any]:
    return document("0.1.0", "http://127.0.0.1:8080", OWN)


def test_the_description_is_a_valid_openapi_document_without_dangling_references(client):
    sent = client.get("/openapi.json", headers=BEARER).json()
    assert sent == json.loads(json.dumps(described()))
    schemathesis.openapi.from_dict(sent).validate()
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(sent)))
    assert names <= sent["components"]["schemas"].keys()
    ids = [op["operationId"] for path in sent["paths"].values() for op in path.values() if isinstance(op, dict)]
    assert len(ids) == len(set(ids))


def test_the_description_names_every_console_endpoint_and_no_other(views):
    served = {
        (route.path, method.lower())
        for route in create_app(views).routes
        for method in route.methods - {"HEAD"}
        if not route.path.startswith(("/ui/", "/fleet", "/journeys")) and route.path != "/"
    }
    named = {
        (path, method)
        for path, item in described()["paths"].items()
        for method, operation in item.items()
        if method != "servers" and operation["tags"] == ["console"]
    }
    assert named == served


@pytest.mark.parametrize(
    ("shape", "good", "bad"),
    [
        (
            "ChatCompletionRequest",
            {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": None, "stop": ["a"]},
            [
                {"model": "m"},
                {"model": "m", "messages": []},
                {"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 0},
            ],
        ),
        (
            "CompletionRequest",
            {"model": "m", "prompt": [[1, 2], [3]]},
            [{"model": "m", "prompt": []}, {"model": "", "prompt": "a"}],
        ),
        ("EmbeddingRequest", {"model": "m", "input": ["a", "b"]}, [{"model": "m", "input": ""}, {"input": "a"}]),
        (
            "ResponseRequest",
            {"model": "m", "input": "hi", "text": {"format": {"type": "text"}}},
            [{"model": "m", "input": []}],
        ),
        (
            "MessageRequest",
            {
                "model": "m",
                "max_tokens": 5,
                "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            },
            [
                {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
                {"model": "m", "max_tokens": 0, "messages": []},
            ],
        ),
        ("GenerateContentRequest", {"contents": [{"parts": [{"text": "hi"}]}]}, [{"contents": []}, {}]),
        ("Login", {"key": "ul_x"}, [{}, {"key": 1}, {"key": "a", "b": 1}]),
    ],
)
def test_request_shapes_accept_and_refuse(shape, good, bad):
    schema = {"$ref": f"#/components/schemas/{shape}", "components": described()["components"]}
    validator = jsonschema_rs.validator_for(schema)
    validator.validate(good)
    for each in bad:
        assert not validator.is_valid(each), each


def test_records_match_their_description(views):
    components = described()["components"]
    for record, name in (
        (views.platform(), "PlatformRow"),
        (views.replicas()[0], "ReplicaRow"),
        (views.stories[0], "Journey"),
        (views.ledger("key")[0], "LedgerRow"),
        (views.models()[0], "ModelCard"),
    ):
        schema = {"$ref": f"#/components/schemas/{name}", "components": components}
        jsonschema_rs.validator_for(schema).validate(json.loads(msgspec.json.encode(record)))


def test_a_defect_is_answered_like_every_refusal_and_logged_with_its_id(client, views, caplog):
    views.replicas = lambda: 1 / 0
    answer = client.get("/api/replicas", headers=BEARER)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "division" not in answer.text
    assert "content-security-policy" in answer.headers
    assert answer.headers["x-request-id"] in caplog.text


def test_no_credential_of_any_bytes_is_more_than_wrong(client):
    for secret in (b"ul_\xff\xfe", b"\xc3\xa9", b"x" * 8000, b"\x00"):
        assert client.get("/api/platform", headers={"authorization": b"Bearer " + secret}).status_code == 401
        assert (
            client.get("/api/platform", headers={"cookie": b"underlay_session_8081=" + secret}).status_code == 401
        )
    for body in (b'{"key": "\\ud800"}', b'{"key": "\\u0000"}', b'{"key": ""}'):
        assert client.post("/api/session", content=body).status_code in (400, 401)
