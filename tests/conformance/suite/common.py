"""What the cases of all SDKs share. Standard library and pytest only: the previous majors have nothing else.

Each case is written once, as a coroutine function. For the synchronous client it is driven without any event
loop (nothing in it ever waits); for the asynchronous one it runs in asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import inspect
import json
import os
import secrets
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

URL = os.environ["UNDERLAY_TEST_URL"]
CONSOLE = os.environ["UNDERLAY_TEST_CONSOLE"]
KEY = os.environ["UNDERLAY_TEST_KEY"]
MODEL = os.environ["UNDERLAY_TEST_MODEL"]
KEYS_COMMAND = json.loads(os.environ.get("UNDERLAY_TEST_KEYS_COMMAND", "[]"))

# Keys beside KEY: "poor" may use another model only, "revoked" is, "single" may have one request open, "rare" may
# ask once a minute, "metered" a thousand times; "doomed" are pairs of a secret and its id, to be revoked, one for each way of calling.
KEYS = json.loads(os.environ.get("UNDERLAY_TEST_KEYS", "{}"))

# The models of the platform that is under test, beside MODEL, which has two replicas.
REMOTE = "remote"  # behind an OpenAI-compatible server
LONELY = "lonely"  # one replica, a small context
BUSY = "busy"  # one replica with one slot
MORTAL = "mortal"  # one replica, which dies when told
VECTORS = "vectors"  # embeddings

DIMENSIONS = 8


def mistyped(key: str) -> str:
    """The key with another last letter than its own."""
    return key[:-1] + ("x" if not key.endswith("x") else "y")


def word(index: int) -> str:
    """The text of token number ``index`` of every scripted answer."""
    return f" éw{index}" if index % 7 == 3 else f" 😀w{index}" if index % 11 == 5 else f" w{index}"


def words(count: int) -> str:
    return "".join(word(index) for index in range(count)).strip()


class Api:
    """One way of calling: ``mode`` is sync or async. Clients are shared by cases, as their users share them."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.is_async = mode == "async"
        self._runner = asyncio.Runner()
        self._clients: dict[str, object] = {}

    def either(self, sync, asynchronous):
        return asynchronous if self.is_async else sync

    def shared(self, make, **options):
        """The client made of these options."""
        name = repr((make, sorted(options.items())))
        if name not in self._clients:
            self._clients[name] = make(**options)
        return self._clients[name]

    def keep(self, client):
        """Close this client at the end, too."""
        self._clients[repr(id(client))] = client
        return client

    def run(self, case) -> None:
        if self.is_async:
            self._runner.run(asyncio.wait_for(case, 40))
            return
        try:
            case.send(None)
        except StopIteration:
            return
        raise AssertionError("a synchronous case waited for an event loop")

    def close(self) -> None:
        self.run(self._close())
        self._runner.close()

    async def _close(self) -> None:
        for client in self._clients.values():
            closing = getattr(client, "aclose", None) if self.is_async else None
            await call(closing or client.close)


async def call(function, *args, **kwargs):
    """Call and, if that gives something to wait for, wait."""
    result = function(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


class each:  # noqa: N801
    """``async for`` over what a synchronous or an asynchronous client returned."""

    def __init__(self, stream) -> None:
        self._stream = stream.__aiter__() if hasattr(stream, "__aiter__") else iter(stream)

    def __aiter__(self):
        return self

    async def __anext__(self):
        if hasattr(self._stream, "__anext__"):
            return await self._stream.__anext__()
        try:
            return next(self._stream)
        except StopIteration:
            raise StopAsyncIteration from None


async def gathered(stream) -> list:
    return [item async for item in each(stream)]


class entered:  # noqa: N801
    """``async with`` over a synchronous or an asynchronous context manager."""

    def __init__(self, manager) -> None:
        self._manager = manager
        self._async = hasattr(manager, "__aenter__")

    async def __aenter__(self):
        return await self._manager.__aenter__() if self._async else self._manager.__enter__()

    async def __aexit__(self, *failure):
        if self._async:
            return await self._manager.__aexit__(*failure)
        return self._manager.__exit__(*failure)


# The platform as its operator sees it.


def trace() -> str:
    """A trace id of our own, by which the journeys of one call are found again, retries included."""
    return secrets.token_hex(16)


def traced(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}


def admin(path: str):
    request = urllib.request.Request(CONSOLE + path, headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def get(path: str, headers: dict[str, str]):
    """Read something from the public listener, where a client has no call for it."""
    return _public(urllib.request.Request(URL + path, headers=headers))


def post(path: str, body: dict, headers: dict[str, str]):
    """Ask the public listener, and see what a client leaves out."""
    return _public(urllib.request.Request(URL + path, json.dumps(body).encode(), headers))


def _public(request: urllib.request.Request):
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def journeys(trace_id: str, count: int = 1) -> list[dict]:
    """The journeys of a trace, once there are ``count`` of them."""
    until = time.monotonic() + 3
    while True:
        found = [j for j in admin("/api/journeys?limit=200") if j["trace_id"] == trace_id]
        if len(found) >= count or time.monotonic() > until:
            return found
        time.sleep(0.03)


async def freed(api: Api, model: str, limit_s: float = 1.0) -> None:
    """Wait until no replica of a model has anything to do."""
    until = time.monotonic() + limit_s
    while load(model):
        assert time.monotonic() < until, "a slot is still in use"
        if api.is_async:
            await asyncio.sleep(0.01)


def load(model: str) -> int:
    return sum(row["load"] for row in admin("/api/replicas") if row["model"] == model)


def revoke(key_id: str) -> None:
    """End a key; the platform learns of it within half a second."""
    command = [*KEYS_COMMAND, "revoke", key_id, "--data-dir", os.environ["UNDERLAY_TEST_DATA_DIR"]]
    subprocess.run(command, capture_output=True, check=True, timeout=30)


@contextlib.contextmanager
def occupied(model: str, key: str = KEY, *, waiting: int = 0):
    """Hold every slot of a model that has one, with ``waiting`` more in line behind."""
    connections = [_ask(model, key)]
    assert connections[0].getresponse().status == 200
    try:
        connections += [_ask(model, key) for _ in range(waiting)]
        until = time.monotonic() + 3
        while waiting and admin("/api/platform")["waiting"] < waiting:
            assert time.monotonic() < until
            time.sleep(0.02)
        yield
    finally:
        for connection in connections:
            connection.close()
        until = time.monotonic() + 3
        while load(model):
            assert time.monotonic() < until
            time.sleep(0.02)


def silence(text: str) -> list[bytes]:
    """What the platform sends, chunk by chunk, from the head of a stream to its first event."""
    connection = _ask(MODEL, KEY, text)
    try:
        reply = connection.getresponse()
        chunks = [reply.read1()]
        while not chunks[-1].startswith(b"data:"):
            chunks.append(reply.read1())
        return chunks[:-1]
    finally:
        connection.close()


def _ask(model: str, key: str, text: str = "[[tokens=2000 itl=20]]") -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(URL).netloc, timeout=30)
    message = {"role": "user", "content": text}
    body = json.dumps({"model": model, "messages": [message], "stream": True})
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    return connection


def check_energy(energy: dict) -> dict:
    """What a reply says of joules, and where the rest is read."""
    assert energy["joules"] > 0 and energy["uncertainty_joules"] > 0
    assert energy["method"] in ("modelled", "assumed")  # never measured: the last window is still open
    assert energy["status"] == "provisional"
    assert energy["boundary"]
    assert energy["record"] == f"/v1/requests/{energy['receipt']}/energy"
    return energy


def check_record(record: dict, energy: dict) -> None:
    """What is read afterwards is of the same request, and says nothing of what it cost whoever runs the platform."""
    assert (record["id"], record["object"]) == (energy["receipt"], "request.energy")
    assert record["status"] in ("provisional", "settled")
    assert record["joules"] == pytest.approx(sum(j for a, j in record["accounts"].items() if a != "overhead"))
    assert {f["unit"] for f in record["carbon"].values()} == {"gCO2e"}
    assert float(record["price_usd"]) > 0
    assert not {"cost", "margin"} & record.keys()


# Each breaks an answer after its third token, in a way of its own.
CUTS = ("reset", "close", "cut", "malformed", "error")

# Break an answer, and once more where another engine goes on; no third one is asked.
TWICE = ("reset=3 close=6", "close=3 cut=6", "cut=3 malformed=6", "malformed=3 error=6", "reset=3 error=6")


def mortal_again() -> None:
    """Wait until the engine that dies when told has been started again, and is known to be well."""
    until = time.monotonic() + 15
    while True:
        rows = [row for row in admin("/api/replicas") if row["model"] == MORTAL]
        with contextlib.suppress(OSError):
            urllib.request.urlopen(os.environ["UNDERLAY_TEST_MORTAL"] + "/health", timeout=5).close()
            if all(row["state"] == "ready" for row in rows):
                return
        assert time.monotonic() < until, rows
        time.sleep(0.05)
