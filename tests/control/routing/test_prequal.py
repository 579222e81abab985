"""Prequal."""

import pytest
from tests.control.routing.fleets import ask, fast, policy, pool_of

from underlay.control.routing.prequal import _uses


def told(chooser, pool, at=0.0, **rifs):
    for name, rif in rifs.items():
        chooser.probed(pool.members[name], rif, 0, at)


def choose(chooser, pool, index, at=0.0):
    return chooser.choose(ask(at=at), pool.open, pool, index)


def test_of_the_cold_the_quickest_is_chosen_though_another_has_fewer_in_flight():
    pool, index = pool_of(8, 8, 8)
    fast(pool.members["r1"], 1_000)
    fast(pool.members["r2"], 10_000)
    fast(pool.members["r3"], 50_000)
    chooser = policy("prequal")
    told(chooser, pool, r1=0, r2=2, r3=90)
    choice = choose(chooser, pool, index)
    assert choice.replica.name == "r2"
    assert "2 in flight" in choice.why


def test_the_hot_are_left_alone_however_quick_they_are():
    pool, index = pool_of(*[64] * 8)
    for name in pool.members:
        fast(pool.members[name], 1_000)
    fast(pool.members["r8"], 1e9)
    chooser = policy("prequal")
    told(chooser, pool, **{f"r{number}": 3 for number in range(1, 8)}, r8=40)
    assert choose(chooser, pool, index).replica.name != "r8"


def test_answers_older_than_a_second_are_not_used():
    pool, index = pool_of(8, 8)
    chooser = policy("prequal")
    told(chooser, pool, r1=0, r2=5)
    assert choose(chooser, pool, index, at=1.0).why.startswith("quickest")
    assert choose(chooser, pool, index, at=1.01).why.startswith("too few fresh probes; less busy of two")


def test_the_pool_keeps_sixteen_answers():
    pool, _ = pool_of(*[4] * 40)
    chooser = policy("prequal")
    for replica in pool.members.values():
        chooser.probed(replica, 0, 0, 0.0)
    assert len(chooser._answers["gemma"]) == 16


def test_a_used_answer_counts_what_was_sent_since():
    """Otherwise everybody herds to whoever said last that it is idle."""
    pool, index = pool_of(*[64] * 4)
    chooser = policy("prequal")
    told(chooser, pool, r1=0, r2=0, r3=0, r4=0)
    assert len({choose(chooser, pool, index).replica.name for _ in range(2)}) == 2


def test_after_each_choice_the_oldest_and_the_worst_are_dropped_in_turns():
    pool, index = pool_of(*[64] * 5)
    fast(pool.members["r3"], 1e9)
    chooser = policy("prequal")
    told(chooser, pool, r1=1, r2=1, r3=0, r4=9, r5=1)
    assert choose(chooser, pool, index).replica.name == "r3"
    answers = chooser._answers["gemma"]
    assert [replica.name for replica in answers] == ["r2", "r3", "r4", "r5"]
    assert answers[pool.members["r3"]].rif == 1
    choose(chooser, pool, index)
    assert [replica.name for replica in answers] == ["r2", "r3", "r5"]


@pytest.mark.parametrize(("members", "uses"), [(1, 4), (10, 4), (32, 4), (100, 2), (10_000, 2)])
def test_answers_are_used_a_bounded_number_of_times(members, uses):
    assert _uses(members) == uses
    pool, index = pool_of(64, 64)
    chooser = policy("prequal")
    told(chooser, pool, r1=0, r2=0)
    whys = [choose(chooser, pool, index).why for _ in range(9)]
    assert whys[-1].startswith("too few")


def test_what_the_desk_leased_is_the_least_a_replica_carries_whatever_it_says():
    pool, index = pool_of(64, 64)
    pool.take(pool.members["r1"], 1, 0.0, 20, 0, 0, 1.0)
    chooser = policy("prequal")
    told(chooser, pool, r1=0, r2=3)
    assert choose(chooser, pool, index).replica.name == "r2"


def test_a_replica_that_fails_at_once_swallows_nothing():
    """It has nothing in flight because it answers errors; it must not be sent everything for that."""
    pool, index = pool_of(*[64] * 3)
    pool.members["r1"].strikes = 2
    chooser, chosen = policy("prequal"), []
    for turn in range(20):
        told(chooser, pool, at=float(turn), r1=0, r2=2, r3=2)
        chosen.append(choose(chooser, pool, index, at=float(turn)).replica.name)
    assert "r1" not in chosen


def test_three_of_those_that_may_be_chosen_are_probed_each_time():
    pool, _ = pool_of(*[1] * 20)
    chooser = policy("prequal")
    probed = [tuple(replica.name for replica in chooser.probes(pool)) for _ in range(100)]
    assert all(len(set(names)) == 3 for names in probed)
    assert len({name for names in probed for name in names}) == 20
    assert chooser.probes(pool_of(1, 1)[0]) != ()
