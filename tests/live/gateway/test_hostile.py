"""Strangers' worst: each is refused in its own dialect, costs little, leaves nothing behind and nothing in the books."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import time
import uuid

import pytest
from tests.live.wire import (
    DIALECTS,
    Client,
    ask,
    cpu_s,
    descriptors,
    engines,
    eventually,
    frames,
    http,
    model,
    resident_mb,
)
from tests.support.platform import running_platform
from tests.support.scripted import words

from underlay.live import keyring
from underlay.live.store import Store
from underlay.twin.replay import replay

MARK = "canary" + uuid.uuid4().hex[:8]  # in everything that callers say: nothing of it may be kept
LIMITS = {
    "header_bytes_max": 16_384, "body_bytes_max": 1_000_000, "header_timeout_s": 1, "body_timeout_s": 1.5,
    "idle_timeout_s": 3, "connections_max": 120, "unread_bytes_max": 65_536, "unread_timeout_s": 1.5,
    "hold_headers_s": 0.5, "keepalive_s": 0.5,
}  # fmt: skip
by_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
secrets: list[str] = []


@pytest.fixture(scope="module")
def engine():
    with engines(1, slots=8, model="m") as (started,):
        yield started


@pytest.fixture(scope="module")
def platform(engine, tmp_path_factory):
    settings = {"public": LIMITS, "models": [model([engine.url], slots=8, template="transcript")]}
    with running_platform(tmp_path_factory.mktemp("hostile"), settings) as running:
        secrets.append(running.key)
        for dialect in DIALECTS:
            ask(running, dialect, f"warm {MARK}")
        before = descriptors(running.pid), resident_mb(running.pid)
        yield running
        running.wait_idle()
        eventually(lambda: descriptors(running.pid) <= before[0] + 12, 10)
        assert resident_mb(running.pid) < before[1] + 60
        _nothing_was_kept(running)
    for path in (running.data_dir / "journal").glob("*.journal"):
        report = replay(path)
        assert report.equal, report.first_difference
        assert report.open_tickets == 0
    _nothing_was_kept(running, running=False)


def _nothing_was_kept(platform, *, running=True) -> None:
    """No word that a caller said and no secret is in any log, journal, store, journey or metric."""
    kept = {path: path.read_bytes() for path in platform.data_dir.rglob("*") if path.is_file()}
    kept = {str(path): data for path, data in kept.items() if path.name not in ("local.key", "local_key", "key")}
    kept["log"] = platform.log.read_bytes()
    if running:
        for page in ("/api/journeys?limit=500", "/api/replicas", "/api/platform", "/api/ledger?by=request"):
            kept[page] = json.dumps(platform.admin(page)).encode()
    for place, data in kept.items():
        assert MARK.encode() not in data, (place, data[max(0, data.find(MARK.encode()) - 200) :][:300])
        for secret in secrets:
            if secret.encode() in data:
                assert data.strip() == secret.encode(), (place, "a secret")  # the local key's own file


@pytest.fixture(autouse=True)
def _left_as_found(platform):
    yield
    platform.wait_idle()


def refused(answer, dialect, *statuses: int) -> None:
    """The dialect's own error, with a request id."""
    assert answer.status in statuses, answer
    assert answer.whole
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert MARK not in answer.headers.get("x-request-id", "")
    if dialect.name == "anthropic":
        assert body["type"] == "error"
        assert body["request_id"] == answer.headers["x-request-id"] == answer.headers["request-id"]
    elif dialect.name == "gemini":
        assert body["error"]["code"] == answer.status
        assert isinstance(body["error"]["status"], str)
    else:
        assert {"message", "type", "param", "code"} <= body["error"].keys()
    assert "Traceback" not in answer.body.decode()


def tell(platform, data: bytes):
    with Client(platform.address) as client:
        return client.send(data).answer()


def text(dialect, **changes) -> dict:
    return {**dialect.body(f"[[tokens=3]] {MARK}", stream=False), **changes}


BAD_BODIES = {
    "empty": b"",
    "broken": b'{"model": "m", "messages": [',
    "half": b'{"a": "' + MARK.encode(),
    "no object": f'["{MARK}"]'.encode(),
    "number": b"12345678901234567890",
    "nan": b'{"temperature": NaN}',
    "infinity": b'{"temperature": 1e999}',
    "not utf-8": b'{"model": "\xff\xfe"}',
    "lone surrogate": b'{"model": "\\ud800", "messages": [], "contents": []}',
    "deep": b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep, never closed": b"[" * 500_000,
    "many keys": b"{" + b",".join(b'"%d%s":1' % (n, MARK.encode()) for n in range(30_000)) + b"}",
    "long number": b'{"seed": ' + b"9" * 100_000 + b"}",
    "nul": b"\0" * 1000,
    "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\0",
}


@by_dialect
@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_bodies_that_are_no_request(platform, dialect, body):
    began = cpu_s(platform.pid)
    refused(tell(platform, http(dialect.path(False), body, key=platform.key)), dialect, 400)
    assert cpu_s(platform.pid) - began < 0.5


WRONG = {
    "openai": [
        {"messages": MARK}, {"messages": [MARK]}, {"messages": []}, {"messages": [{"role": MARK, "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": MARK}]}]}, {"max_tokens": -1}, {"max_tokens": 10**30},
        {"max_tokens": 2_000_000}, {"max_tokens": "3"}, {"max_tokens": 1.5}, {"n": 0}, {"n": 10**6}, {"n": -1},
        {"temperature": -1}, {"temperature": MARK}, {"top_p": 7}, {"stream": "yes" + MARK}, {"stop": {"a": MARK}},
        {"stop": ["x"] * 100}, {"logit_bias": {MARK: 1}}, {"model": 5}, {"model": ""},
        {"response_format": {"type": MARK}}, {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": MARK}}}},
        {"tools": [{"type": "function", "function": {"name": "f"}}],
         "tool_choice": {"type": "function", "function": {"name": MARK}}},
    ],
    "anthropic": [
        {"messages": MARK}, {"messages": []}, {"max_tokens": 0}, {"max_tokens": -5}, {"max_tokens": 2_000_000},
        {"max_tokens": None}, {"temperature": 99}, {"stop_sequences": MARK}, {"system": 5}, {"model": None},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": MARK}]}]},
        {"tools": [{"name": "f"}], "tool_choice": {"type": "tool", "name": MARK}},
    ],
    "gemini": [
        {"contents": MARK}, {"contents": []}, {"contents": [{"role": MARK, "parts": []}]},
        {"generationConfig": {"maxOutputTokens": -1}}, {"generationConfig": {"candidateCount": 10**6}},
        {"generationConfig": {"maxOutputTokens": 2_000_000}},
        {"generationConfig": MARK}, {"generationConfig": {"temperature": -4}},
        {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": MARK, "data": "!"}}]}]},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "wrong"),
    [(dialect, wrong) for dialect in DIALECTS for wrong in WRONG[dialect.name]],
    ids=lambda value: getattr(value, "name", None) or json.dumps(value).replace(MARK, "word")[:40],
)
@pytest.mark.parametrize("stream", [False, True])
def test_wrong_values(platform, dialect, wrong, stream):
    body = {**dialect.body(f"[[tokens=3]] {MARK}", stream=stream), **wrong}
    refused(tell(platform, http(dialect.path(stream), body, key=platform.key)), dialect, 400, 404)


@by_dialect
def test_unknown_models(platform, dialect):
    for name in ("gpt-9", "x" * 200, "y" * 500_000):
        path = dialect.path(False).replace("models/m", f"models/{name[:4000]}")
        refused(tell(platform, http(path, text(dialect, model=name), key=platform.key)), dialect, 404)
    for row in platform.admin("/api/journeys?limit=50"):
        assert len(json.dumps(row)) < 6000


@by_dialect
def test_duplicate_keys_mean_the_last_one_and_unknown_ones_nothing(platform, dialect):
    body = json.dumps(text(dialect)).encode()
    twice = body[:-1] + b', "model": "m", "unknown_to_us": [1, 2, {"a": null}]}'
    assert tell(platform, http(dialect.path(False), twice, key=platform.key)).status in (200, 400)


# Keys.


def key_of(platform, **fields) -> tuple[str, str]:
    with Store(platform.data_dir) as store:
        made = keyring.create(store, tenant="acme", name=uuid.uuid4().hex[:8], at_s=time.time(), **fields)
    key, secret = made.key, made.secret
    secrets.append(secret)
    eventually(lambda: tell(platform, http("/v1/models", method="GET", key=secret)).status == 200)
    return key.id, secret


CARRIERS = {
    "bearer": lambda path, secret: (path, f"Authorization: Bearer {secret}\r\n"),
    "x-api-key": lambda path, secret: (path, f"x-api-key: {secret}\r\n"),
    "x-goog-api-key": lambda path, secret: (path, f"x-goog-api-key: {secret}\r\n"),
    "query": lambda path, secret: (path + ("&" if "?" in path else "?") + f"key={secret}", ""),
}


@by_dialect
@pytest.mark.parametrize("carrier", CARRIERS)
def test_keys_in_every_carrier(platform, dialect, carrier):
    path, head = CARRIERS[carrier](dialect.path(False), platform.key)
    assert tell(platform, http(path, text(dialect), head=head)).status == 200
    for wrong in (
        "ul_" + "x" * 40,
        platform.key[:-1] + "A",
        platform.key + "A",
        MARK,
        "' OR 1=1 --",
        "%00",
        "x" * 5000,
    ):
        path, head = CARRIERS[carrier](dialect.path(False), wrong.replace(" ", "%20"))
        refused(tell(platform, http(path, text(dialect), head=head)), dialect, 401, 400)
    refused(tell(platform, http(dialect.path(False), text(dialect))), dialect, 401)


@by_dialect
def test_a_dummy_beside_the_key_is_fine_and_two_keys_are_not(platform, dialect):
    _, other = key_of(platform)
    fine = f"Authorization: Bearer {platform.key}\r\nx-goog-api-key: dummy\r\nx-api-key: {platform.key}\r\n"
    assert tell(platform, http(dialect.path(False), text(dialect), head=fine)).status == 200
    both = f"Authorization: Bearer {platform.key}\r\nx-api-key: {other}\r\n"
    refused(tell(platform, http(dialect.path(False), text(dialect), head=both)), dialect, 401)


@by_dialect
def test_a_revoked_key_is_refused_and_takes_its_open_stream_with_it(platform, dialect):
    key_id, secret = key_of(platform)
    with Client(platform.address) as client:
        client.send(http(dialect.path(True), dialect.body(f"[[tokens=2000 itl=20]] {MARK}"), key=secret))
        client.until(b"data: ", 3)
        with Store(platform.data_dir) as store:
            keyring.revoke(store, key_id, time.time())
        answer = client.answer()
    assert dialect.read(frames(answer.body)).error is not None
    assert not answer.whole
    refused(tell(platform, http(dialect.path(False), text(dialect), key=secret)), dialect, 401)


# HTTP.


def raw(dialect, head: str = "", body: bytes = b"", *, line: str = "", version: str = "HTTP/1.1") -> bytes:
    line = line or f"POST {dialect.path(False)} {version}"
    return f"{line}\r\nHost: h\r\n{head}\r\n".encode("latin-1") + body


@by_dialect
def test_requests_that_mean_two_things(platform, dialect):
    path = dialect.path(False)
    smuggled = b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: h\r\n\r\n"
    for data in (
        raw(dialect, f"Content-Length: {len(smuggled)}\r\nTransfer-Encoding: chunked\r\n", smuggled),
        raw(dialect, "Content-Length: 3\r\nContent-Length: 5\r\n", b"abcde"),
        raw(dialect, "Content-Length: 3, 5\r\n", b"abcde"),
        raw(dialect, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", smuggled),
        raw(dialect, "Transfer-Encoding : chunked\r\n", smuggled),
        raw(dialect, "Content-Length: +3\r\n", b"abc"),
        raw(dialect, "Content-Length: 0x3\r\n", b"abc"),
        raw(dialect, "X-A: b\r\n folded\r\n"),
        raw(dialect, "Host: g\r\n"),
        raw(dialect, "Transfer-Encoding: chunked\r\n", b"2 \nab\r\n0\r\n\r\n"),
        f"POST {path} HTTP/1.1\nHost: h\nContent-Length: 0\n\n".encode(),
        f"POST {path} HTTP/1.1\r\nContent-Length: 0\r\n\r\n".encode(),
        f"POST {path} HTTP/3.7\r\nHost: h\r\n\r\n".encode(),
        f"POST {path}\r\n\r\n".encode(),
    ):
        with Client(platform.address) as client:
            answer = client.send(data).answer()
            assert answer.status in (400, 401), (data, answer)
            assert answer.headers["connection"] == "close"
            assert client.got == b"", "a second reply"
            assert not client.more()


@pytest.mark.parametrize(
    "data",
    [
        os.urandom(3000), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0" * 5000, b"GET /\x00 HTTP/1.1\r\n\r\n", b"\r\n" * 5000 + b"X", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n", b"GET /" + b"a" * 1_000_000, b"SSH-2.0-x\r\n",
    ],
    ids=range(10),
)  # fmt: skip
def test_garbage(platform, data):
    with Client(platform.address) as client:
        answer = client.send(data).answer()
        assert answer.status in (400, 431)
        assert answer.json()["error"]
        assert answer.headers["x-request-id"]
        assert not client.more()


@by_dialect
def test_large_bodies(platform, dialect):
    path = dialect.path(False)
    big = b'{"a": "' + b"x" * 3_000_000 + b'"}'
    refused(tell(platform, http(path, big, key=platform.key)), dialect, 413)
    refused(tell(platform, http(path, big)), dialect, 401, 413)
    refused(tell(platform, http(path, big[:900_000])), dialect, 401)  # strangers are not even listened to
    chunked = f"Authorization: Bearer {platform.key}\r\nTransfer-Encoding: chunked\r\n"
    chunks = b"".join(b"8000\r\n" + b"x" * 0x8000 + b"\r\n" for _ in range(90))
    refused(tell(platform, raw(dialect, chunked, chunks + b"0\r\n\r\n")), dialect, 413)
    refused(tell(platform, raw(dialect, "Content-Length: 99999999999999\r\n")), dialect, 401, 413)
    refused(tell(platform, raw(dialect, "Content-Length: 99999999999999999999999999\r\n")), dialect, 400)


@by_dialect
def test_half_a_request_and_then_silence(platform, dialect):
    whole = http(dialect.path(False), text(dialect), key=platform.key)
    parts = (whole[:9], whole[: whole.index(b"\r\n\r\n")], whole[:-2])
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(platform.address)) for _ in (*parts, "silent")]
        began = time.monotonic()
        for client, part in zip(clients, parts, strict=False):
            client.send(part)
        for client, part in zip(clients, parts, strict=False):
            refused(client.answer(), dialect if len(part) > 100 else DIALECTS[0], 408)
            assert time.monotonic() - began < 3
        assert not clients[-1].more()  # who says nothing at all is told nothing


@by_dialect
def test_methods_and_ways_to_write_a_target(platform, dialect):
    path = dialect.path(False)
    body = text(dialect)
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = tell(platform, http(path, b"", method=method, key=platform.key))
        refused(answer, dialect, 405)
        assert answer.headers["allow"] == "POST"
    with Client(platform.address) as client:
        client.send(http(path, method="HEAD", key=platform.key) + http("/livez", method="GET"))
        client.until(b"ok\n")
        assert client.got.count(b"HTTP/1.1 ") == 2
        assert b"HTTP/1.1 405" in client.got
        assert b"{" not in client.got
    answer = tell(platform, http(path, method="OPTIONS"))
    assert (answer.status, answer.body) == (204, b"")
    assert "access-control-allow-origin" not in answer.headers
    assert tell(platform, http("http://elsewhere.example" + path, body, key=platform.key)).status == 200
    assert tell(platform, http("/" + path, body, key=platform.key)).status == 200
    for odd in (
        "/%0d%0aSet-Cookie:%20a=b",
        "/../../etc/passwd",
        "/v1/%2e%2e/x",
        "/v1/models/%00",
        "*",
        "/v1/" + "a/" * 2000,
    ):
        answer = tell(platform, http(odd, body, key=platform.key))
        assert answer.status in (400, 404, 405), (odd, answer)
        assert "set-cookie" not in answer.headers


@by_dialect
def test_expectations_old_versions_and_upgrades(platform, dialect):
    body = json.dumps(text(dialect)).encode()
    head = f"Authorization: Bearer {platform.key}\r\nContent-Length: {len(body)}\r\n"
    with Client(platform.address) as client:
        client.send(raw(dialect, head + "Expect: 100-continue\r\n"))
        client.until(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.send(body).answer().status == 200
    refused(tell(platform, raw(dialect, "Expect: 100-continue\r\nContent-Length: 900000\r\n")), dialect, 401)
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    assert tell(platform, raw(dialect, head + upgrade, body)).status == 200
    old = raw(dialect, head, body, version="HTTP/1.0")
    answer = tell(platform, old)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    streamed = json.dumps(dialect.body("[[tokens=5]]")).encode()
    with Client(platform.address) as client:
        head = f"Authorization: Bearer {platform.key}\r\nContent-Length: {len(streamed)}\r\n"
        client.send(raw(dialect, head, streamed, line=f"POST {dialect.path(True)} HTTP/1.0"))
        answer = client.answer()
    assert "transfer-encoding" not in answer.headers
    assert dialect.read(frames(answer.body)).text.lstrip() == words(5).lstrip()


@by_dialect
def test_pipelined_answers_come_in_order_and_errors_do_not_end_the_connection(platform, dialect):
    fine = [
        http(dialect.path(False), dialect.body(f"[[tokens={n} itl=2]]", stream=False), key=platform.key)
        for n in (9, 1, 4)
    ]
    bad = http(dialect.path(False), b"{", key=platform.key)
    with Client(platform.address) as client:
        client.send(fine[0] + bad + fine[1] + fine[2])
        answers = [client.answer() for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 400, 200, 200]
        said = [dialect.read(frames(answer.body)).text for answer in answers if answer.status == 200]
        assert [s.lstrip() for s in said] == [words(n).lstrip() for n in (9, 1, 4)]
        for _ in range(3):  # and the connection is still good
            assert client.send(bad).answer().status == 400
            assert client.send(fine[1]).answer().status == 200


# Slow ones.


@by_dialect
def test_who_does_not_read_is_cut_off_and_stops_nobody_else(platform, engine, dialect):
    before = resident_mb(platform.pid)
    with Client(platform.address, receive_bytes=4096) as client:
        client.send(http(dialect.path(True), dialect.body("[[tokens=200000]]"), key=platform.key))
        time.sleep(0.3)
        for _ in range(5):
            _, said = ask(platform, DIALECTS[0], "[[tokens=10 itl=5]]")
            assert said.completion_tokens == 10
        eventually(lambda: not engine.busy(), 15)
        made = engine.count("tokens_predicted_total")
        assert resident_mb(platform.pid) < before + 30
        time.sleep(0.2)
        assert engine.count("tokens_predicted_total") == made
    platform.wait_idle()
    row = platform.admin("/api/journeys?limit=20")
    gone = [journey for journey in row if journey["outcome"] == "client_gone"]
    assert gone
    assert gone[0]["usage"]["completion_tokens"] > 0


def test_slow_writers_and_too_many_connections(platform):
    slow = [Client(platform.address) for _ in range(60)]
    try:
        for client in slow:
            client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n")
        for number in range(12):
            for client in slow:
                client.send(b"X-%d: 1\r\n" % number)
            _, said = ask(platform, DIALECTS[0], "[[tokens=3]]")
            assert said.finish == "stop"
            time.sleep(0.1)
        for client in slow:
            assert client.answer().status == 408
        crowd = [Client(platform.address) for _ in range(130)]
        slow += crowd
        refused_ones = [client for client in crowd[100:] if client.answer().status == 503]
        assert len(refused_ones) >= 10
    finally:
        for client in slow:
            client.close()
    eventually(lambda: tell(platform, http("/livez", method="GET")).status == 200)


@by_dialect
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_the_engine_and_pays_for_what_was_made(platform, engine, dialect, stream):
    eventually(lambda: not engine.busy())
    made = engine.count("tokens_predicted_total")
    with Client(platform.address) as client:
        client.send(
            http(dialect.path(stream), dialect.body("[[tokens=3000 itl=10]]", stream=stream), key=platform.key)
        )
        if stream:
            client.until(b"data: ", 12)
        else:
            eventually(lambda: engine.count("tokens_predicted_total") > made + 12)
    left = time.monotonic()
    eventually(lambda: not engine.busy(), 1.0)
    assert time.monotonic() - left < 1.0
    made = engine.count("tokens_predicted_total") - made
    platform.wait_idle()
    journey = next(
        journey for journey in platform.admin("/api/journeys?limit=10") if journey["outcome"] == "client_gone"
    )
    assert journey["reason"] == "client_gone"
    assert made - 3 <= journey["usage"]["completion_tokens"] <= made
    rows = eventually(lambda: _charges(platform, journey["id"]))
    assert len(rows) == 1


def _charges(platform, request_id: str) -> list:
    with sqlite3.connect(platform.data_dir / "underlay.db") as store:
        rows = store.execute("SELECT * FROM charges WHERE request_id = ?", (request_id,)).fetchall()
    store.close()
    return rows


def test_a_client_that_closes_its_half_has_left(platform, engine):
    """No client of ours does it while it waits; a proxy in between does it when its own client left."""
    with Client(platform.address) as client:
        client.send(http("/v1/chat/completions", DIALECTS[0].body("[[tokens=3000 itl=10]]"), key=platform.key))
        client.until(b"data: ", 3)
        client.socket.shutdown(socket.SHUT_WR)
        while client.more():
            pass
        assert not client.got.endswith(b"0\r\n\r\n")
    eventually(lambda: not engine.busy(), 1.0)
    with Client(platform.address) as client:
        client.send(http("/livez", method="GET"))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer().status == 200
