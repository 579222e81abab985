"""What becomes of a request whose attempt failed, and of the replica that failed it."""

from typing import get_args

import pytest
from tests.control.builders import NOW_S, settings

from underlay.control.events import Failure
from underlay.control.recovery import MEANING, strike, verdict
from underlay.control.routing import Replica

SETTINGS = settings(attempts_max=3, strikes_max=3, suspect_s=10.0)


@pytest.mark.parametrize(
    ("seen", "resumable", "what", "why"),
    [
        (False, True, "restart", "nothing had been delivered, so it starts afresh"),
        (False, False, "restart", "nothing had been delivered, so it starts afresh"),
        (True, True, "resume", "it goes on from exactly what was delivered"),
        (True, False, "give_up", "its constrained output cannot be continued from the middle"),
    ],
)
def test_what_was_delivered_is_continued_or_ends_visibly(seen, resumable, what, why):
    assert verdict(attempts=1, settings=SETTINGS, seen=seen, resumable=resumable) == (what, why)


def test_the_last_attempt_is_the_last():
    for attempts, what in ((1, "restart"), (2, "restart"), (3, "give_up"), (4, "give_up")):
        assert verdict(attempts=attempts, settings=SETTINGS, seen=False, resumable=True)[0] == what
    assert verdict(attempts=3, settings=SETTINGS, seen=False, resumable=True)[1] == (
        "3 replicas were tried, the most allowed"
    )


def test_the_third_failure_in_a_row_makes_a_replica_suspect():
    replica = Replica("r1", "gemma", 2, 0)
    assert [strike(replica, SETTINGS, NOW_S) for _ in range(3)] == [False, False, True]
    assert replica.suspect_until == NOW_S + 10


@pytest.mark.parametrize("state", ["suspect", "lost"])
def test_a_replica_that_is_away_is_not_sent_away_again(state):
    replica = Replica("r1", "gemma", 2, 0)
    replica.state, replica.strikes, replica.suspect_until = state, 3, 1.0
    assert not strike(replica, SETTINGS, NOW_S)
    assert replica.strikes == 4
    assert replica.suspect_until == 1.0


def test_every_failure_has_a_meaning_for_people():
    assert set(MEANING) == {*get_args(Failure), "lost"}
