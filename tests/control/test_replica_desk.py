"""The life of replicas on the desk: drained in two phases, started slowly, reborn, compared, asked how busy they are."""

import pytest
from msgspec.structs import replace
from tests.control.builders import EMBEDDER, MODEL, NOW_S, Bench, billed, kinds, the

from underlay.control.concurrency import Limit
from underlay.control.effects import Cancel, Close, Dispatch, Drained, Eject, Hold, Probe, WakeAt
from underlay.control.events import (
    AttemptFailed,
    Finished,
    FirstToken,
    Probed,
    ReplicaDraining,
    ReplicaLost,
    ReplicaSeen,
    SettingsChanged,
    Tick,
)
from underlay.domain.answer import Usage

USED = Usage(10, 0, 5)


def tick(bench, later_s):
    bench.at += later_s
    return bench.tell(Tick(bench.at))


def finish(bench, ticket, attempt=1):
    return bench.tell(Finished(bench.at, ticket, attempt, USED))


def fail(bench, ticket, attempt=1):
    return bench.tell(AttemptFailed(bench.at, ticket, attempt, "reset"))


def drain(bench, replica="r1", wanted=False):
    return bench.tell(ReplicaDraining(bench.at, replica, not wanted))


# Drains.


def test_a_draining_replica_gets_nothing_new():
    bench = Bench(replicas=2)
    bench.arrive("t1")
    assert drain(bench) == [WakeAt(NOW_S + 120)]
    assert {the(Dispatch, bench.arrive(f"new {number}")).replica for number in range(2)} == {"r2"}
    assert "Hold" in kinds(bench.arrive("t4"))


def test_one_on_which_nothing_runs_is_drained_at_once():
    assert the(Drained, drain(Bench())).replica == "r1"


def test_it_is_drained_when_the_last_of_its_streams_ends():
    bench = Bench(replicas=2)
    bench.arrive("t1")
    drain(bench)
    assert kinds(finish(bench, "t1")) == ["Charge", "Close", "Drained"]


def test_after_its_time_streams_go_on_elsewhere_and_others_start_afresh():
    bench = Bench(replicas=1, slots=4, drain_s=30.0)
    bench.arrive("seen", streaming=True)
    bench.tell(FirstToken(bench.at, "seen", 1, 10, 0))
    bench.arrive("unseen")
    bench.see("r2", slots=4)
    tick(bench, 60)
    drain(bench)
    assert kinds(tick(bench, 29.9)) == ["WakeAt"]
    effects = tick(bench, 0.1)
    assert kinds(effects) == ["Cancel", "Dispatch", "Cancel", "Dispatch", "Drained"]
    assert [(each.ticket, each.replica, each.resume) for each in effects if type(each) is Dispatch] == [
        ("seen", "r2", True),
        ("unseen", "r2", False),
    ]
    assert bench.desk.replicas["r1"].strikes == 0  # it is not to blame


def test_what_cannot_be_continued_ends_visibly_when_the_drain_is_over():
    bench = Bench(replicas=2, drain_s=30.0)
    bench.arrive(streaming=True, resumable=False)
    bench.tell(FirstToken(bench.at, "t1", 1, 10, 0))
    drain(bench)
    effects = tick(bench, 30)
    assert billed(effects) == ("failed", Usage(10, 0, 0), 0)
    assert the(Close, effects).reason == "upstream_failed"
    assert kinds(effects)[-1] == "Drained"


def test_one_that_is_wanted_again_serves_again_and_its_streams_stay():
    bench = Bench(replicas=1, slots=1, drain_s=30.0)
    bench.arrive("t1")
    drain(bench)
    bench.arrive("t2")
    drain(bench, wanted=True)
    assert the(Dispatch, finish(bench, "t1")).ticket == "t2"
    assert tick(bench, 40) == []  # the appointment of the drain that was taken back
    assert bench.load("r1") == 1


def test_a_drain_taken_back_and_begun_again_has_its_whole_time():
    bench = Bench(replicas=2, drain_s=30.0)
    bench.arrive("t1")
    drain(bench)
    bench.at += 20
    drain(bench, wanted=True)
    drain(bench)
    assert "Cancel" not in kinds(tick(bench, 10))
    assert "Cancel" in kinds(tick(bench, 20))


def test_draining_twice_or_a_stranger_or_a_lost_one_changes_nothing():
    bench = Bench(replicas=2)
    drain(bench)
    bench.tell(ReplicaLost(bench.at, "r2", "killed"))
    for told in (drain(bench), drain(bench, "ghost"), drain(bench, "r2"), drain(bench, "r2", wanted=True)):
        assert told == []


def test_a_draining_replica_that_is_lost_lets_its_streams_go_on_at_once():
    bench = Bench(replicas=2)
    bench.arrive("t1")
    drain(bench)
    assert kinds(bench.tell(ReplicaLost(bench.at, "r1", "killed"))) == ["Cancel", "Dispatch"]


def test_the_rest_may_be_drained_while_one_is_suspect():
    bench = Bench(replicas=2, strikes_max=1)
    bench.arrive("t1")
    assert "Eject" in kinds(fail(bench, "t1"))
    assert the(Drained, drain(bench)).replica == "r1"
    tick(bench, 11)
    assert bench.desk.replicas["r1"].state == "draining"  # nobody forgives it back into service


# Slow starts.


def busy(**more):
    """r1 carries eight, and r2 has just come with eight slots."""
    bench = Bench(replicas=1, slots=16, slow_start_s=8.0, **more)
    for number in range(8):
        bench.arrive(f"t{number}")
    bench.see("r2", slots=8)
    return bench


def test_one_that_comes_to_a_busy_pool_gets_its_slots_step_by_step():
    bench = busy()
    capacities = [bench.desk.replicas["r2"].capacity]
    for _ in range(4):
        tick(bench, 2)
        capacities.append(bench.desk.replicas["r2"].capacity)
    assert capacities == [1, 2, 4, 6, 8]


def test_one_that_comes_to_an_idle_pool_gets_all_at_once():
    bench = Bench(replicas=1)
    bench.see("r2", slots=8)
    assert bench.desk.replicas["r2"].capacity == 8


@pytest.mark.parametrize("gone", ["lost", "drained"])
def test_when_another_goes_the_one_that_starts_slowly_is_needed_whole(gone):
    bench = busy()
    bench.tell(ReplicaLost(bench.at, "r1", "killed")) if gone == "lost" else drain(bench)
    assert bench.desk.replicas["r2"].capacity == 8


def test_those_who_wait_are_served_with_each_step():
    bench = Bench(replicas=1, slots=2, slow_start_s=8.0)
    for number in range(4):
        bench.arrive(f"t{number}")
    assert kinds(bench.see("r2", slots=4)).count("Dispatch") == 1
    assert kinds(tick(bench, 4)).count("Dispatch") == 1


def test_one_that_is_forgiven_starts_slowly_and_on_probation():
    bench = Bench(replicas=2, slots=8, strikes_max=2, suspect_s=10.0)
    for number in range(6):
        bench.arrive(f"t{number}")
    fail(bench, "t0")
    fail(bench, "t2")
    assert bench.desk.replicas["r1"].state == "suspect"
    tick(bench, 10)
    replica = bench.desk.replicas["r1"]
    assert (replica.state, replica.strikes, replica.capacity) == ("ready", 1, 1)


# Outliers.


def used_to(bench, name, itl_s):
    """A replica that has long had such a time between tokens."""
    limit = bench.desk.replicas[name].limit = Limit(8)
    for number in range(300):
        limit.decoded(itl_s, 100.0, NOW_S + number * 0.1)
    bench.at = NOW_S + 60


def a_round(bench, itl_s):
    """Eight answers of eleven tokens from each replica, as fast as it is now; what the desk says to the end of them."""
    for number in range(8 * len(itl_s)):
        name = f"t{number} at {bench.at}"
        bench.arrive(name, max_tokens=11)
        bench.tell(FirstToken(bench.at, name, 1, 10, 0))
    running, begun_at, said = list(bench.desk.tickets.values()), bench.at, []
    for ticket in sorted(running, key=lambda ticket: itl_s[ticket.replica.name]):
        bench.at = begun_at + 10 * itl_s[ticket.replica.name]
        said += bench.tell(Finished(bench.at, ticket.name, 1, Usage(10, 0, 11)))
    return [effect for effect in said if type(effect) is Eject]


def test_one_that_has_become_far_slower_than_its_peers_is_left_alone():
    bench = Bench(replicas=3, slots=8, routing="round_robin")
    for name in ("r1", "r2", "r3"):
        used_to(bench, name, 0.02)
    now = {"r1": 0.02, "r2": 0.02, "r3": 0.5}
    assert a_round(bench, now) == []  # eight measurements say too little
    (eject,) = a_round(bench, now)
    assert eject.replica == "r3"
    assert eject.why == "with as much work as usual it takes 303 ms a token, its pool 12 ms"


def test_one_that_was_always_slow_is_not():
    bench = Bench(replicas=3, slots=8, routing="round_robin")
    now = {"r1": 0.02, "r2": 0.02, "r3": 0.5}
    for name, itl_s in now.items():
        used_to(bench, name, itl_s)
    assert [a_round(bench, now) for _ in range(3)] == [[], [], []]


# Being seen.


def test_what_its_cache_holds_is_what_it_says_or_else_what_the_settings_say():
    bench = Bench(index_tokens=3200)
    block_tokens = bench.desk.of_model(MODEL).index.block_tokens
    assert bench.desk.replicas["r1"].blocks_max == int(3200 / block_tokens)
    bench.tell(ReplicaSeen(bench.at, "r2", MODEL, 2, 0, 6400))
    assert bench.desk.replicas["r2"].blocks_max == int(6400 / block_tokens)


def test_a_lost_replica_has_an_empty_cache():
    bench = Bench()
    bench.arrive(prompt_bytes=512, blocks=(1, 2, 3, 4))
    finish(bench, "t1")
    assert len(bench.desk.replicas["r1"].blocks) == 4
    bench.tell(ReplicaLost(bench.at, "r1", "killed"))
    assert not bench.desk.replicas["r1"].blocks
    bench.see("r1", generation=1)
    assert the(Dispatch, bench.arrive("t2", prompt_bytes=512, blocks=(1, 2, 3, 4))).why.startswith("none warm")


def test_when_it_comes_back_with_another_model_what_ran_on_it_goes_on_with_the_old_one():
    bench = Bench(replicas=2)
    bench.arrive("t1")
    effects = bench.see("r1", generation=1, model=EMBEDDER.name)
    assert effects[0] == Cancel("t1", "r1", 1)
    assert (the(Dispatch, effects).ticket, the(Dispatch, effects).replica) == ("t1", "r2")
    assert "r1" not in bench.desk.of_model(MODEL).pool.members
    asked = bench.arrive("e1", model=EMBEDDER.name, operation="embedding")
    assert the(Dispatch, asked).replica == "r1"


def test_when_the_only_replica_changes_its_model_its_work_waits_for_another():
    bench = Bench()
    bench.arrive("t1")
    hold = the(Hold, bench.see("r1", generation=1, model=EMBEDDER.name))
    assert hold.why.endswith("no replica is ready yet")
    assert the(Dispatch, bench.see("r9")).ticket == "t1"


def test_it_may_come_back_with_fewer_slots_than_it_had_streams():
    bench = Bench(slots=4)
    for number in range(4):
        bench.arrive(f"t{number}")
    effects = bench.see("r1", slots=1, generation=1)
    assert kinds(effects).count("Dispatch") == 1
    assert len(bench.waiting()) == 3


# Probes.


def test_a_policy_that_probes_has_replicas_asked_and_hears_them():
    bench = Bench(replicas=2, slots=8, routing="prequal")
    effects = bench.arrive("t1")
    assert [effect.replica for effect in effects if type(effect) is Probe] == ["r1", "r2"]
    bench.tell(Probed(bench.at, "r1", 7, 3))
    bench.tell(Probed(bench.at, "r2", 0, 0))
    assert {the(Dispatch, bench.arrive(f"t{number}")).replica for number in (2, 3)} == {"r2"}


@pytest.mark.parametrize("policy", ["round_robin", "sticky", "least_requests"])
def test_the_others_ask_nobody(policy):
    bench = Bench(replicas=2, routing=policy)
    assert "Probe" not in kinds(bench.arrive())
    assert bench.tell(Probed(bench.at, "r1", 7, 3)) == []


def test_what_a_lost_replica_said_is_not_listened_to():
    bench = Bench(replicas=3, slots=8, routing="prequal")
    bench.tell(Probed(bench.at, "r1", 0, 0))
    bench.tell(ReplicaLost(bench.at, "r1", "killed"))
    bench.tell(Probed(bench.at, "r1", 0, 0))
    assert "too few fresh probes" in the(Dispatch, bench.arrive()).why


def test_settings_that_turn_measured_limits_off_and_on_reach_replicas_that_run():
    bench = Bench()
    for adaptive in (False, True):
        bench.tell(SettingsChanged(bench.at, replace(bench.desk.settings, adaptive=adaptive)))
        assert (bench.desk.replicas["r1"].limit is not None) == adaptive
