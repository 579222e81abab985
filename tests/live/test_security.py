"""One tenant's things are nobody else's: not by id, not by conversation, not by the pool of connections."""

from __future__ import annotations

import threading
import time

import pytest
from tests.live.wire import DIALECTS, ask, engines, model
from tests.support.platform import running_platform
from tests.support.scripted import words

from underlay.live import keyring
from underlay.live.store import Store


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with engines(2, slots=8, model="m") as replicas:
        settings = {"models": [model([replica.url for replica in replicas], slots=8, template="transcript")]}
        with running_platform(tmp_path_factory.mktemp("security"), settings) as running:
            yield running
            running.wait_idle()


@pytest.fixture(scope="module")
def stranger(platform):
    """The secret of another tenant."""
    with Store(platform.data_dir) as store:
        made = keyring.create(store, tenant="other", name="other", at_s=time.time())
    time.sleep(0.8)
    return made.secret


def test_stored_responses_of_another_tenant_do_not_exist(platform, stranger):
    made = platform.ask("POST", "/v1/responses", {"model": "m", "input": "[[tokens=3]]", "store": True}).json()
    mine = f"/v1/responses/{made['id']}"
    assert platform.ask("GET", mine).status == 200
    absent = platform.ask("GET", "/v1/responses/resp_that_never_was", key=stranger)
    for method, path in (("GET", mine), ("DELETE", mine), ("POST", mine + "/cancel")):
        reply = platform.ask(method, path, key=stranger)
        assert reply.status == absent.status == 404
        assert reply.json()["error"].keys() == absent.json()["error"].keys()
    stolen = {"model": "m", "input": "go on", "previous_response_id": made["id"]}
    assert platform.ask("POST", "/v1/responses", stolen, key=stranger).status == 404
    assert platform.ask("GET", mine).status == 200


def test_tenants_side_by_side_hear_their_own_words_only(platform, stranger):
    """Many at once over few connections, some of them left in the middle."""
    wrong: list[str] = []

    def talk(number: int) -> None:
        tag, key = ("mine", platform.key) if number % 2 else ("theirs", stranger)
        dialect = DIALECTS[number % 3]
        for turn in range(6):
            fault = f"reset={turn + 2}" if turn % 3 == 2 else ""
            _, said = ask(platform, dialect, f"[[tokens={5 + turn} itl=1 tag={tag} {fault}]]", key=key)
            if said.text.lstrip() != words(5 + turn, tag).lstrip():
                wrong.append(f"{tag}: {said.text}")

    talkers = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join(60)
    assert not wrong


def test_the_console_is_not_open_to_other_keys(platform, stranger):
    with pytest.raises(AssertionError):
        type(platform).admin(_With(platform, stranger), "/api/journeys")


class _With:
    """The platform as the holder of another key sees it."""

    def __init__(self, platform, key: str) -> None:
        self.console_url, self.key = platform.console_url, key
