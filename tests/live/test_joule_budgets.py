"""A key with a budget in joules, at a platform whose server is metered: refused when it is spent, also after a restart."""

from __future__ import annotations

import time

import pytest
from tests.live.wire import DIALECTS, engines, eventually, model
from tests.support.keys import make_key, wait_known
from tests.support.meters import Controller
from tests.support.platform import running_platform

from underlay.cli import _budgets
from underlay.control.events import EnergySettled
from underlay.control.journal import decode
from underlay.domain.keys import Budget
from underlay.live.store import Store

#: Less than any answer takes of a server's 300 W.
TINY_J = 0.01


@pytest.fixture(scope="module")
def parts():
    with engines(1, slots=32, model="m") as (engine,), Controller() as controller:
        yield {
            "meters": {
                "rapl": "off",
                "nvml": "off",
                "redfish": {"url": f"{controller.url}/power", "insecure": True},
            },
            "models": [model([engine.url], slots=32, template="transcript")],
        }


def ask(platform, dialect, key):
    body = dialect.body("[[tokens=20 itl=20]]", stream=False)
    return platform.ask("POST", dialect.path(False), body, key=key)


def used_j(platform, key_id):
    with Store(platform.data_dir) as store:
        known = store.keys()
        (key,) = [key for key in known if key.id == key_id]
        (budget,) = _budgets.fields(key, _budgets.use_of(store, time.time()), time.time())
    return budget["spent_joules"]


def test_a_key_whose_joules_are_spent_is_refused_in_each_dialect_and_after_a_restart(tmp_path, parts):
    with running_platform(tmp_path, parts) as platform:
        made = make_key(platform.data_dir, "acme", budgets=(Budget("total", joules=TINY_J),))
        free = make_key(platform.data_dir, "acme")
        wait_known(platform, made, free)
        assert ask(platform, DIALECTS[0], made.secret).status == 200
        eventually(lambda: ask(platform, DIALECTS[0], made.secret).status == 429, 40)
        for dialect in DIALECTS:
            refuse(platform, dialect, made.secret, "more than this key's budget of 0.01 J in total; ask for less")
        assert ask(platform, DIALECTS[0], free.secret).status == 200
        eventually(lambda: used_j(platform, made.id) > TINY_J)
    (path,) = (tmp_path / "data" / "journal").glob("*.journal")
    settled = [entry.event for entry, _ in decode(path.read_bytes())[1] if type(entry.event) is EnergySettled]
    assert made.id in {event.key_id for event in settled}
    assert all(event.joules > 0.0 and event.accounts for event in settled)
    with running_platform(tmp_path, parts) as platform:
        # Before any meter has told in this run, nobody knows what a request takes; that the budget is spent, we do.
        refuse(
            platform, DIALECTS[0], made.secret, "this key's budget of 0.01 J in total is spent; it does not reset"
        )
        assert ask(platform, DIALECTS[0], free.secret).status == 200


def refuse(platform, dialect, secret, why):
    reply = ask(platform, dialect, secret)
    assert reply.status == (402 if dialect.name == "anthropic" else 429)  # theirs is a billing_error
    error = reply.json()["error"]
    assert why in error["message"]
    assert "retry-after" not in reply.headers
