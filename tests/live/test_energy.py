"""Whose joules they were: each is on some account, whoever left, whatever failed, whenever the meter fell silent."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import msgspec
import pytest
from prometheus_client import generate_latest
from tests.live.books import Accounts
from tests.live.wire import DIALECTS, engines, eventually, model
from tests.support.inside import inside
from tests.support.platform import running_platform

from underlay.cli import _energy as energy_line
from underlay.cli import journey as journey_verb
from underlay.domain.answer import Usage
from underlay.domain.figures import Figure
from underlay.ledger.steps import ANY_COSTS, costs_of
from underlay.live.computed import Computed
from underlay.live.energy import start as energy_start
from underlay.live.energy.metered import Idle
from underlay.live.energy.work import Work
from underlay.live.metrics import Metrics
from underlay.live.settings import EngineSettings

CHAT = DIALECTS[0]


async def test_the_accounts_are_the_meter_with_one_who_leaves_and_one_attempt_that_fails(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        place.engines[0].fault("reset", 8, 1, tag="torn")
        place.engines[1].fault("reset", 8, 1, tag="torn")
        lines = [books.ask(f"number {n} [[tokens={30 + 10 * n} itl=4]]") for n in range(4)]
        lines.append(books.ask("torn [[tokens=30 itl=4 tag=torn]]"))
        lines.append(books.ask("gone [[tokens=400 itl=4]]", writes_max=12))
        waiting = asyncio.gather(*(line.over.wait() for line in lines))
        await books.go_on(waiting.done)
        await books.go_on(lambda: len(books.settled) == 6)
        assert books.booked_j() == pytest.approx(books.metered_j(), rel=1e-9)
        assert books.energy.open_joules == pytest.approx(0.0, abs=1e-9)
        books.energy.check()
        totals = {account for account, method in books.energy.totals()}
        assert {"busy", "failed_attempts", "abandoned_streams", "unexplained"} <= totals
        journeys = list(books.settled.values())
        assert all(journey.energy.joules > 0.0 and journey.energy.status == "settled" for journey in journeys)
        assert {journey.energy.meter for journey in journeys} == {books.meter.id}
        assert all(journey.energy.method in {"calibrated", "assumed"} for journey in journeys)  # never "measured"
        (gone,) = (journey for journey in journeys if journey.outcome == "client_gone")
        assert list(gone.energy.accounts) == ["abandoned_streams"]
        (torn,) = (journey for journey in journeys if journey.attempts > 1)
        assert set(torn.energy.accounts) == {"busy", "failed_attempts"}
        assert torn.energy.joules == pytest.approx(sum(torn.energy.accounts.values()))
        metrics = Metrics("1", ["m"])
        metrics.add_energy(books.energy)
        told = generate_latest(metrics.registry).decode().splitlines()
        shown = [
            float(line.split()[-1]) for line in told if line.startswith("underlay_energy_account_joules_total")
        ]
        assert sum(shown) == pytest.approx(books.metered_j(), rel=1e-9)


async def test_a_lost_replica_s_attempt_ends_with_it_and_no_token_counts_twice(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        line = books.ask("hello [[tokens=60 itl=5]]")
        waiting = asyncio.ensure_future(line.over.wait())
        await books.go_on(lambda: books.energy.open_joules > 0.0)
        (asked,) = place.driver.exchanges.values()
        place.lose(asked.replica)
        await books.go_on(waiting.done)
        await books.go_on(lambda: len(books.settled) == 1)
        first, second = asked.computed
        assert (first.failed, second.failed) == (True, False)
        assert first.ended_at <= second.asked_at
        assert first.told_tokens + second.told_tokens == 60
        (journey,) = books.settled.values()
        assert set(journey.energy.accounts) == {"busy", "failed_attempts"}
        assert books.booked_j() == pytest.approx(books.metered_j(), rel=1e-9)


async def test_nothing_is_kept_for_ever_and_idle_power_is_learnt(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        for _ in range(3):
            lines = [books.ask(f"hello {n} [[tokens=6 itl=1]]") for n in range(5)]
            waiting = asyncio.gather(*(line.over.wait() for line in lines))
            await books.go_on(waiting.done)
        await books.go_on(lambda: len(books.settled) == 15)
        closed = books.energy._closed
        await books.go_on(lambda: books.energy._closed > closed + 5)
        assert books.energy.kept == 0
        assert books.energy._statements._open == {}
        assert books.energy._work._spans == {}
        totals = books.energy.totals()
        assert totals["idle_provisioned", "calibrated"] > 0.0
        assert books.booked_j() == pytest.approx(books.metered_j(), rel=1e-9)


async def test_it_is_provisional_until_its_last_window_is_closed(tmp_path, monkeypatch):
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        line = books.ask("hello [[tokens=40 itl=4]]")
        waiting = asyncio.ensure_future(line.over.wait())
        await books.go_on(waiting.done)
        (ticket,) = books.journeys
        told = books.energy.provisional(ticket)
        assert told is not None
        assert told.status == "provisional"
        await books.go_on(lambda: ticket in books.settled)
        assert books.energy.provisional(ticket) is None
        assert books.settled[ticket].energy.joules >= (told.joules or 0.0)


async def test_a_meter_that_falls_silent_leaves_a_gap_that_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("underlay.live.energy.accounting.PATIENCE_S", 0.2)
    async with inside(tmp_path) as place, Accounts(place, monkeypatch) as books:
        line = books.ask("hello [[tokens=60 itl=10]]")
        waiting = asyncio.ensure_future(line.over.wait())
        await books.go_on(lambda: books.energy.open_joules > 0.0)
        before_j = books.booked_j()
        books.meter.broken = True
        await books.go_on(lambda: books.energy.gap_s > 0.0)
        await books.go_on(waiting.done)
        await books.go_on(lambda: len(books.settled) == 1)
        (journey,) = books.settled.values()
        assert journey.energy.unmetered_s > 0.0
        assert "unmetered" in journey_verb.waterfall(msgspec.to_builtins(journey))
        assert before_j <= books.booked_j() < before_j + 100.0 * 3  # nothing is made up for what was not read
        gap_s = books.energy.gap_s
        books.meter.broken = False
        books.meter.reset()  # what it counted meanwhile is lost
        metered = books.booked_j()
        await books.go_on(lambda: books.booked_j() > metered)
        assert books.energy.gap_s >= gap_s
        books.energy.check()


def exchange(*computed, produced=0, unheard=()):
    return SimpleNamespace(
        ticket="req_1",
        model="m",
        computed=list(computed),
        unheard=list(unheard),
        guessed_tokens=99,
        produced=lambda: Usage(0, 0, produced),
    )


def test_what_a_cache_held_is_not_read_and_each_token_is_counted_once():
    work = Work(["m"], 10.0)
    computed = Computed(1, "r0", 9.5, 10.2)
    computed.prompt_tokens, computed.cached_tokens = 50, 40
    prompt, decode = work.look([exchange(computed, produced=7)], 11.01, 11.0)
    assert (prompt.begin_s, prompt.end_s, prompt.works[0].prefill_tokens) == (9.5, 10.2, 10)
    assert (decode.begin_s, decode.end_s, decode.works[0].decode_tokens) == (10.2, 11.0, 7)
    assert decode.works[0].request == "req_1#1/decode"
    computed.end(11.4, 9, failed=True)
    again = Computed(2, "r1", 11.4, 11.6)  # its engine does not say how long the prompt was
    again.decoded_before = 9
    prompt, *decodes = work.look([exchange(computed, again, produced=12)], 12.01, 12.0)
    assert prompt.works[0].prefill_tokens == 99
    assert [step.works[0].decode_tokens for step in decodes] == [2, 3]
    assert decodes[0].end_s == 11.4
    assert work.look([exchange(computed, again, produced=12)], 13.01, 13.0) == []


def test_models_of_the_catalogue_have_their_own_costs_and_others_assumed_ones():
    assert costs_of("gemma-3-270m").token_flop == pytest.approx(2 * 0.268e9)
    assert costs_of("somebody's") == ANY_COSTS


def test_idle_power_is_nothing_to_a_meter_of_processor_time_and_unknown_at_first_to_others():
    modelled, metered = Idle(metered=False), Idle(metered=True)
    for idle in (modelled, metered):
        before = idle.power
        idle.learn(Figure(60.0, "J", "measured", "gpu0", "", 10.0), 1.0)
        assert before.value == 0.0
    assert (modelled.power.value, modelled.power.method) == (0.0, "modelled")
    assert (metered.power.value, metered.power.method) == (60.0, "calibrated")
    for _ in range(50):
        metered.learn(Figure(80.0, "J", "measured", "gpu0", "", 10.0), 1.0)
    assert metered.power.value == pytest.approx(80.0, abs=3.0)


def test_engines_that_no_meter_sees_are_told_nothing_of_and_not_0_joules(tmp_path):
    with engines(1, slots=4, model="m") as (engine,):
        served = [model([engine.url], slots=4, template="transcript")]
        settings = {"models": served, "meters": {"rapl": "off", "nvml": "off", "every_ms": 50}}
        with running_platform(tmp_path, settings) as platform:
            reply = platform.ask("POST", CHAT.path(False), CHAT.body("[[tokens=20 itl=5]]", stream=False))
            eventually(lambda: "the meters see none of the engines" in platform.log.read_text())
            platform.wait_idle()
            assert platform.journey(reply.headers["x-request-id"])["energy"] is None


@pytest.mark.parametrize(
    ("addresses", "own", "here"),
    [
        ((), True, True),
        (("http://127.0.0.1:8000",), True, False),
        (("http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:2"), False, True),
        (("http://127.0.0.1:8000", "http://10.0.0.2:1"), False, False),
        (("http://elsewhere:8000",), False, False),
    ],
)
def test_whose_engines_the_meters_see(addresses, own, here):
    assert energy_start._runs_here(EngineSettings(kind="openai", addresses=addresses), own=own) == here


JOURNEY = {
    "status": "provisional",
    "joules": 12.3456,
    "uncertainty_joules": 0.7,
    "method": "calibrated",
    "meter": "gpu0",
    "boundary": "",
    "accounts": {"busy": 10.0, "failed_attempts": 2.3456},
    "unmetered_s": 0.0,
}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "12.3 ± 0.7 J (of it 2.35 J failed_attempts), calibrated, gpu0, provisional"),
        ({"status": "settled", "accounts": {"busy": 12.3}, "uncertainty_joules": None}, "12.3 J, calibrated, gpu0"),
        ({"joules": None}, "energy: not metered yet; in some seconds 'underlay journey' tells it"),
        ({"joules": None, "status": "settled", "unmetered_s": 2.0}, "energy: none metered; 2.0 s of it unmetered"),
    ],
)
def test_a_journey_shows_it(changes, line):
    assert energy_line.line(JOURNEY | changes) == line


def test_it_says_what_the_joules_make_and_what_power_and_cooling_take_on_top():
    made = {
        "accounts": {"busy": 12.3, "host": 1.0, "overhead": 3.0},
        "carbon": {"location": {"value": 0.000187, "method": "modelled"}},
        "water": {"off_site": {"value": 0.0015, "method": "assumed"}},
        "cost": {"electricity": {"value": 3.1e-8}, "overhead": {"value": 0.7e-8}},
    }
    assert energy_line.line(JOURNEY | made) == (
        "12.3 ± 0.7 J and 3 J of power and cooling, calibrated, gpu0, provisional; 187 µg CO2e (modelled); "
        "1.5 µL water off site (assumed); $3.8e-08 electricity + overhead"
    )
