"""One tenant's words are nobody else's (I12, I13, I15), and no text at all is kept where it need not be.

Every tenant's prompts, and the answers that a scripted engine makes of them, carry words that nobody else's do:
canaries. Several tenants ask at the same time, in every dialect, streamed or not, with failures in between; then
everything that came back to each, and everything that was written down, is searched for words that do not belong.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import random
import socket
import struct
import time
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from tests.live.wire import DIALECTS, Client, ask, engines, eventually, model
from tests.live.wire import http as request
from tests.support.keys import make_key, wait_known
from tests.support.platform import running_platform
from tests.support.scripted import words

from underlay.control import journal
from underlay.control.events import Arrived
from underlay.live import keyring
from underlay.live.store import Store
from underlay.twin.replay import replay

TENANTS = ("ash", "birch", "cedar")
QUICK = {"public": {"hold_headers_s": 0.3, "keepalive_s": 0.3}, "desk": {"strikes_max": 1000}}


class Tenant:
    """Somebody with a key, words of their own, and everything that ever came back to them."""

    def __init__(self, platform, name: str) -> None:
        self.platform = platform
        self.name = name
        self.said = f"canary{name}prompt"  # in what it asks
        self.heard = f"canary{name}answer"  # in what it is answered
        self.named = f"name-{name}-gave"  # for models and paths: its operator may see those, other tenants may not
        self.key = make_key(platform.data_dir, f"team-{name}")
        self.secret = self.key.secret
        self.got: list[bytes] = []
        self.ids: list[str] = []

    def text(self, number: int, tokens: int, more: str = "") -> str:
        return f"{self.said} question {number} [[tokens={tokens} itl=1 tag={self.heard} {more}]]"

    def post(self, path: str, body: Any, **headers: str):
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        with Client(self.platform.address) as client:
            answer = client.send(request(path, body, key=self.secret, head=head)).answer()
        self.keep(answer)
        return answer

    def keep(self, answer) -> None:
        self.got.append(json.dumps(answer.headers).encode() + answer.body)
        self.ids.append(answer.headers.get("x-request-id", ""))

    # What it does. Each returns whether it got what it asked for.

    def ask(self, number: int, dialect, *, stream: bool, tokens: int = 6, more: str = "") -> bool:
        answer, said = ask(self.platform, dialect, self.text(number, tokens, more), stream=stream, key=self.secret)
        self.keep(answer)
        assert said.text.lstrip() == words(tokens, self.heard).lstrip(), (more, stream, answer)
        return True

    def fail(self, number: int, dialect) -> bool:
        """An answer that no replica can finish, as it starts afresh each time; half of it is there."""
        answer, _ = ask(self.platform, dialect, self.text(number, 9, "cut=3"), stream=False, key=self.secret)
        self.keep(answer)
        return answer.status >= 500

    def leave(self, number: int, dialect) -> bool:
        """Reset the connection in mid-stream."""
        with Client(self.platform.address) as client:
            body = dialect.body(self.text(number, 60), stream=True)
            client.send(request(dialect.path(True), body, key=self.secret))
            client.until(b"answer1")
            self.got.append(client.got)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return True

    def complete(self, number: int) -> bool:
        body = {"model": "m", "prompt": self.text(number, 5), "max_tokens": 50}
        answer = self.post("/v1/completions", body)
        return answer.json()["choices"][0]["text"].lstrip() == words(5, self.heard).lstrip()

    def count(self, number: int) -> bool:
        body = {"model": "m", "messages": [{"role": "user", "content": self.text(number, 5)}]}
        return self.post("/v1/messages/count_tokens", body).status == 200

    def err(self, number: int) -> bool:
        """Errors repeat what was sent, to its sender only."""
        bodies: list[tuple[str, Any, int]] = [
            ("/v1/chat/completions", {"model": self.named, "messages": [{"role": "user", "content": "x"}]}, 404),
            ("/v1/chat/completions", {"model": "m", "messages": [{"role": self.said, "content": "x"}]}, 400),
            ("/v1/chat/completions", b'{"model": "m", "' + self.said.encode(), 400),
            (f"/v1/{self.named}", {}, 404),
            (f"/v1beta/models/{self.named}:generateContent", {"contents": [{"parts": [{"text": "x"}]}]}, 404),
        ]
        path, body, status = bodies[number % len(bodies)]
        return self.post(path, body).status == status

    def rejected(self, number: int) -> bool:
        """The engine refuses, with words of its own."""
        answer, _ = ask(self.platform, DIALECTS[number % 3], self.text(number, 5, "status=400"), key=self.secret)
        self.keep(answer)
        return answer.status == 400

    def again(self, number: int) -> bool:
        """The same idempotency key as everybody's, twice; the second answer is the first one's."""
        dialect = DIALECTS[number % 2]  # one path per dialect is enough
        body = dialect.body(self.text(number, 4), stream=bool(number % 4 < 2))
        path = dialect.path(bool(number % 4 < 2))
        first = self.post(path, body, Idempotency_Key=f"shared-{number}")
        second = self.post(path, body, Idempotency_Key=f"shared-{number}")
        other = self.post(path, dialect.body(self.text(number, 3)), Idempotency_Key=f"shared-{number}")
        return first.status == 200 and second.body == first.body and other.status in (400, 409, 422)

    def store(self, number: int) -> bool:
        """A stored response, and one that goes on from it."""
        made = self.post("/v1/responses", {"model": "m", "input": self.text(number, 3), "store": True}).json()
        more = {"model": "m", "input": self.text(number, 4), "previous_response_id": made["id"], "stream": True}
        answer = self.post("/v1/responses", more)
        with Client(self.platform.address) as client:
            kept = client.send(request(f"/v1/responses/{made['id']}", method="GET", key=self.secret)).answer()
        self.keep(kept)
        return answer.status == 200 and self.heard in kept.body.decode()

    def steal(self, number: int, other: Tenant) -> bool:
        """Ask for what another tenant stored, and go on from it; guess at its requests and journeys."""
        mine = other.post("/v1/responses", {"model": "m", "input": other.text(number, 3), "store": True}).json()
        stolen = {"model": "m", "input": "go on", "previous_response_id": mine["id"]}
        statuses = [self.post("/v1/responses", stolen).status]
        for method, tail in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
            with Client(self.platform.address) as client:
                path = f"/v1/responses/{mine['id']}{tail}"
                answer = client.send(request(path, method=method, key=self.secret)).answer()
            self.keep(answer)
            statuses.append(answer.status)
        return statuses == [404, 404, 404, 404]


def _deeds(tenant: Tenant, others: list[Tenant], seed: int):
    """Everything a tenant does, in an order of its own."""
    deeds = [
        *(lambda d=d, s=s, n=n: tenant.ask(n, d, stream=s) for n, d in enumerate(DIALECTS) for s in (True, False)),
        *(lambda d=d, n=n: tenant.ask(n, d, stream=True, tokens=9, more="reset=4") for n, d in enumerate(DIALECTS)),
        *(lambda d=d, n=n: tenant.fail(n, d) for n, d in enumerate(DIALECTS)),
        *(lambda d=d, n=n: tenant.leave(n, d) for n, d in enumerate(DIALECTS)),
        *(lambda n=n: tenant.err(n) for n in range(5)),
        *(lambda n=n: tenant.rejected(n) for n in range(3)),
        *(lambda n=n: tenant.again(n) for n in range(4)),
        *(lambda n=n: tenant.store(n) for n in range(2)),
        *(lambda n=n, o=o: tenant.steal(n, o) for n, o in enumerate(others)),
        lambda: tenant.complete(1),
        lambda: tenant.count(1),
    ]
    random.Random(seed).shuffle(deeds)
    return deeds


class World:
    """What there is when everybody has asked everything."""

    def __init__(self, platform, tenants: list[Tenant], failed: list[str]) -> None:
        self.platform, self.tenants, self.failed = platform, tenants, failed

    @property
    def canaries(self) -> list[str]:
        return [word for tenant in self.tenants for word in (tenant.said, tenant.heard)]


@pytest.fixture(scope="module", params=["llamacpp", "openai"])
def world(request, tmp_path_factory):
    """A platform after a busy while, still running."""
    with engines(2, slots=8, model="m") as replicas:
        template = {"template": "transcript"} if request.param == "llamacpp" else {}
        served = model([replica.url for replica in replicas], request.param, slots=8, stall_s=2, **template)
        settings = {**QUICK, "models": [served], "log": {"format": "json", "level": "debug"}}
        with running_platform(tmp_path_factory.mktemp(request.param), settings) as platform:
            tenants = [Tenant(platform, name) for name in TENANTS]
            wait_known(platform, *(tenant.key for tenant in tenants))
            failed = _all_at_once(tenants)
            platform.wait_idle()
            yield World(platform, tenants, failed)


def _all_at_once(tenants: list[Tenant]) -> list[str]:
    """Each tenant does everything, two things at a time; returns what went wrong."""
    failed: list[str] = []

    def work(tenant: Tenant, deeds: list) -> None:
        for deed in deeds:
            try:
                if not deed():
                    failed.append(f"{tenant.name}: {deed.__code__.co_names} {deed.__defaults__}")
            except Exception as error:  # noqa: BLE001  # whatever it is, it is told
                failed.append(f"{tenant.name}: {deed.__code__.co_names} {deed.__defaults__}: {error!r}")

    with concurrent.futures.ThreadPoolExecutor(2 * len(tenants)) as pool:
        for number, tenant in enumerate(tenants):
            deeds = _deeds(tenant, [other for other in tenants if other is not tenant], number)
            for half in (deeds[::2], deeds[1::2]):
                pool.submit(work, tenant, half)
    return failed


def _found(canaries: list[str], data: bytes) -> list[str]:
    """The canaries in some bytes, however JSON or a URL may have written them: they are plain letters."""
    return [word for word in canaries if word.encode() in data]


def test_everybody_gets_their_own_answers(world):
    assert not world.failed


def test_i12_no_reply_holds_another_tenants_words(world):
    for tenant in world.tenants:
        others = [other for other in world.tenants if other is not tenant]
        foreign = [
            word for other in others for word in (other.said, other.heard, other.named, other.secret, other.key.id)
        ]
        assert len(tenant.got) > 40
        assert any(tenant.heard.encode() in got for got in tenant.got)
        for got in tenant.got:
            assert not _found(foreign, got), got[:400]


def test_i12_nothing_that_is_written_down_holds_text(world):
    """Journal, ledger, journeys, keys: every file of the data directory. And the log, at its most talkative."""
    time.sleep(0.3)  # the writer's batch
    files = [path for path in world.platform.data_dir.rglob("*") if path.is_file()]
    kinds = {path.name.partition(".")[2] or path.name for path in files}
    assert any("journal" in kind for kind in kinds)
    assert any("db" in kind for kind in kinds)
    for path in [*files, world.platform.log]:
        assert not _found(world.canaries, path.read_bytes()), path


def test_i12_nothing_that_the_console_shows_holds_text(world):
    """Nor does the console tell anything to keys of tenants."""
    platform = world.platform
    known = {journey["id"] for journey in platform.admin("/api/journeys?limit=500")}
    paths = [
        "/api/platform", "/api/replicas", "/api/journeys?limit=500", "/api/ledger", "/api/ledger?group=tenant",
        "/api/ledger?group=key", "/metrics", "/readyz?verbose", "/openapi.json", "/", "/journeys", "/fleet",
    ]  # fmt: skip
    paths += [f"/api/journeys/{journey}" for journey in sorted(known)]
    for path in paths:
        status, headers, body = _console(platform, path, platform.key)
        assert status in (200, 307), (path, status)
        assert not _found(world.canaries, headers + body), path
    for tenant in world.tenants:
        mine = next(journey for journey in tenant.ids if journey in known)
        for path in ("/api/journeys", f"/api/journeys/{mine}", "/api/ledger", "/api/replicas", "/api/session"):
            assert _console(platform, path, tenant.secret)[0] in (401, 403), path


def _console(platform, path: str, key: str) -> tuple[int, bytes, bytes]:
    parts = urllib.parse.urlsplit(platform.console_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"})
        reply = connection.getresponse()
        return reply.status, str(reply.getheaders()).encode(), reply.read()
    finally:
        connection.close()


def test_i12_metric_labels_hold_no_text_of_strangers(world):
    """Not even the name of a model that nobody serves."""
    _, _, metrics = _console(world.platform, "/metrics", world.platform.key)
    assert b"underlay_" in metrics
    own = [word for t in world.tenants for word in (t.name, t.named, t.secret, t.key.id)]
    assert not _found([*world.canaries, *own], metrics)


def test_no_secret_is_written_down(world):
    for path in [*world.platform.data_dir.rglob("*"), world.platform.log]:
        if path.is_file() and path.name != "local.key":
            data = path.read_bytes()
            assert not [t.name for t in world.tenants if t.secret.encode() in data], path


def test_i13_the_same_prompt_of_two_tenants_shares_no_beginning(world):
    """The engines' caches are looked up by tenant: what a desk knows of one's prompts says nothing of another's."""
    same = "The same long beginning, word for word, whoever asks. " * 20
    for tenant in world.tenants[:2]:
        body = {"model": "m", "messages": [{"role": "user", "content": same}], "max_tokens": 2}
        assert tenant.post("/v1/chat/completions", body).status == 200
    replayed = _replayed(world.platform)
    pair = [arrived for arrived in replayed if len(arrived.blocks) >= 8][-2:]
    assert pair[0].blocks[:8] == pair[1].blocks[:8], "equal text has equal digests: the salt is the chain's"
    for tenant in world.tenants[:2]:
        journey = eventually(lambda t=tenant: _journey(world.platform, t.ids[-1]))
        (routed,) = [hop["why"] for hop in journey["hops"] if hop["name"] == "routing"]
        assert "warm" not in routed or "none warm" in routed, routed


def _journey(platform, request_id: str) -> dict | None:
    try:
        return platform.journey(request_id)
    except AssertionError:
        return None


def _replayed(platform) -> list[Arrived]:
    def read() -> list[Arrived]:
        (path,) = Path(platform.data_dir / "journal").glob("*.journal")
        return [e.event for e, _ in journal.decode(path.read_bytes())[1] if isinstance(e.event, Arrived)]

    return eventually(lambda: [a for a in read() if len(a.blocks) >= 8][1:] and read())


def test_i15_a_revoked_key_loses_its_open_streams_and_nobody_else_does(world):
    platform = world.platform
    doomed = Tenant(platform, "doomed")
    wait_known(platform, doomed.key)
    neighbour = world.tenants[0]
    with Client(platform.address) as mine, Client(platform.address) as theirs:
        for client, tenant in ((mine, doomed), (theirs, neighbour)):
            body = DIALECTS[0].body(f"{tenant.said} [[tokens=120 itl=20 tag={tenant.heard}]]", stream=True)
            client.send(request(DIALECTS[0].path(True), body, key=tenant.secret))
            client.until(b"answer2")
        _revoke(platform, doomed)
        cut, whole = mine.answer(), theirs.answer()
    assert not cut.whole
    assert b"invalid_api_key" in cut.body
    assert whole.whole
    assert not _found([doomed.said, doomed.heard], whole.body)
    assert not _found([neighbour.said, neighbour.heard], cut.body)
    assert doomed.post("/v1/chat/completions", {"model": "m", "messages": []}).status == 401


def _revoke(platform, tenant: Tenant) -> None:
    with Store(platform.data_dir) as store:
        keyring.revoke(store, tenant.key.id, time.time())


def test_the_journal_of_all_this_replays(world):
    platform = world.platform
    platform.wait_idle()
    eventually(lambda: not platform.admin("/api/platform")["open_requests"])
    (path,) = Path(platform.data_dir / "journal").glob("*.journal")
    report = replay(path)
    assert report.equal, report.first_difference
