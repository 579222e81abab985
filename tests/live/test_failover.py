"""An engine dies in mid-answer: the caller gets the same bytes all the same, or hears plainly that it does not."""

from __future__ import annotations

import json
import string
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import pytest
from tests.live.wire import DIALECTS, Client, Engine, Line, ask, engines, eventually, frames, http, model
from tests.support.platform import running_platform
from tests.support.scripted import words

from underlay.twin.replay import replay

QUICK = {
    "public": {"hold_headers_s": 1.5, "keepalive_s": 0.3},
    "desk": {"strikes_max": 1000, "wait_max_s": 4, "retry_share": 1.0},
}
by_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


class House:
    """A platform on scripted engines, with lines between them that can break."""

    def __init__(self, platform, replicas: list[Engine], lines: list[Line]) -> None:
        self.platform, self.replicas, self.lines = platform, replicas, lines

    def whole_again(self) -> None:
        for replica in self.replicas:
            replica.restart()
            replica.fault("none", 0)
        for line in self.lines:
            line.breaks.clear()

        def ready():
            rows = self.platform.admin("/api/replicas")
            rows = rows["replicas"] if isinstance(rows, dict) else rows
            return all(row["state"] == "ready" for row in rows)

        eventually(ready, 10)
        self.platform.wait_idle()

    def fault(self, kind: str, after: int, tag: str, times: int = 1) -> None:
        """The request of this tag meets the fault twice, once on each replica, and then no more."""
        for replica in self.replicas:
            replica.fault(kind, after, times, tag)

    def ask_at_once(
        self, cases: Iterable[tuple[Any, Any]], make: Callable[[Any, str], dict[str, Any]]
    ) -> list[Any]:
        """Ask for every pair of dialect and case at the same time; what was asked and said, under which tag.

        ``make`` gives what to ask, of a case and a tag of its own. Side by side, as most of such an answer is a
        pause: whom every replica has failed goes to one of them again half a second later.
        """

        def one(dialect: Any, case: Any, tag: str) -> tuple[Any, ...]:
            return dialect, case, tag, *ask(self.platform, dialect, **make(case, tag))

        tagged = [(*pair, tag) for pair, tag in zip(cases, string.ascii_letters, strict=False)]
        with ThreadPoolExecutor(len(tagged)) as pool:
            return list(pool.map(lambda wanted: one(*wanted), tagged))

    def journey(self, answer) -> dict:
        return eventually(lambda: self._find(answer.headers["x-request-id"]))

    def story(self, answer) -> str:
        """What happened to the request and to the replicas, for a failing test."""
        hops = [
            f"{hop['start_ms']} {hop['name']} {hop['who']}: {hop['why']}" for hop in self.journey(answer)["hops"]
        ]
        return "\n".join([*hops, *self.platform.log.read_text().splitlines()[-12:]])

    def _find(self, request_id: str) -> dict | None:
        try:
            return self.platform.journey(request_id)
        except AssertionError:  # the reply's last byte may be here before the journey is told
            return None

    def charges(self, request_id: str) -> list[dict]:
        rows = self.platform.admin("/api/ledger?by=request")
        rows = rows["rows"] if isinstance(rows, dict) else rows
        return [row for row in rows if row["request_id"] == request_id]


@pytest.fixture(scope="module", params=["llamacpp", "openai"])
def house(request, tmp_path_factory):
    with engines(2, mortal=True, slots=32, model="m") as replicas:
        lines = [Line(replica) for replica in replicas]
        more = {"template": "transcript"} if request.param == "llamacpp" else {}  # token ids, or text
        urls = [line.url for line in lines]
        engine = model(urls, request.param, stall_s=0.6, slots=32, probe_s=0.1, probe_strikes=30, **more)
        settings = {**QUICK, "models": [engine]}
        with running_platform(tmp_path_factory.mktemp(request.param), settings) as platform:
            house = House(platform, replicas, lines)
            house.kind = request.param
            house.whole_again()
            yield house
            house.whole_again()
        for line in lines:
            line.close()
        replay_all(platform)


def replay_all(platform) -> None:
    for path in (platform.data_dir / "journal").glob("*.journal"):
        report = replay(path)
        assert report.equal, report.first_difference
        assert report.open_tickets == 0


@pytest.fixture(autouse=True)
def _healed(request):
    if "house" in request.fixturenames:
        request.getfixturevalue("house").whole_again()


def check(house, dialect, answer, said, *, tokens: int, text: str, finish: str, attempts: int = 2) -> None:
    """The answer is what it would have been, counted and billed once, and the journey tells what happened."""
    assert answer.status == 200, answer
    assert answer.whole, house.story(answer)
    assert said.error is None
    assert said.text.lstrip() == text.lstrip()
    assert said.finish == finish
    assert said.completion_tokens == tokens
    journey = house.journey(answer)
    assert journey["attempts"] == attempts, house.story(answer)
    assert journey["outcome"] == "finished"
    assert journey["usage"]["completion_tokens"] == tokens
    if attempts > 1:
        whys = [hop["why"] for hop in journey["hops"] if hop["name"] == "routing"]
        assert "it goes on from exactly what was delivered" in whys[1] or "starts afresh" in whys[1], whys
        assert any("attempt 1 failed" in hop["why"] or "lost" in whys[1] for hop in journey["hops"]), journey
    eventually(lambda: len(house.charges(answer.headers["x-request-id"])) == 1)


def test_undisturbed(house):
    for dialect in DIALECTS:
        for stream in (True, False):
            answer, said = ask(house.platform, dialect, "[[tokens=30]]", stream=stream)
            check(house, dialect, answer, said, tokens=30, text=words(30), finish=dialect.stopped, attempts=1)


def ready(platform):
    listed = platform.admin("/api/replicas")
    rows = listed["replicas"] if isinstance(listed, dict) else listed
    return sum(row["state"] == "ready" for row in rows)


@by_dialect
@pytest.mark.parametrize("after", [1, 4, 6, 17])
def test_kill_9_of_the_engine_in_mid_stream_is_not_noticed(house, dialect, after):
    eventually(lambda: ready(house.platform) == len(house.replicas), 20)  # the one killed before is back
    for replica in house.replicas:  # so that it is still at work when it is killed; a warming must not meet it
        replica.fault("slow", after, tag="killed")
    with Client(house.platform.address) as client:
        body = dialect.body("[[tokens=30 tag=killed]]")
        client.send(http(dialect.path(True), body, key=house.platform.key))
        client.until(b"data: ", after + 1)
        (serving,) = [replica for replica in house.replicas if replica.busy()]
        for replica in house.replicas:
            replica.fault("none", 0)
        serving.kill()
        answer = client.answer()
    said = dialect.read(frames(answer.body))
    check(house, dialect, answer, said, tokens=30, text=words(30, "killed"), finish=dialect.stopped)


@pytest.mark.parametrize("fault", ["reset", "close", "cut", "malformed", "error"])
def test_an_engine_that_fails_in_mid_stream_is_not_noticed(house, fault):
    def make(after, tag):
        house.fault(fault, after, tag)
        return {"text": f"[[tokens=30 itl=1 tag={tag}]]"}

    for dialect, _, tag, answer, said in house.ask_at_once(product(DIALECTS, (0, 1, 4, 6)), make):
        text = words(30, tag)
        check(house, dialect, answer, said, tokens=30, text=text, finish=dialect.stopped, attempts=3)


def test_a_reply_that_does_not_stream_is_made_afresh(house):
    def make(fault, tag):
        house.fault(fault, 7, tag)
        return {"text": f"[[tokens=20 tag={tag}]]", "stream": False}

    for dialect, _, tag, answer, said in house.ask_at_once(product(DIALECTS, ("reset", "cut", "malformed")), make):
        text = words(20, tag)
        check(house, dialect, answer, said, tokens=20, text=text, finish=dialect.stopped, attempts=3)


@by_dialect
def test_a_silent_engine_is_given_up(house, dialect):
    began = time.monotonic()
    answer, said = ask(house.platform, dialect, "[[tokens=20 itl=2 hang=8]]")
    check(house, dialect, answer, said, tokens=20, text=words(20), finish=dialect.stopped)
    assert time.monotonic() - began < 3
    eventually(lambda: sum(replica.busy() for replica in house.replicas) == 0)


def test_a_line_that_breaks_anywhere_even_inside_a_character_changes_nothing(house):
    """Every few bytes of the whole reply, so that some breaks are in the middle of é and of 😀."""
    dialect = DIALECTS[0]
    step = 61 if house.kind == "llamacpp" else 97

    def make(place, tag):
        for line in house.lines:
            line.breaks[tag] = place
        return {"text": f"[[tokens=8 tag={tag}]]"}

    places, broken = range(1, 1600, step), 0
    for _, place, tag, answer, said in house.ask_at_once(product([dialect], places), make):
        assert (answer.status, answer.whole, said.error) == (200, True, None), (place, answer)
        assert said.text.lstrip() == words(8, tag).lstrip(), place
        assert (said.finish, said.completion_tokens) == ("stop", 8), place
        broken += any(tag not in line.breaks for line in house.lines)
    assert broken >= 0.8 * len(places)  # the last ones are behind the end


@by_dialect
@pytest.mark.parametrize("after", [1, 9, 10, 11, 12])
def test_a_limit_of_tokens_holds_across_the_seam(house, dialect, after):
    answer, said = ask(house.platform, dialect, f"[[tokens=40 itl=1 reset={after}]]", max_tokens=12)
    check(house, dialect, answer, said, tokens=12, text=words(12), finish=dialect.limited)


def test_a_stop_string_holds_across_the_seam(house):
    def stop(tag):
        return f" é{tag}10 {tag}11"  # begins in one token and ends in the next

    def make(after, tag):
        house.fault("reset", after, tag)
        return {"text": f"[[tokens=40 itl=1 tag={tag}]]", "stop": [stop(tag)]}

    for dialect, after, tag, answer, said in house.ask_at_once(product(DIALECTS, (9, 10, 11, 12)), make):
        assert (answer.status, answer.whole) == (200, True), (dialect.name, after)
        assert said.text.lstrip() == words(10, tag).lstrip(), (dialect.name, after)
        assert said.finish in (dialect.stopped, "stop_sequence")
        assert stop(tag) not in said.text


def test_twice_in_one_answer(house):
    """The first attempt dies after three tokens, the second after nine, the third ends it."""

    def make(_, tag):
        return {"text": f"[[tokens=25 itl=2 reset=3 cut=9 tag={tag}]]"}

    for dialect, _, tag, answer, said in house.ask_at_once(product(DIALECTS, [None]), make):
        text = words(25, tag)
        check(house, dialect, answer, said, tokens=25, text=text, finish=dialect.stopped, attempts=3)


def test_one_of_two_answers_of_a_request(house):
    dialect = DIALECTS[0]
    body = {**dialect.body("[[tokens=20 itl=2 reset=6]]"), "n": 2}
    with Client(house.platform.address) as client:
        answer = client.send(http(dialect.path(True), body, key=house.platform.key)).answer()
    texts = {0: "", 1: ""}
    for frame in frames(answer.body):
        for choice in frame.get("choices", []):
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert answer.whole
    assert {text.lstrip() for text in texts.values()} == {words(20).lstrip()}
    usage = dialect.read(frames(answer.body))
    assert usage.completion_tokens == 40


def test_when_every_replica_fails_the_caller_hears_it(house):
    def make(_, tag):
        house.fault("reset", 6, tag, times=10)
        return {"text": f"[[tokens=20 itl=2 tag={tag}]]"}

    for _, _, tag, answer, said in house.ask_at_once(product(DIALECTS, [None]), make):
        assert answer.status == 200
        assert said.error is not None
        assert not answer.whole, "a broken answer ended like a whole one"
        assert said.finish is None
        assert words(20, tag).lstrip().startswith(said.text.lstrip())
        journey = house.journey(answer)
        assert (journey["outcome"], journey["status"], journey["attempts"]) == ("failed", 502, 3)
        assert journey["money_usd"] in ("0", "0.0", "0.00")


def test_an_error_before_the_first_token_is_a_status(house):
    def make(stream, tag):
        return {"text": f"[[status=500 tag={tag}]]", "stream": stream}

    for dialect, _, _, answer, said in house.ask_at_once(product(DIALECTS, (True, False)), make):
        status = {"openai": 502, "anthropic": 500, "gemini": 503}[dialect.name]
        assert (answer.status, answer.whole) == (status, True)
        assert said.error is not None


@by_dialect
@pytest.mark.parametrize("stream", [True, False])
def test_what_the_engine_calls_the_callers_fault_is_not_tried_again(house, dialect, stream):
    answer, _ = ask(house.platform, dialect, "[[status=400]]", stream=stream)
    assert answer.status == 400
    assert house.journey(answer)["attempts"] == 1


def test_when_every_replica_fails_a_request_that_does_not_stream_it_is_a_status(house):
    def make(_, tag):
        house.fault("reset", 3, tag, times=10)
        return {"text": f"[[tokens=20 tag={tag}]]", "stream": False}

    for dialect, _, _, answer, said in house.ask_at_once(product(DIALECTS, [None]), make):
        assert answer.status == {"openai": 502, "anthropic": 500, "gemini": 503}[dialect.name]
        assert answer.whole
        assert said.error is not None


@pytest.mark.parametrize("count", [1, 2])
def test_nobody_is_there_and_then_somebody_is(tmp_path, count):
    """All replicas die, the request waits, one comes back, and the answer goes on as if nothing had been."""
    dialect = DIALECTS[0]
    with engines(count, mortal=True) as replicas:
        desk = {**QUICK["desk"], "attempts_max": 50}  # while a process dies, tries are used up in no time
        settings = {**QUICK, "desk": desk, "models": [model([replica.url for replica in replicas])]}
        with running_platform(tmp_path, settings) as platform, Client(platform.address) as client:
            client.send(http(dialect.path(True), dialect.body("[[tokens=60 itl=10]]"), key=platform.key))
            client.until(b"data: ", 10)
            for replica in replicas:
                replica.kill()
            eventually(lambda: not ready(platform) and platform.admin("/api/platform")["waiting"], 10)
            replicas[0].restart()
            answer = client.answer()
            said = dialect.read(frames(answer.body))
            assert (answer.whole, said.error, said.finish) == (True, None, "stop"), House(platform, [], []).story(
                answer
            )
            assert said.text.lstrip() == words(60).lstrip()
            assert said.completion_tokens == 60
            journey = House(platform, [], []).journey(answer)
            assert "queue" in [hop["name"] for hop in journey["hops"]]
            platform.wait_idle()
    replay_all(platform)


def test_constrained_output_is_not_continued_but_fails_visibly(house):
    dialect = DIALECTS[0]
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    body = dialect.body("[[tokens=30 itl=5 reset=12]]") | {
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    }
    with Client(house.platform.address) as client:
        answer = client.send(http(dialect.path(True), body, key=house.platform.key)).answer()
    said = dialect.read(frames(answer.body))
    if answer.status == 200:
        assert said.error is not None
        assert not answer.whole
        assert said.finish is None
    else:
        assert answer.status == (400 if house.kind == "llamacpp" else 502)  # scripted words are no JSON


@pytest.mark.parametrize("wait_s", [0.0, 0.05, 0.12])
def test_kill_9_in_the_middle_of_many_streams(house, wait_s):
    """Several callers, one dead replica: each gets all of its own words, none of anybody else's."""
    results: dict[str, tuple] = {}

    def call(number: int) -> None:
        dialect = DIALECTS[number % 3]
        tag = "abcdefghij"[number]
        results[tag] = (dialect, *ask(house.platform, dialect, f"[[tokens=40 itl=5 tag={tag}]]"))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    time.sleep(wait_s)
    house.replicas[0].kill()
    for caller in callers:
        caller.join(20)
    assert len(results) == 8
    for tag, (dialect, answer, said) in results.items():
        assert (answer.status, answer.whole, said.error) == (200, True, None)
        assert said.text.lstrip() == words(40, tag).lstrip()
        assert (said.completion_tokens, said.finish) == (40, dialect.stopped)
    house.platform.wait_idle()


def test_token_counts_are_asked_of_another_engine(house):
    house.replicas[0].kill()
    for _ in range(4):
        reply = house.platform.ask(
            "POST", "/v1/messages/count_tokens", {"model": "m", "messages": [{"role": "user", "content": "x" * 40}]}
        )
        assert reply.status == 200, reply
        assert json.loads(reply.body)["input_tokens"] > 0
