"""The gateway with a real desk and a scripted engine in one process: what each tells the other, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from tests.live.wire import DIALECTS, Client, frames, http
from tests.support.scripted import Script, ScriptedEngine, words

from underlay.control.effects import Admitted, Hold, Replay
from underlay.control.events import Arrived, KeyChanged, ReplicaSeen
from underlay.domain.answer import ModelCard
from underlay.domain.keys import Key, Limits
from underlay.domain.policy import DeskSettings, ModelPolicy
from underlay.live import journal_file, keyring
from underlay.live.driver import Driver
from underlay.live.engines import adapter_for
from underlay.live.gateway.blocks import Digests
from underlay.live.gateway.listener import Gateway
from underlay.live.gateway.shelf import Shelf
from underlay.live.settings import EngineSettings, ModelSettings, PublicSettings
from underlay.live.store import Store
from underlay.live.store_writer import StoreWriter

PUBLIC = PublicSettings(port=0, hold_headers_s=0.3, keepalive_s=0.3)
CHAT = "/v1/chat/completions"
by_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


class Place:
    """A gateway that listens, with one replica; ``seen`` holds events and effects as the desk had them."""

    def __init__(self, driver, gateway, engine, address, journeys):
        self.driver, self.gateway, self.engine, self.address = driver, gateway, engine, address
        self.journeys = journeys
        self.seen = []
        self.secrets = {}
        handle = driver.desk.handle

        def watched(event):
            effects = handle(event)
            self.seen += [event, *effects]
            return effects

        driver.desk.handle = watched
        self.key = self.let_in("ann", "acme")

    def let_in(self, name, tenant, **more):
        secret = keyring.mint()
        key = Key(f"key_{name}", keyring.digest(secret), tenant, name=name, **more)
        self.driver.submit(KeyChanged(at=self.driver.now(), key=key))
        return secret

    def all(self, kind):
        return [thing for thing in self.seen if isinstance(thing, kind)]

    async def post(self, path, body, *, key="", **headers):
        def send():
            with Client(self.address) as client:
                head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
                return client.send(http(path, body, key=key or self.key, head=head)).answer()

        return await asyncio.to_thread(send)

    async def ask(self, dialect, text, *, stream=True, **headers):
        return await self.post(dialect.path(stream), dialect.body(text, stream=stream), **headers)

    async def eventually(self, what):
        async with asyncio.timeout(5):
            while not what():  # noqa: ASYNC110  (it is about states, which tell nobody)
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def opened(folder, slots=4, **desk):
    engine = ScriptedEngine(Script(slots=8, tokens=4))
    await engine.start()
    model = ModelSettings(
        name="m", engine=EngineSettings(addresses=(engine.url,), template="transcript", slots=slots)
    )
    settings = DeskSettings(models=(ModelPolicy("m", 4096),), **desk)
    journeys = []
    with Store(folder), contextlib.closing(StoreWriter(folder)) as writer:
        diary = journal_file.begin(folder, settings, "test", 1000.0)
        adapters = {"m": (adapter_for(model), model.engine)}
        driver = Driver(settings, diary, writer, adapters, lambda journey, _: journeys.append(journey))
        driver.place("r", (engine.host, engine.port))
        driver.submit(ReplicaSeen(at=driver.now(), replica="r", model="m", slots=slots))
        shelf, digests = Shelf(driver.clock), Digests(b"k" * 32)
        gateway = Gateway(PUBLIC, driver, [ModelCard("m", 1, 4096)], shelf, lambda: (True, []), frozenset, digests)
        address = await gateway.listen()
        try:
            yield Place(driver, gateway, engine, address, journeys)
        finally:
            gateway.stop_accepting()
            gateway.close()
            driver.close()
            diary.close()
            await engine.stop()
            await asyncio.sleep(0.01)  # sockets are closed in the loop's next round


@pytest.fixture
async def place(tmp_path):
    async with opened(tmp_path) as place:
        yield place
        driver = place.driver
        driver.desk.check()
        assert not driver.exchanges


def chat(text="hi", **fields):
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


# What the desk is told.


async def test_the_desk_is_told_how_the_prompt_begins_but_not_what_it_says(place):
    await place.post(CHAT, chat("x" * 500))
    longer = chat("x" * 500)
    longer["messages"] += [{"role": "assistant", "content": "y" * 300}]
    await place.post(CHAT, longer)
    one, other = (arrived.blocks for arrived in place.all(Arrived))
    assert (len(one), len(other)) == (3, 6)
    assert one == other[:3]


async def test_the_desk_is_told_session_band_and_deadline(place):
    await place.post(CHAT, chat(prompt_cache_key="c", service_tier="flex"))
    await place.post(CHAT, chat(), x_session_id="c", x_underlay_band="batch", x_underlay_deadline_ms="2500")
    other = place.let_in("bob", "other")
    await place.post(CHAT, chat(prompt_cache_key="c"), key=other)
    await place.post(CHAT, chat())
    by_field, by_header, of_other, plain = place.all(Arrived)
    assert by_field.session == by_header.session != of_other.session
    assert plain.session == 0
    assert (by_field.band, by_header.band, plain.band) == ("batch", "batch", "")
    assert (by_header.deadline_s, plain.deadline_s) == (2.5, None)
    assert plain.idempotency == ("", "")


async def test_a_chain_of_responses_is_one_session(place):
    ids = []
    for _ in range(3):
        body = {"model": "m", "input": "go on", **({"previous_response_id": ids[-1]} if ids else {})}
        ids.append((await place.post("/v1/responses", body)).json()["id"])
    first, second, third = (arrived.session for arrived in place.all(Arrived))
    assert first == 0 != second == third


@by_dialect
@pytest.mark.parametrize(
    ("header", "value"),
    [("x-underlay-band", "urgent"), ("x-underlay-deadline-ms", "soon"), ("idempotency-key", "x" * 256)],
)
async def test_a_header_that_makes_no_sense_is_refused_by_name(place, dialect, header, value):
    answer = await place.ask(dialect, "hi", **{header: value})
    assert answer.status == 400
    assert header in answer.body.decode().lower()
    assert not place.all(Arrived)


# Asking twice.


@by_dialect
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_the_same_request_under_the_same_key_gets_the_same_bytes_and_costs_nothing(place, dialect, stream):
    first = await place.ask(dialect, "hi", stream=stream, idempotency_key="k1")
    second = await place.ask(dialect, "hi", stream=stream, idempotency_key="k1")
    assert first.status == second.status == 200
    assert second.body == first.body
    assert dialect.read(frames(second.body)).text == words(4).strip()
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert place.engine.counters.requests_total == 1
    assert [journey.outcome for journey in place.journeys] == ["finished", "replayed"]
    assert place.journeys[1].money_usd == "0"
    assert place.journeys[1].tenant == "acme"


async def test_replays_can_be_replayed(place):
    answers = [await place.post(CHAT, chat(), idempotency_key="k") for _ in range(3)]
    assert len({answer.body for answer in answers}) == 1
    assert len({effect.original for effect in place.all(Replay)}) == 1


async def test_another_request_under_the_same_key_is_a_conflict_that_waiting_does_not_mend(place):
    await place.post(CHAT, chat("hi"), idempotency_key="k")
    answer = await place.post(CHAT, chat("ho"), idempotency_key="k")
    assert answer.status == 409
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers


async def test_a_second_while_the_first_runs_is_told_to_come_back(place):
    running = asyncio.create_task(place.post(CHAT, chat("[[tokens=20 itl=20]]"), idempotency_key="k"))
    await place.eventually(lambda: place.driver.exchanges)
    answer = await place.post(CHAT, chat("[[tokens=20 itl=20]]"), idempotency_key="k")
    assert answer.status == 409
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("1", "true")
    assert (await running).status == 200


async def test_somebody_else_may_use_the_same_key(place):
    other = place.let_in("bob", "other")
    await place.post(CHAT, chat("[[tag=acme]]"), idempotency_key="k")
    answer = await place.post(CHAT, chat("[[tag=acme]]"), key=other, idempotency_key="k")
    assert "idempotent-replayed" not in answer.headers
    assert place.engine.counters.requests_total == 2


async def test_an_answer_that_is_not_kept_is_not_made_up(place):
    await place.post(CHAT, chat(), idempotency_key="k")
    place.gateway._replies._drawers.clear()
    answer = await place.post(CHAT, chat(), idempotency_key="k")
    assert answer.status == 409
    assert "not kept" in answer.json()["error"]["message"]
    assert place.journeys[-1].outcome == "refused"
    assert place.engine.counters.requests_total == 1


async def test_a_failed_answer_is_not_given_again(place):
    broken = await place.post(CHAT, chat("[[status=400]]", stream=True), idempotency_key="k")
    assert broken.status != 200
    again = await place.post(CHAT, chat("[[status=400]]", stream=True), idempotency_key="k")
    assert "idempotent-replayed" not in again.headers
    assert len(place.engine.bodies) == 2 or place.engine.counters.requests_total >= 2


async def test_prompts_and_keys_are_in_no_journal(place, tmp_path):
    body = chat("canary-text" * 30, prompt_cache_key="canary-session")
    await place.post(CHAT, body, idempotency_key="canary-key")
    place.driver.journal.flush()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"canary" not in kept


# Waiting.


@pytest.fixture
async def narrow(tmp_path):
    """One slot, and somebody in it for a second."""
    async with opened(tmp_path, slots=1) as place:
        busy = asyncio.create_task(place.post(CHAT, chat("[[tokens=50 itl=20]]")))
        await place.eventually(lambda: place.driver.exchanges)
        yield place
        await busy
        place.driver.desk.check()


@by_dialect
async def test_who_waits_gets_headers_a_place_and_blank_lines_then_the_answer(narrow, dialect):
    def waits():
        with Client(narrow.address) as client:
            client.send(http(dialect.path(True), dialect.body("hi"), key=narrow.key))
            begun = bytes(client.until(b"\r\n\r\n"))
            client.until(b"1\r\n\n\r\n", 2)
            return begun, client.answer()

    begun, answer = await asyncio.to_thread(waits)
    assert narrow.all(Hold)
    assert b"x-underlay-queue-place: 1\r\n" in begun
    assert answer.whole
    assert answer.body.startswith(b"\n\n")  # nothing but blank lines before the first word: no names, ids, comments
    assert answer.body.lstrip(b"\n")[:6] in (b"data: ", b"event:")
    assert dialect.read(frames(answer.body)).text == words(4).strip()
    hop = next(hop for hop in narrow.journeys[-1].hops if hop.name == "queue")
    assert hop.why.startswith("place 1: ")
    assert hop.duration_ms > 300


@by_dialect
async def test_who_waited_is_told_how_long(narrow, dialect):
    answer = await narrow.ask(dialect, "hi", stream=False)
    assert answer.status == 200
    assert 300 < float(answer.headers["x-underlay-queue-wait-ms"]) < 5000
    assert "x-underlay-queue-place" not in answer.headers


@by_dialect
async def test_silences_in_mid_stream_are_blank_lines(place, dialect):
    answer = await place.ask(dialect, "[[tokens=2 itl=700]]")
    assert b"\n\n\n" in answer.body or b"\r\n\r\n\n" in answer.body
    assert not any(line.startswith((b":", b"id:", b"retry:")) for line in answer.body.splitlines())
    assert dialect.read(frames(answer.body)).text == words(2).strip()


@by_dialect
async def test_a_full_platform_and_a_full_limit_are_told_apart(tmp_path, dialect):
    async with opened(tmp_path, slots=1, waiting_max=1) as place:
        limited = place.let_in("few", "few", limits=Limits(concurrent=1))
        running = asyncio.create_task(place.post(CHAT, chat("[[tokens=40 itl=20]]"), key=limited))
        await place.eventually(lambda: place.driver.exchanges)
        yours = await place.ask(dialect, "hi", key=limited)
        waiting = asyncio.create_task(place.post(CHAT, chat()))
        await place.eventually(lambda: place.all(Hold))
        ours = await place.ask(dialect, "hi")
        assert (yours.status, ours.status) == (429, {"anthropic": 529}.get(dialect.name, 503))
        assert yours.headers["x-underlay-reason"] == "rate_limit_exceeded"
        assert ours.headers["x-underlay-reason"] == "overloaded"
        assert int(yours.headers["retry-after"]) >= 1
        assert int(ours.headers["retry-after"]) >= 1
        assert ours.headers["x-should-retry"] == "true"
        await running
        await waiting


async def test_the_reply_names_the_tier_that_was_asked_for(place):
    whole = await place.post(CHAT, chat(service_tier="flex"))
    assert whole.json()["service_tier"] == "flex"
    assert whole.headers["x-underlay-band"] == "batch"
    streamed = await place.post(CHAT, chat(service_tier="flex", stream=True))
    assert {frame["service_tier"] for frame in frames(streamed.body)} == {"flex"}
    assert place.all(Admitted)


async def test_json_of_a_replay_is_json(place):
    await place.post("/v1/completions", {"model": "m", "prompt": "hi"}, idempotency_key="k")
    again = await place.post("/v1/completions", {"model": "m", "prompt": "hi"}, idempotency_key="k")
    assert json.loads(again.body)["object"] == "text_completion"


async def test_what_is_left_of_a_deadline_goes_on_to_the_engine(tmp_path):
    async with opened(tmp_path) as place:
        told = []
        call = place.driver.pool.call
        place.driver.pool.call = lambda *args: (told.append(args[3]), call(*args))[1]
        await place.ask(DIALECTS[0], "quick", x_underlay_deadline_ms=8000)
        await place.ask(DIALECTS[0], "whenever")
    assert 1 <= int(told[0].split(b"x-underlay-deadline-ms: ")[1].split(b"\r\n")[0]) <= 8000
    assert b"deadline" not in told[1]
