"""Two attempts beside each other: who wins, what becomes of the other, and who pays for it (I11)."""

import pytest
from tests.control.builders import NOW_S, Bench, billed, kinds, the

from underlay.control.effects import Cancel, Close, Dispatch
from underlay.control.events import (
    AttemptFailed,
    ClientGone,
    Finished,
    FirstToken,
    ReplicaDraining,
    ReplicaLost,
    Tick,
)
from underlay.domain.answer import Usage

USED = Usage(10, 0, 5)


def raced(**more):
    """t1 runs on r1 as attempt 1 and, as it is late, on r2 as attempt 2."""
    bench = Bench(replicas=2, slots=8, hedge_share=1.0, **more)
    for number in range(17):
        bench.arrive(f"before {number}")
        bench.at += 0.1
        bench.tell(FirstToken(bench.at, f"before {number}", 1, 10, 0))
        bench.tell(Finished(bench.at, f"before {number}", 1, USED))
    first = the(Dispatch, bench.arrive("t1", streaming=True))
    bench.at += 1.0
    second = the(Dispatch, bench.tell(Tick(bench.at)))
    assert (second.ticket, second.attempt, second.beside, second.resume) == ("t1", 2, True, False)
    bench.replicas = (first.replica, second.replica)
    assert bench.replicas[0] != bench.replicas[1]
    return bench


def loads(bench):
    return [bench.load(name) for name in bench.replicas]


@pytest.mark.parametrize("winner", [1, 2])
def test_who_speaks_first_wins_and_the_other_is_cancelled(winner):
    bench = raced()
    assert loads(bench) == [1, 1]
    loser = 3 - winner
    assert bench.tell(FirstToken(bench.at, "t1", winner, 10, 0)) == [Cancel("t1", bench.replicas[loser - 1], loser)]
    assert bench.tell(FirstToken(bench.at, "t1", loser, 99, 0)) == []
    assert bench.tell(Finished(bench.at, "t1", loser, Usage(99, 0, 99))) == []
    assert billed(bench.tell(Finished(bench.at, "t1", winner, USED)))[:2] == ("finished", USED)
    assert loads(bench) == [0, 0]


@pytest.mark.parametrize("winner", [1, 2])
def test_an_answer_that_comes_whole_wins_too(winner):
    bench = raced()
    effects = bench.tell(Finished(bench.at, "t1", winner, USED))
    assert kinds(effects)[:3] == ["Cancel", "Charge", "Close"]
    assert effects[0].attempt == 3 - winner
    assert loads(bench) == [0, 0]


@pytest.mark.parametrize("broken", [1, 2])
def test_when_one_breaks_the_other_goes_on_and_nothing_is_said(broken):
    bench = raced()
    assert bench.tell(AttemptFailed(bench.at, "t1", broken, "reset")) == []
    assert loads(bench)[broken - 1] == 0
    assert bench.desk.replicas[bench.replicas[broken - 1]].strikes == 1
    assert billed(bench.tell(Finished(bench.at, "t1", 3 - broken, USED)))[0] == "finished"


def test_when_both_break_it_starts_afresh_like_any_other():
    bench = raced()
    bench.see("r3", slots=8)
    bench.tell(AttemptFailed(bench.at, "t1", 1, "reset"))
    dispatch = the(Dispatch, bench.tell(AttemptFailed(bench.at, "t1", 2, "reset")))
    assert (dispatch.replica, dispatch.attempt, dispatch.beside) == ("r3", 3, False)


def test_what_one_engine_rejects_as_the_callers_fault_ends_both():
    bench = raced()
    effects = bench.tell(AttemptFailed(bench.at, "t1", 2, "rejected", 0, "no such tool"))
    assert kinds(effects)[:3] == ["Cancel", "Charge", "Close"]
    assert effects[0].attempt == 1
    assert the(Close, effects).message == "no such tool"
    assert loads(bench) == [0, 0]


def test_i4_a_caller_who_leaves_frees_both_slots():
    bench = raced()
    effects = bench.tell(ClientGone(bench.at, "t1", Usage()))
    assert [effect.attempt for effect in effects if type(effect) is Cancel] == [1, 2]
    assert loads(bench) == [0, 0]


@pytest.mark.parametrize("lost", [1, 2])
def test_when_the_replica_of_one_is_lost_the_other_goes_on(lost):
    bench = raced()
    effects = bench.tell(ReplicaLost(bench.at, bench.replicas[lost - 1], "killed"))
    assert effects == [Cancel("t1", bench.replicas[lost - 1], lost)]
    assert bench.desk.tickets["t1"].lease.attempt == 3 - lost


def test_a_drain_that_is_over_ends_one_of_two_without_a_word_to_the_caller():
    bench = raced(drain_s=5.0)
    bench.tell(ReplicaDraining(bench.at, bench.replicas[0]))
    bench.at += 5
    assert kinds(bench.tell(Tick(bench.at))) == ["Cancel", "Drained"]


def test_i11_the_bill_counts_the_prompt_of_the_winner_alone():
    bench = raced()
    bench.tell(FirstToken(bench.at, "t1", 2, 12, 4))
    assert bench.desk.tickets["t1"].usage == Usage(12, 4, 0)


def test_one_of_whom_something_was_seen_gets_no_hedge():
    bench = Bench(replicas=2, slots=8, hedge_share=1.0)
    for number in range(17):
        bench.arrive(f"before {number}")
        bench.at += 0.1
        bench.tell(FirstToken(bench.at, f"before {number}", 1, 10, 0))
    bench.arrive("t1", streaming=True)
    bench.tell(FirstToken(bench.at, "t1", 1, 10, 0))
    assert "Dispatch" not in kinds(bench.tell(Tick(bench.at + 9)))


def test_without_a_second_replica_there_is_no_hedge():
    bench = Bench(replicas=1, slots=8, hedge_share=1.0)
    for number in range(17):
        bench.arrive(f"before {number}")
        bench.at += 0.1
        bench.tell(FirstToken(bench.at, f"before {number}", 1, 10, 0))
        bench.tell(Finished(bench.at, f"before {number}", 1, USED))
    bench.arrive("t1")
    assert "Dispatch" not in kinds(bench.tell(Tick(bench.at + 9)))


def test_hedges_are_off_by_default():
    bench = Bench(replicas=2, slots=8)
    for number in range(40):
        bench.arrive(f"before {number}")
        bench.at += 0.1
        bench.tell(FirstToken(bench.at, f"before {number}", 1, 10, 0))
        bench.tell(Finished(bench.at, f"before {number}", 1, USED))
    bench.arrive("t1")
    assert bench.tell(Tick(NOW_S + 3600)) == []
