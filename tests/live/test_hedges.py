"""Two replicas are asked for the same: the first that is heard wins, and nothing of the other counts."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.live.test_drain import find, states
from tests.live.test_failover import replay_all
from tests.live.wire import DIALECTS, Client, ask, engines, eventually, frames, http, model
from tests.support.platform import running_platform
from tests.support.scripted import words

by_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


class House:
    def __init__(self, platform, replicas):
        self.platform, self.replicas = platform, replicas

    def learn(self, text):
        """Enough quick answers to prompts as long that a late one is noticed."""
        body = DIALECTS[0].body("[[tokens=1]]".ljust(len(text), "x"), stream=False)
        data = http("/v1/chat/completions", body, key=self.platform.key)
        with Client(self.platform.address) as client:
            for _ in range(60):
                assert client.send(data).answer().status == 200

    def hedged(self, dialect, tokens, then, *, stream=True):
        """One request that is hedged; returns its journey.

        Both engines are silent until both are asked, and until ``then`` lets them speak: it gets the engine that was
        asked first, and the copy's.
        """
        text = f"[[tokens={tokens} itl=1 held=0]]"
        self.learn(text)
        # Equal prompts go to the same one first: what became of the last says where the next one goes.
        before = self.once(dialect, text, tokens, lambda: [replica.go() for replica in self.replicas], stream)
        first, copy = (self.replicas[int(route["who"][-1])] for route in self.routes(before))
        journey = self.once(dialect, text, tokens, lambda: then(first, copy), stream)
        assert self.routes(journey)[0]["who"] == self.routes(before)[0]["who"]
        return journey

    def once(self, dialect, text, tokens, when_held, stream):
        """Ask once, and let the engines speak when both are asked."""
        with ThreadPoolExecutor(1) as caller:
            asking = caller.submit(ask, self.platform, dialect, text, stream=stream)
            eventually(lambda: all(replica.held() for replica in self.replicas))
            when_held()
            answer, said = asking.result()
        assert (answer.status, answer.whole, said.error) == (200, True, None), answer
        assert said.text.lstrip() == words(tokens).lstrip()
        assert (said.completion_tokens, said.finish) == (tokens, dialect.stopped)
        journey = eventually(lambda: find(self.platform, answer.headers["x-request-id"]))
        assert journey["usage"]["completion_tokens"] == tokens
        eventually(lambda: sum(replica.busy() for replica in self.replicas) == 0)
        self.platform.wait_idle()
        return journey

    def routes(self, journey):
        """Where the request went, and where its copy."""
        routes = [hop for hop in journey["hops"] if hop["name"] == "routing"]
        assert len(routes) == journey["attempts"] == 2, journey["hops"]
        assert "a hedge" in routes[1]["why"]
        return routes

    def given(self, replica):
        """What the platform believes this engine to be at work on."""
        rows = self.platform.admin("/api/replicas")
        return next(row["load"] for row in rows if row["name"] == f"m/{self.replicas.index(replica)}")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with engines(2, slots=8, model="m") as replicas:
        settings = {
            "models": [model([replica.url for replica in replicas], slots=8)],
            "desk": {"hedge_share": 1.0, "strikes_max": 1000, "routing": "consistent_hash"},
        }
        with running_platform(tmp_path_factory.mktemp("hedges"), settings) as platform:
            eventually(lambda: all(state == "ready" for state in states(platform).values()), 10)
            yield House(platform, replicas)
        replay_all(platform)


def whys(journey, name):
    return [hop["why"] for hop in journey["hops"] if hop["name"] == name]


@by_dialect
@pytest.mark.parametrize("stream", [True, False])
def test_the_first_wins_where_both_are_slow(house, dialect, stream):
    cancelled = sum(replica.count("requests_cancelled_total") for replica in house.replicas)
    journey = house.hedged(dialect, 20, lambda first, _: first.go(), stream=stream)
    assert whys(journey, "prefill") == [
        "attempt 1; until the first token",
        "attempt 2 was not needed: attempt 1 was heard first",
    ]
    assert sum(replica.count("requests_cancelled_total") for replica in house.replicas) > cancelled


@by_dialect
def test_the_copy_wins_where_the_first_hangs(house, dialect):
    journey = house.hedged(dialect, 10, lambda _, copy: copy.go())
    assert whys(journey, "prefill") == [
        "attempt 2; until the first token",
        "attempt 1 was not needed: attempt 2 was heard first",
    ]
    first, copy = (hop["who"] for hop in journey["hops"] if hop["name"] == "routing")
    assert first != copy
    assert [hop["who"] for hop in journey["hops"] if hop["name"] == "decode"] == [copy]


@by_dialect
@pytest.mark.parametrize("fault", ["reset", "malformed"])
def test_where_one_of_the_two_fails_the_other_goes_on(house, dialect, fault):
    def then(first, copy):
        first.go(fault)
        eventually(lambda: not house.given(first))
        copy.go()

    journey = house.hedged(dialect, 10, then)
    failed, heard = whys(journey, "prefill")
    assert failed.startswith(f"attempt 1 failed ({fault})")
    assert heard == "attempt 2; until the first token"


def test_several_answers_to_one_request_come_from_one_attempt(house):
    dialect = DIALECTS[0]
    text = "[[tokens=12 itl=1 held=0]]"
    house.learn(text)
    body = {**dialect.body(text), "n": 2}
    with Client(house.platform.address) as client:
        client.send(http(dialect.path(True), body, key=house.platform.key))
        eventually(lambda: all(replica.held() == 2 for replica in house.replicas))
        for replica in house.replicas:
            replica.go()
        answer = client.answer()
    texts = {0: "", 1: ""}
    for frame in frames(answer.body):
        for choice in frame.get("choices", []):
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert {text.lstrip() for text in texts.values()} == {words(12).lstrip()}
    journey = eventually(lambda: find(house.platform, answer.headers["x-request-id"]))
    assert (journey["attempts"], journey["usage"]["completion_tokens"]) == (2, 24)
    eventually(lambda: sum(replica.busy() for replica in house.replicas) == 0)


def test_a_caller_who_leaves_frees_both(house):
    dialect = DIALECTS[0]
    text = "[[tokens=5 held=0]]"
    house.learn(text)
    with Client(house.platform.address) as client:
        client.send(http(dialect.path(True), dialect.body(text), key=house.platform.key))
        eventually(lambda: all(replica.held() for replica in house.replicas))
    eventually(lambda: sum(replica.busy() for replica in house.replicas) == 0)
    house.platform.wait_idle()
