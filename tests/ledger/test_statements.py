from __future__ import annotations

import random

import msgspec
import pytest
from tests.ledger.builders import MODEL, TRUTH, TYPICAL, SimulatedMeter, Trace, decode, step, window

from underlay.domain.figures import Figure
from underlay.ledger.attribution import attribute
from underlay.ledger.device import DeviceLedger
from underlay.ledger.node import Host, node_accounts
from underlay.ledger.priors import stated
from underlay.ledger.statements import Statement, Statements
from underlay.ledger.step_energy import StepEnergy


def windows(count: int, *requests: str, off: float = 10.0):
    for n in range(count):
        log = [step(*(decode(request) for request in requests), begin_s=float(n), end_s=n + 0.5)]
        yield attribute(window(100.0, float(n), n + 1.0, off=off), log, MODEL)


def test_a_request_is_provisional_and_then_settled_with_all_its_windows() -> None:
    books = Statements()
    for closed in windows(3, "a", "b"):
        books.book(closed)
    before = books.provisional("a")
    assert books.booked_tokens("a") == 3.0
    assert (before.status, before.ending, before.windows) == ("provisional", "", 3)
    after = books.settle("a", "answered")
    assert (after.status, after.ending) == ("settled", "answered")
    assert after.energy == before.energy
    assert after.energy.value == pytest.approx(3 * 30.0)
    assert after.idle_beside.value == pytest.approx(3 * 20.0)
    assert books.provisional("a").energy is None
    assert books.booked_tokens("a") == 0.0
    books.check()


def test_readings_telescope_over_windows_and_the_models_part_adds_up() -> None:
    books = Statements()
    for closed in windows(50, "a", "b"):
        books.book(closed)
    energy = books.settle("a", "answered").energy
    split_j = 50 * 2 * 0.05 * 0.5 * 30.0
    assert energy.uncertainty == pytest.approx(10.0 / 2 + split_j)
    apart = Statements()
    for n, closed in enumerate(windows(50, "a", "b")):
        if n in {3, 30}:
            apart.book(closed)
    assert apart.settle("a", "answered").energy.uncertainty == pytest.approx(10.0 + split_j / 25)


@pytest.mark.parametrize(("ending", "account"), [("failed", "failed_attempts"), ("abandoned", "abandoned_streams")])
def test_what_came_to_nothing_is_moved_to_its_own_account_not_booked_again(ending, account) -> None:
    books = Statements()
    for closed in windows(2, "a", "b"):
        books.book(closed)
    said = books.settle("a", ending)
    assert list(said.accounts) == [account]
    assert books.totals()[account] == pytest.approx(60.0)
    assert books.totals()["busy"] == pytest.approx(60.0)
    assert sum(books.totals().values()) == pytest.approx(200.0)
    books.check()


def test_nodes_bring_host_and_overhead_and_a_footprint_takes_what_is_without_it() -> None:
    books = Statements()
    for closed in windows(2, "a", "b"):
        host = Host(Figure(50.0, "J", "measured", "rapl", "", 1.0), Figure(10.0, "W", "calibrated"), 0.5)
        books.book(node_accounts([closed], host, pue=Figure(1.25, "ratio", "assumed", "", "", 0.1)))
    said = books.settle("a", "answered")
    assert said.windows == 2
    assert set(said.accounts) == {"busy", "host", "overhead"}
    assert said.accounts["host"].meter == "rapl"
    assert said.it_energy.value == pytest.approx(2 * (30.0 + 10.0))
    assert said.energy.value == pytest.approx(2 * (30.0 + 10.0) * 1.25)
    assert said.energy.method == "assumed"
    assert sum(books.totals().values()) == pytest.approx(2 * 150.0 * 1.25)
    books.check()


def test_books_that_lost_something_do_not_check() -> None:
    books = Statements()
    (closed,) = windows(1, "a", "b")
    books.book(msgspec.structs.replace(closed, entries=closed.entries[1:]))
    with pytest.raises(AssertionError):
        books.check()


def test_truth_lies_within_what_statements_state() -> None:
    dice = random.Random(11)
    trace = Trace(dice, 60.0)
    ledger, books = DeviceLedger(StepEnergy(stated(TRUTH, "modelled", 0.1, TYPICAL))), Statements()
    for closing in SimulatedMeter(trace, dice).windows(0.5):
        books.book(ledger.close(closing, trace.within(closing.begin_s, closing.end_s)))
    books.check()
    within, count = 0, 0
    for request, truth in trace.paid.items():
        energy = books.settle(request, "answered").energy
        if energy is not None:
            count += 1
            within += abs(energy.value - truth) <= energy.uncertainty
    assert count > 300
    assert within >= 0.95 * count


def test_statements_are_json() -> None:
    books = Statements()
    for closed in windows(2, "a", "b"):
        books.book(closed)
    said = books.provisional("a")
    assert msgspec.json.decode(msgspec.json.encode(said), type=Statement) == said
