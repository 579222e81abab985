"""By which hour a request is charged, and what stands beside its energy."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from tests.twin.ledger.test_taken import exchange

from underlay.ledger.modelled import network
from underlay.twin.crowd.call import BYTES_PER_TOKEN
from underlay.twin.ledger.hours import Hours
from underlay.twin.ledger.requests import Rates, request_columns
from underlay.twin.ledger.taken import Taken
from underlay.twin.records import COLUMNS, Requests
from underlay.twin.world import energy_book as book

#: Grams for each joule of the feeder, hour by hour.
GRAMS = (1.0, 2.0, 5.0)


def hours() -> Hours:
    """Three hours of one region with two accelerators, of which one computes."""
    drawn = np.ones((len(book.KINDS), 3, 1))
    drawn[book.BUSY], drawn[book.IDLE], drawn[book.HOST] = 100.0, 20.0, 30.0
    drawn[book.CHAIN], drawn[book.COOLING], drawn[book.ACTIVE] = 10.0, 5.0, 8.0
    drawn[book.FEEDER] = 165.0
    drawn[book.HOURS] = 3600.0
    drawn[book.CARBON, :, 0] = np.array(GRAMS) * 165.0
    known = np.ones((len(book.KINDS), 1), dtype=np.bool_)
    return Hours(["west"], np.array([3600.0, 7200.0, 10800.0]), drawn, known, np.array([2.0]))


def columns(*rows: dict[str, float]) -> dict[str, np.ndarray]:
    """What each takes of the 100 J of its hour."""
    requests, taken = Requests(), Taken()
    for kind in ("region", "tenant", "model"):
        requests.place(kind, "west")
    for row in rows:
        usual = {"prompt_tokens": 90, "output_tokens": 10, "within_s": nan, "e2e_s": 2.0}
        requests.add(*({**dict.fromkeys(COLUMNS, 0), **usual, **row}[name] for name in COLUMNS))
        taken.write(exchange((100.0, 0.0, False, True)), "finished")
    rates = Rates(*(np.array([each]) for each in (3.0, 7.0, nan, 20.0)))
    return request_columns(requests, taken, hours(), rates)


def test_who_waited_is_charged_by_the_hour_that_it_was_answered_in() -> None:
    found = columns(
        {"arrived_s": 100.0},
        {"arrived_s": 100.0, "held_s": 7200.0, "e2e_s": 7300.0},
        {"arrived_s": 3700.0, "held_s": 0.0, "e2e_s": nan},
    )
    fed = found["energy_joules"] + found["overhead_joules"]
    assert (found["carbon_location_g"] / fed).tolist() == pytest.approx([GRAMS[0], GRAMS[2], GRAMS[1]])


def test_what_stands_beside_is_not_in_its_energy() -> None:
    found = columns({"arrived_s": 100.0}, {"arrived_s": 4000.0})
    assert found["energy_joules"].tolist() == [108.0, 108.0]
    assert found["idle_beside_joules"].tolist() == [20.0, 20.0]
    assert found["network_joules"].tolist() == pytest.approx([network(100.0 * BYTES_PER_TOKEN).value] * 2)
    assert found["accelerator_usd"].tolist() == [1.5, 1.5]  # half of the hour of all
    assert "carbon_marginal_g" not in found
