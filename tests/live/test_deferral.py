"""Requests that can wait, on a real platform: held with their stream open, begun in time, told why."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from tests.live.test_drain import find
from tests.live.wire import Client, engines, eventually, http, model
from tests.support.platform import running_platform

HOUR_S = 3600.0
QUICK = {"hold_headers_s": 0.3, "keepalive_s": 0.2}


def hours_of(now_s: float) -> list[float]:
    """Electricity is dirty now and in the next hour, should that begin meanwhile; then it is clean."""
    this = int(now_s // HOUR_S) % 24
    return [400.0 if hour in (this, (this + 1) % 24) else 100.0 for hour in range(24)]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with engines(1, slots=1) as (engine,):
        settings = {
            "public": QUICK,
            "models": [model([engine.url], slots=1)],
            "desk": {"deferral": "carbon", "deferral_margin_s": 1},
            "site": {"carbon_by_hour": hours_of(time.time())},
        }
        with running_platform(tmp_path_factory.mktemp("deferral"), settings) as platform:
            yield platform, engine


def body(text: str, *, stream: bool = True) -> dict:
    return {"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}


def test_it_is_held_with_its_stream_open_and_its_journey_says_why(house):
    platform, _ = house
    data = http("/v1/chat/completions", body("[[tokens=3]]"), key=platform.key, head="x-underlay-defer: 8h\r\n")
    with Client(platform.address) as client:
        client.send(data)
        seen = client.until(b"\n\r\n", 4)  # its head, and a few blank lines
        assert b"200" in seen.split(b"\r\n")[0]
        assert platform.admin("/api/platform")["waiting"] == 1
        quick = platform.ask("POST", "/v1/chat/completions", body("[[tokens=3]]", stream=False))
        assert quick.status == 200, "nobody waits behind it"
    request_id = next(
        line.partition(b": ")[2].decode()
        for line in seen.split(b"\r\n")
        if line.lower().startswith(b"x-request-id")
    )
    journey = eventually(lambda: find(platform, request_id))
    (hop,) = [hop for hop in journey["hops"] if hop["name"] == "queue"]
    assert "deferrable: 100 g/kWh in" in hop["why"]
    assert "held until then" in hop["why"]
    platform.wait_idle()


def test_it_begins_in_time_though_there_was_no_room(house):
    platform, engine = house
    client = openai.OpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0)

    def wait():
        return client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "[[tokens=3]]"}],
            extra_headers={"x-underlay-defer": "6s"},
        )

    with ThreadPoolExecutor(2) as callers:
        busy = callers.submit(
            platform.ask, "POST", "/v1/chat/completions", body("[[tokens=2 held=0]]", stream=False)
        )
        eventually(engine.held)
        waiting = callers.submit(wait)
        eventually(lambda: platform.admin("/api/platform")["waiting"] == 1)
        engine.go()
        assert busy.result().status == 200
        assert waiting.result().choices[0].finish_reason == "stop"
    platform.wait_idle()


def test_a_time_that_is_none_is_refused_by_name(house):
    platform, _ = house
    for said in ("soon", "2 days", "0s", "25h"):
        reply = platform.ask("POST", "/v1/chat/completions", body("hi"), {"x-underlay-defer": said})
        assert reply.status == 400
        assert "x-underlay-defer" in reply.json()["error"]["message"]


def test_it_begins_when_the_platform_stops(tmp_path):
    with engines(1, slots=1) as (engine,):
        settings = {
            "public": QUICK,
            "models": [model([engine.url], slots=1)],
            "desk": {"deferral": "carbon"},
            "site": {"carbon_by_hour": hours_of(time.time())},
        }
        with running_platform(tmp_path, settings) as platform:
            said = {"x-underlay-defer": "8h"}
            with ThreadPoolExecutor(1) as callers:
                waiting = callers.submit(
                    platform.ask, "POST", "/v1/chat/completions", body("[[tokens=3]]", stream=False), said
                )
                eventually(lambda: platform.admin("/api/platform")["waiting"] == 1)
                assert platform.stop(20.0) == 0
                assert waiting.result().status == 200
