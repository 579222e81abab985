"""Joules in replies, and the record of a request that its own tenant reads, and nobody else."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from tests.live.test_energy import Accounts
from tests.live.wire import DIALECTS, http
from tests.support.inside import Line, inside

from underlay.control.events import KeyChanged
from underlay.domain.keys import Key
from underlay.live import keyring
from underlay.live.gateway import records
from underlay.live.gateway.records import Records

UNKNOWN = "req_" + "0" * 24


async def reply(place, data):
    """The status, the headers and the JSON of one reply."""
    line = Line(place).send(data)
    await asyncio.wait_for(line.over.wait(), 5)
    head, _, body = line.got.partition(b"\r\n\r\n")
    first, *rest = head.decode().splitlines()
    headers = {name.lower(): value for name, value in (header.split(": ", 1) for header in rest)}
    return int(first.split()[1]), headers, json.loads(body) if body else None


def asked(place, text="[[tokens=20 itl=2]]", head=""):
    body = DIALECTS[0].body(text, stream=False)
    return http(DIALECTS[0].path(False), body, key=place.secret, head=f"Connection: close\r\n{head}")


def read(place, request_id, *, key="", method="GET", head=""):
    path = f"/v1/requests/{request_id}/energy"
    return http(path, key=key or place.secret, method=method, head=f"Connection: close\r\n{head}")


def other_key(place, tenant):
    secret = keyring.mint()
    place.driver.submit(KeyChanged(at=place.driver.now(), key=Key(f"key_{tenant}", keyring.digest(secret), tenant)))
    return secret


async def metered(books, place):
    """Ask until the step model has learnt, so that replies know joules."""
    while True:
        waiting = asyncio.ensure_future(reply(place, asked(place)))
        await books.go_on(waiting.done)
        status, headers, body = waiting.result()
        assert status == 200
        place.journeys.update(books.journeys)
        if body["usage"]["energy"]["joules"] is not None:
            return headers, body
        closed = books.energy._closed
        await books.go_on(lambda closed=closed: books.energy._closed > closed + 3)


async def test_a_reply_is_provisional_and_its_record_settles(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        place.driver.energy_of = books.energy.so_far
        headers, body = await metered(books, place)
        told = body["usage"]["energy"]
        assert headers["x-underlay-energy-joules"] == str(told["joules"])
        assert told["receipt"] == headers["x-request-id"]
        assert told["status"] == "provisional"
        await books.go_on(lambda: told["receipt"] in books.settled)
        place.journeys.update(books.settled)
        status, _, record = await reply(place, read(place, told["receipt"]))
        assert (status, record["status"]) == (200, "settled")
        assert record["joules"] == pytest.approx(books.settled[told["receipt"]].energy.joules)
        assert record["price_usd"]
        assert "cost" not in record
        mate = other_key(place, "acme")
        assert (await reply(place, read(place, told["receipt"], key=mate)))[2] == record
        status, headers, nothing = await reply(place, read(place, told["receipt"], method="HEAD"))
        assert (status, nothing) == (200, None)
        assert headers["content-type"] == "application/json"


async def test_nobody_learns_whether_another_s_request_exists(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        place.driver.energy_of = books.energy.so_far
        _, body = await metered(books, place)
        mine = body["usage"]["energy"]["receipt"]
        await books.go_on(lambda: mine in books.settled)
        place.journeys.update(books.settled)
        stranger = other_key(place, "globex")
        answers = [
            await reply(place, read(place, name, key=stranger)) for name in (mine, UNKNOWN, "req_1", "..%2f")
        ]
        assert [status for status, _, _ in answers] == [404] * 4
        assert answers[0][2]["error"]["param"] == "request_id"
        assert answers[0][2] == answers[1][2] == answers[2][2]
        (status, _, body) = await reply(place, read(place, mine, key="sk-none"))
        assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        status, headers, _ = await reply(place, read(place, mine, method="DELETE"))
        assert (status, headers["allow"]) == (405, "GET, HEAD")


async def test_an_error_takes_the_shape_that_the_caller_s_headers_ask_for(tmp_path):
    async with inside(tmp_path) as place:
        for head, found in (("anthropic-version: 1\r\n", "type"), ("x-goog-api-client: x\r\n", "status")):
            status, _, body = await reply(place, read(place, UNKNOWN, head=head))
            assert status == 404
            assert found in body["error"]


async def test_without_a_meter_nothing_is_said_and_nothing_found(tmp_path):
    async with inside(tmp_path) as place:
        status, headers, body = await reply(place, asked(place))
        assert (status, "energy" in body["usage"]) == (200, False)
        assert "x-underlay-energy-joules" not in headers
        assert headers["x-request-id"] in place.journeys
        assert (await reply(place, read(place, headers["x-request-id"])))[0] == 404


async def test_a_reply_that_is_given_again_tells_the_first_one_s(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        place.driver.energy_of = books.energy.so_far
        await metered(books, place)
        again = asked(place, head="Idempotency-Key: k\r\n")
        first, second = await reply(place, again), await reply(place, again)
        assert second[1]["idempotent-replayed"] == "true"
        assert second[2] == first[2]
        assert second[2]["usage"]["energy"]["receipt"] == first[1]["x-request-id"]
        assert "x-underlay-energy-joules" not in second[1]  # it took none


async def test_a_slow_store_keeps_no_token_waiting_and_look_ups_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "LOOKUPS_MAX", 3)
    async with inside(tmp_path) as place:
        go_on = threading.Event()
        place.gateway._records = Records(place.driver.loop, lambda _: go_on.wait(5) and None)
        waiting = [asyncio.ensure_future(reply(place, read(place, UNKNOWN))) for _ in range(3)]
        await asyncio.sleep(0)
        assert (await reply(place, asked(place)))[0] == 200
        status, headers, _ = await reply(place, read(place, UNKNOWN))
        assert (status, headers["retry-after"]) == (503, "1")
        gone = Line(place)
        go_on.set()
        assert [status for status, _, _ in await asyncio.gather(*waiting)] == [404] * 3
        gone.send(read(place, UNKNOWN)).snap()
        assert (await reply(place, read(place, UNKNOWN)))[0] == 404
        assert gone.got == b""
        assert place.gateway._records._open == 0


async def test_a_store_that_fails_is_a_defect_of_ours(tmp_path):
    async with inside(tmp_path) as place:

        def broken(_):
            raise OSError("no disk")

        place.gateway._records = Records(place.driver.loop, broken)
        status, _, body = await reply(place, read(place, UNKNOWN))
        assert status == 500
        assert "no disk" not in json.dumps(body)
