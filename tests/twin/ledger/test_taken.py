"""Joules of attempts to accounts of rows, moved and never copied."""

from __future__ import annotations

import pytest
from tests.twin.engine.worlds import TIMES

from underlay.twin.crowd.call import Call
from underlay.twin.engine import PagedRules
from underlay.twin.exchange import Attempt, Exchange
from underlay.twin.ledger.taken import TAKEN, Taken
from underlay.twin.modelled import Modelled

REPLICA = Modelled("r", "m", PagedRules(blocks=100), TIMES)


def exchange(*attempts: tuple[float, float, bool, bool]) -> Exchange:
    """One with attempts of so many joules and wasted ones; whether each failed, and whether each finished."""
    made = Exchange(Call(0.0, 10, 5, band="batch"), "t", None, 0.0)
    made.tried = []
    for joules, wasted_j, failed, finished in attempts:
        attempt = Attempt(made, REPLICA, len(made.tried) + 1)
        attempt.joules, attempt.wasted_j, attempt.failed = joules, wasted_j, failed
        attempt.finished_at = 1.0 if finished else None
        made.tried.append(attempt)
    return made


@pytest.mark.parametrize(
    ("outcome", "attempts", "expected"),
    [
        ("finished", [(5.0, 1.0, False, True)], (5.0, 1.0, 0.0, 0.0)),
        ("finished", [(3.0, 1.0, True, False), (5.0, 0.0, False, True)], (5.0, 0.0, 4.0, 0.0)),
        ("finished", [(3.0, 0.0, False, False), (5.0, 0.0, False, True)], (5.0, 0.0, 3.0, 0.0)),  # a hedge won
        ("left", [(3.0, 0.0, True, False), (5.0, 2.0, False, False)], (0.0, 0.0, 3.0, 7.0)),
        ("failed", [(3.0, 2.0, False, False)], (0.0, 0.0, 5.0, 0.0)),
        ("open", [(3.0, 2.0, False, False)], (3.0, 2.0, 0.0, 0.0)),
        ("refused", [], (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_joules_go_where_their_attempt_ended(outcome, attempts, expected):
    taken = Taken()
    taken.write(exchange(*attempts), outcome)
    columns = taken.columns()
    assert tuple(columns[name][0] for name in TAKEN[:4]) == expected


def test_what_comes_late_is_added_to_its_row_and_once():
    taken, first, second = Taken(), exchange((5.0, 0.0, False, False)), exchange((1.0, 0.0, False, True))
    taken.write(first, "left")
    taken.write(second, "finished")
    first.tried[0].joules = 2.0
    taken.add(first)
    taken.add(first)
    assert taken.columns()["abandoned_streams"].tolist() == [7.0, 0.0]
    assert taken.columns()["busy"].tolist() == [0.0, 1.0]
    assert list(taken.band_names) == ["batch"]
    assert len(taken) == 2
