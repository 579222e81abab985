"""A replica is taken out of service: short answers end where they are, long ones move, none is lost."""

import json
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.live.test_failover import replay_all
from tests.live.wire import DIALECTS, ask, engines, eventually, model
from tests.support.platform import running_platform
from tests.support.scripted import words

OPENAI = DIALECTS[0]


@pytest.fixture(scope="module")
def replicas():
    with engines(2, slots=8, model="m") as started:
        yield started


@pytest.fixture(scope="module")
def house(tmp_path_factory, replicas):
    settings = {
        "models": [model([replica.url for replica in replicas], slots=8)],
        "desk": {"drain_s": 1.5, "hedge_share": 0.0},
    }
    with running_platform(tmp_path_factory.mktemp("drain"), settings) as platform:
        eventually(lambda: all(state == "ready" for state in states(platform).values()), 10)
        yield platform
    replay_all(platform)


def states(platform):
    return {row["name"]: row["state"] for row in platform.admin("/api/replicas")}


def drain(platform, *words):
    command = [sys.executable, "-m", "underlay", "drain", *words, "--data-dir", str(platform.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout, done.stderr


def order(platform, replica, *, drain):
    """What the command does, at once: it takes a good part of the time in which an undo comes in time to begin."""
    body = {"replica": replica, "drain": drain}
    head = {"Authorization": f"Bearer {platform.key}", "Content-Type": "application/json"}
    asked = urllib.request.Request(
        f"{platform.console_url}/api/replicas/drain", json.dumps(body).encode(), head, method="POST"
    )
    with urllib.request.urlopen(asked, timeout=10) as reply:
        return json.load(reply)["state"]


class Callers:
    """Requests that run at the same time, and where each of them ran.

    They are held at the fifth token, unless they go on there as another attempt; their tag is their length.
    """

    def __init__(self, platform, tokens):
        self.platform, self.results = platform, {}
        self.threads = [threading.Thread(target=self._ask, args=(n, count)) for n, count in enumerate(tokens)]
        for thread in self.threads:
            thread.start()

    def _ask(self, number, tokens):
        self.results[number] = (
            tokens,
            *ask(self.platform, OPENAI, f"[[tokens={tokens} held=5 tag={length(tokens)}]]"),
        )

    def check(self):
        """Every answer is exact; returns tokens and replicas of each."""
        told = []
        for thread in self.threads:
            thread.join(20)
        for tokens, answer, said in self.results.values():
            assert (answer.status, answer.whole, said.error, said.finish) == (200, True, None, "stop")
            assert said.text.lstrip() == words(tokens, length(tokens)).lstrip()
            assert said.completion_tokens == tokens
            journey = eventually(lambda answer=answer: find(self.platform, answer.headers["x-request-id"]))
            told.append((tokens, [hop["who"] for hop in journey["hops"] if hop["name"] == "routing"]))
        return told


def length(tokens):
    return "long" if tokens > 30 else "short"


def find(platform, request_id):
    try:
        return platform.journey(request_id)
    except AssertionError:
        return None


def test_short_answers_finish_and_long_ones_move(house, replicas):
    callers = Callers(house, [30] * 3 + [60] * 5)  # too many long ones for either of them alone
    eventually(lambda: sum(replica.held() for replica in replicas) == 8)
    with ThreadPoolExecutor(1) as operator:
        draining = operator.submit(drain, house, "m/0", "--wait")
        eventually(lambda: states(house)["m/0"] == "draining", 20)
        for replica in replicas:
            replica.go(tag="short")
        code, out, err = draining.result()
    assert (code, out) == (0, "m/0 is drained\n"), err
    assert "m/0 is draining; " in err
    assert states(house) == {"m/0": "drained", "m/1": "ready"}
    replicas[1].go()
    told = callers.check()
    assert all(replicas in (["m/0"], ["m/1"]) for tokens, replicas in told if tokens == 30)
    moved = [replicas for tokens, replicas in told if tokens == 60 and replicas[0] == "m/0"]
    assert moved, "nothing long ran on the replica that was drained"
    assert all(replicas == ["m/0", "m/1"] for replicas in moved)
    later = Callers(house, [4] * 4).check()
    assert all(replicas == ["m/1"] for _, replicas in later)
    code, out, _ = drain(house, "m/0", "--undo", "--wait", "--json")
    assert code == 0
    assert json.loads(out)["replica"]["state"] == "ready"
    house.wait_idle()


def test_an_idle_replica_is_drained_at_once_and_an_undo_in_time_keeps_its_streams(house, replicas):
    assert drain(house, "m/1", "--wait")[:2] == (0, "m/1 is drained\n")
    assert drain(house, "m/1", "--undo", "--wait")[:2] == (0, "m/1 is ready\n")
    callers = Callers(house, [80] * 6)
    eventually(lambda: sum(replica.held() for replica in replicas) == 6)
    assert order(house, "m/1", drain=True) == "draining"
    assert states(house)["m/1"] == "draining"
    assert order(house, "m/1", drain=False) == "ready"
    for replica in replicas:
        replica.go()
    assert all(len(replicas) == 1 for _, replicas in callers.check())


def test_what_cannot_be_drained_is_told_in_words(house):
    code, out, err = drain(house, "m/7")
    assert (code, out) == (3, "")
    assert "there is no replica 'm/7'; 'underlay ps' lists them" in err
    code, _, err = drain(house, "m/7", "--json")
    assert (code, json.loads(err)["error"]["code"]) == (3, "not_found")


def test_the_last_replica_of_a_model_is_drained_with_a_word_of_warning(house):
    drain(house, "m/0", "--wait")
    code, _, err = drain(house, "m/1")
    assert code == 0
    assert "no other replica of m is ready" in err
    waiting = Callers(house, [4])
    time.sleep(0.3)
    assert not waiting.results, "it waits for a replica"
    assert drain(house, "m/1", "--undo", "--wait")[0] == 0
    waiting.check()
    assert drain(house, "m/0", "--undo", "--wait")[0] == 0
