"""Each event at the one door, and each way it can go."""

from decimal import Decimal

import pytest
from msgspec.structs import replace
from tests.control.builders import EMBEDDER, GEMMA, MODEL, NOW_S, Bench, arrived, billed, key, kinds, settings, the

from underlay.control.desk import assemble
from underlay.control.effects import Admitted, Cancel, Charge, Close, Cut, Dispatch, Eject, Hold, Refuse, WakeAt
from underlay.control.events import (
    AttemptFailed,
    ClientGone,
    Finished,
    FirstToken,
    KeyChanged,
    Progress,
    ReplicaLost,
    SettingsChanged,
    Tick,
)
from underlay.domain.answer import Usage
from underlay.domain.errors import ERROR_OF_REASON
from underlay.domain.keys import Limits
from underlay.domain.money import OwnPrice
from underlay.domain.policy import Account, DeskSettings

USED = Usage(10, 4, 5)
CHOSEN = "least pressed: "
COST = 6 * 150_000 + 4 * 75_000 + 5 * 600_000


def finish(bench, ticket, attempt=1, usage=USED):
    return bench.tell(Finished(bench.at, ticket, attempt, usage))


def fail(bench, ticket, attempt=1, failure="reset", tokens=0, detail=""):
    return bench.tell(AttemptFailed(bench.at, ticket, attempt, failure, tokens, detail))


def first_token(bench, ticket, attempt=1):
    return bench.tell(FirstToken(bench.at, ticket, attempt, 10, 4))


def tick(bench, at):
    bench.at = at
    return bench.tell(Tick(at))


def swamp(bench, count, **more):
    """Fill the replicas and the queue."""
    for number in range(1, count + 1):
        bench.arrive(f"t{number}", **more)


# Arrived.


def test_a_prompt_is_admitted_and_dispatched_with_reasons():
    assert Bench().arrive() == [
        Admitted("t1", "key_ann", "ann's", "key key_ann of ann's, within its limits; band standard", "standard"),
        Dispatch("t1", "r1", 1, False, f"{CHOSEN}0 of 2 slots in use"),
    ]


def test_load_is_taken_at_the_moment_of_choice_so_the_next_goes_elsewhere():
    bench = Bench(replicas=2)
    assert [the(Dispatch, bench.arrive(f"t{i}")).replica for i in range(4)] == ["r1", "r2", "r1", "r2"]


def test_a_request_for_several_answers_leases_as_many_slots():
    bench = Bench(slots=4)
    bench.arrive(strands=3)
    assert bench.load("r1") == 3
    assert kinds(bench.arrive("t2", strands=2)) == ["Admitted", "Hold", "WakeAt"]
    finish(bench, "t1")
    assert bench.load("r1") == 2


REFUSALS = {
    "invalid_api_key": {"who": "stranger"},
    "model_not_found": {"model": "gpt"},
    "model_not_allowed": {"who": "bob"},
    "bad_request": {"operation": "embedding"},
    "context_length_exceeded": {"prompt_bytes": 10**6},
    "rate_limit_exceeded": {"who": "busy"},
}


def who_is_over(reason):
    return reason == "rate_limit_exceeded"


@pytest.mark.parametrize(("reason", "asked"), REFUSALS.items())
def test_a_refusal_has_one_reason_code_and_leaves_nothing_behind(reason, asked):
    """I28."""
    bench = Bench()
    bench.tell(KeyChanged(bench.at, key("bob", models=("embedder",))))
    bench.tell(KeyChanged(bench.at, key("busy", limits=Limits(concurrent=1))))
    bench.arrive("t0", who="busy")
    (refuse,) = bench.arrive("t1", **asked)
    assert type(refuse) is Refuse
    assert refuse.reason == reason in ERROR_OF_REASON
    assert refuse.message
    assert refuse.why == ("over a limit of its own" if who_is_over(reason) else "refused at admission")
    assert list(bench.desk.tickets) == ["t0"]


def test_a_limit_says_when_there_is_room_again_and_that_is_true():
    bench = Bench(limits=Limits(requests_per_minute=1))
    bench.arrive("t1")
    refuse = the(Refuse, bench.arrive("t2"))
    assert refuse.retry_after_s == 60.0
    bench.at += refuse.retry_after_s
    assert kinds(bench.arrive("t3")) == ["Admitted", "Dispatch"]


def test_the_same_ticket_twice_is_a_drivers_defect():
    bench = Bench()
    bench.arrive()
    with pytest.raises(AssertionError, match="ticket t1 arrived twice"):
        bench.arrive()


def test_without_a_replica_a_prompt_waits_and_says_why():
    assert Bench(replicas=0).arrive()[1:] == [
        Hold("t1", 1, NOW_S + 120, "no replica is ready yet"),
        WakeAt(NOW_S + 120),
    ]


def test_when_all_slots_are_taken_prompts_wait_in_line():
    bench = Bench()
    swamp(bench, 3)
    hold = the(Hold, bench.arrive("t4"))
    assert (hold.place, hold.why) == (2, "every slot of 1 ready replicas is in use")


def test_one_alarm_is_enough_for_all_that_wait():
    bench = Bench(replicas=0)
    assert WakeAt(NOW_S + 120) in bench.arrive("t1")
    assert "WakeAt" not in kinds(bench.arrive("t2"))
    assert WakeAt(NOW_S + 5) in bench.arrive("t3", deadline_s=5.0)


def test_the_line_is_bounded_and_beyond_it_the_platform_says_that_it_is_full():
    """I19."""
    bench = Bench(waiting_max=2)
    swamp(bench, 4)
    refuse = the(Refuse, bench.arrive("t5"))
    assert (refuse.reason, refuse.retry_after_s) == ("overloaded", 1.0)
    assert bench.waiting() == ["t3", "t4"]


def test_nobody_overtakes_the_line():
    bench = Bench(slots=2)
    bench.arrive("t1")
    bench.arrive("wide", strands=2)
    assert kinds(bench.arrive("narrow")) == ["Admitted", "Hold"]
    assert bench.waiting() == ["wide", "narrow"]


# Finished, and what comes before.


def test_a_finished_prompt_is_charged_once_and_then_closed():
    """I7."""
    bench = Bench()
    bench.arrive()
    first_token(bench, "t1")
    assert finish(bench, "t1") == [
        Charge("t1", "key_ann", "ann's", MODEL, USED, COST, "finished"),
        Close("t1", "finished", "every strand ended as the engine said"),
    ]
    assert finish(bench, "t1") == []
    assert bench.load("r1") == 0


def test_a_slot_set_free_lets_the_next_in_behind_the_close():
    bench = Bench()
    swamp(bench, 4)
    effects = finish(bench, "t1")
    assert kinds(effects) == ["Charge", "Close", "Dispatch"]
    assert effects[-1] == Dispatch("t3", "r1", 1, False, f"waited; {CHOSEN}1 of 2 slots in use")
    assert bench.waiting() == ["t4"]


def test_words_of_unknown_tickets_and_old_attempts_change_nothing():
    bench = Bench(replicas=2)
    bench.arrive()
    fail(bench, "t1")
    stale = [
        FirstToken(NOW_S, "t1", 1, 999, 0),
        Finished(NOW_S, "t1", 1, USED),
        AttemptFailed(NOW_S, "t1", 1, "reset"),
        Finished(NOW_S, "ghost", 1, USED),
        FirstToken(NOW_S, "ghost", 1, 1, 0),
        Progress(NOW_S, "ghost", 7),
        AttemptFailed(NOW_S, "ghost", 1, "reset"),
        ClientGone(NOW_S, "ghost", USED),
        ReplicaLost(NOW_S, "ghost", "never was"),
    ]
    for event in stale:
        assert bench.tell(event) == []
    assert bench.desk.tickets["t1"].usage == Usage()
    assert finish(bench, "t1", attempt=2)


def test_progress_is_what_a_crash_would_be_billed_by():
    bench = Bench()
    bench.arrive()
    first_token(bench, "t1")
    assert bench.tell(Progress(NOW_S, "t1", 32)) == []
    assert bench.desk.tickets["t1"].usage == Usage(10, 4, 32)


def test_progress_of_one_that_waits_is_not_believed():
    bench = Bench(replicas=0)
    bench.arrive()
    bench.tell(Progress(NOW_S, "t1", 32))
    assert bench.desk.tickets["t1"].usage == Usage()


# ClientGone.


def test_a_caller_who_leaves_frees_the_slot_and_pays_for_what_was_made():
    """I4, as far as decisions go."""
    bench = Bench()
    bench.arrive()
    assert bench.tell(ClientGone(NOW_S, "t1", USED)) == [
        Cancel("t1", "r1", 1),
        Charge("t1", "key_ann", "ann's", MODEL, USED, COST, "client_gone"),
        Close("t1", "client_gone", "the caller left; billed what the engine produced"),
    ]
    assert bench.load("r1") == 0


def test_a_caller_who_leaves_the_line_makes_way_and_pays_nothing():
    bench = Bench()
    swamp(bench, 4)
    effects = bench.tell(ClientGone(NOW_S, "t3", Usage()))
    assert billed(effects) == ("client_gone", Usage(), 0)
    assert "Cancel" not in kinds(effects)
    assert bench.waiting() == ["t4"]


def test_a_wide_request_that_leaves_the_line_lets_the_narrow_behind_it_in():
    bench = Bench(slots=2)
    bench.arrive("t1")
    bench.arrive("wide", strands=2)
    bench.arrive("narrow")
    assert the(Dispatch, bench.tell(ClientGone(NOW_S, "wide", Usage()))).ticket == "narrow"


# AttemptFailed.


def test_what_nobody_has_seen_starts_afresh_on_another_replica():
    bench = Bench(replicas=2)
    bench.arrive()
    assert fail(bench, "t1") == [
        Dispatch(
            "t1",
            "r2",
            2,
            False,
            "r1 broke the connection; nothing had been delivered, so it starts afresh; "
            f"{CHOSEN}0 of 2 slots in use",
        )
    ]
    assert (bench.load("r1"), bench.load("r2")) == (0, 1)


def test_what_was_seen_goes_on_from_there():
    bench = Bench(replicas=2)
    bench.arrive(streaming=True)
    first_token(bench, "t1")
    dispatch = the(Dispatch, fail(bench, "t1", tokens=3))
    assert dispatch.resume
    assert "it goes on from exactly what was delivered" in dispatch.why


def test_who_does_not_stream_has_seen_nothing_until_the_end():
    bench = Bench(replicas=2)
    bench.arrive(streaming=False, resumable=False)
    first_token(bench, "t1")
    assert not the(Dispatch, fail(bench, "t1", tokens=3)).resume


def test_a_constrained_answer_in_mid_stream_ends_in_a_visible_error_and_costs_nothing():
    bench = Bench(replicas=2)
    bench.arrive(streaming=True, resumable=False)
    first_token(bench, "t1")
    effects = fail(bench, "t1", tokens=3, detail="peer closed")
    assert billed(effects) == ("failed", Usage(10, 4, 3), 0)
    close = the(Close, effects)
    assert close.reason == "upstream_failed" in ERROR_OF_REASON
    assert close.message == (
        "r1 broke the connection; its constrained output cannot be continued from the middle. peer closed"
    )


def test_the_prompt_is_counted_once_however_many_attempts_it_takes():
    """I11."""
    bench = Bench(replicas=2)
    bench.arrive(streaming=True)
    first_token(bench, "t1")
    fail(bench, "t1", tokens=3)
    bench.tell(FirstToken(NOW_S, "t1", 2, 13, 0))
    assert bench.desk.tickets["t1"].usage == Usage(10, 4, 3)


def test_attempts_are_bounded():
    """I25, for one request."""
    bench = Bench(replicas=4, attempts_max=3)
    bench.arrive()
    fail(bench, "t1", 1)
    fail(bench, "t1", 2)
    effects = fail(bench, "t1", 3)
    assert kinds(effects) == ["Charge", "Close"]
    assert the(Close, effects).message == "r3 broke the connection; 3 replicas were tried, the most allowed."


def test_what_the_engine_rejects_is_the_callers_fault_and_no_strike():
    bench = Bench(replicas=2)
    bench.arrive()
    effects = fail(bench, "t1", failure="rejected", detail="the prompt is too long")
    assert billed(effects)[0] == "failed"
    close = the(Close, effects)
    assert (close.reason, close.message) == ("bad_request", "the prompt is too long")
    assert bench.desk.replicas["r1"].strikes == 0


def test_three_failures_in_a_row_send_a_replica_away_for_a_while():
    bench = Bench(replicas=2, slots=1, strikes_max=3, suspect_s=10, attempts_max=9)
    bench.arrive("other")
    bench.arrive("t1")  # on r2, and again and again: r1 is busy
    for attempt in (1, 2):
        fail(bench, "t1", attempt)
        bench.at += 1
        tick(bench, bench.at)
        bench.desk.tickets["t1"].tried = frozenset()
        bench.see("r2")
    effects = fail(bench, "t1", 3)
    assert effects[0] == Eject("r2", bench.at + 10, "3 failures in a row")
    assert the(Hold, effects).why.endswith("every slot of 1 ready replicas is in use")
    bench.arrive("t2")
    until = bench.at + 10
    assert "Dispatch" not in kinds(tick(bench, until - 1))
    assert the(Dispatch, tick(bench, until)).replica == "r2"
    assert kinds(fail(bench, "t2"))[0] == "Eject"  # forgiven, not forgotten
    assert bench.desk.replicas["r2"].suspect_until == until + 20  # and for longer


def test_the_last_ready_replica_is_not_sent_away():
    """I18: whoever is left serves, however badly."""
    bench = Bench(replicas=1, strikes_max=1, attempts_max=9)
    bench.arrive()
    assert "Eject" not in kinds(fail(bench, "t1"))
    assert bench.desk.replicas["r1"].state == "ready"


def test_the_only_replica_gets_a_breath_before_it_is_asked_again():
    """It may be dying: its end is reported a moment after its first broken stream."""
    bench = Bench(replicas=1, attempts_max=9)
    bench.arrive()
    assert "Hold" in kinds(fail(bench, "t1"))
    assert "Dispatch" not in kinds(tick(bench, NOW_S + 0.2))
    assert the(Dispatch, tick(bench, NOW_S + 0.25)).attempt == 2


def test_success_wipes_strikes_out():
    bench = Bench(replicas=1, strikes_max=2, attempts_max=9)
    bench.arrive("t1")
    fail(bench, "t1", 1)
    tick(bench, NOW_S + 1)
    finish(bench, "t1", attempt=2)
    assert bench.desk.replicas["r1"].strikes == 0


def test_one_that_was_served_before_waits_in_front():
    bench = Bench(replicas=2, slots=1)
    swamp(bench, 3)
    hold = the(Hold, fail(bench, "t1"))
    assert hold.place == 1
    assert "nothing had been delivered, so it starts afresh; every slot of 2 ready" in hold.why


def test_those_served_before_keep_their_order_among_themselves():
    bench = Bench(replicas=1, slots=3)
    swamp(bench, 5)
    effects = bench.tell(ReplicaLost(NOW_S, "r1", "killed"))
    assert [effect.place for effect in effects if type(effect) is Hold] == [1, 2, 3]
    assert bench.waiting() == ["t1", "t2", "t3", "t4", "t5"]


def test_one_that_waits_for_another_replica_does_not_keep_the_others_from_its_old_one():
    bench = Bench(replicas=2, slots=1)
    swamp(bench, 4)
    effects = fail(bench, "t1")  # r1 failed it and r2 is busy
    assert kinds(effects) == ["Hold", "Dispatch"]
    assert (the(Dispatch, effects).ticket, the(Dispatch, effects).replica) == ("t3", "r1")
    assert bench.waiting() == ["t1", "t4"]
    assert the(Dispatch, finish(bench, "t2")).ticket == "t1"


def test_newcomers_pass_one_that_waits_for_another_replica():
    bench = Bench(replicas=2, slots=1)
    swamp(bench, 2)
    fail(bench, "t1")
    assert the(Dispatch, bench.arrive("t3")).replica == "r1"


# Deadlines.


def test_a_callers_deadline_holds_while_it_waits():
    """I6."""
    bench = Bench(replicas=0)
    assert the(Hold, bench.arrive(deadline_s=5.0)).until == NOW_S + 5
    refuse = the(Refuse, tick(bench, NOW_S + 5))
    assert (refuse.reason, refuse.message) == (
        "deadline_exceeded",
        "no replica was free within 5 s; the platform is busy",
    )


def test_our_own_patience_is_not_called_the_callers_deadline():
    """Every official SDK sends a deadline of minutes: what ends after ours is worth trying again."""
    bench = Bench(replicas=0, wait_max_s=120)
    bench.arrive(deadline_s=600.0)
    refuse = the(Refuse, tick(bench, NOW_S + 120))
    assert (refuse.reason, refuse.retry_after_s) == ("overloaded", 1.0)


def test_a_deadline_holds_for_a_second_attempt_too():
    bench = Bench(replicas=1)
    bench.arrive(deadline_s=20.0)
    bench.at += 15
    assert the(Hold, fail(bench, "t1")).until == NOW_S + 20


def test_a_deadline_that_passed_during_an_attempt_ends_the_wait_at_once():
    bench = Bench(replicas=1)
    bench.arrive(deadline_s=5.0)
    bench.at += 15
    assert the(Hold, fail(bench, "t1")).until == NOW_S + 15
    assert billed(tick(bench, NOW_S + 15))[0] == "failed"


def test_a_caller_who_has_got_something_waits_for_the_rest():
    bench = Bench(replicas=1)
    bench.arrive(deadline_s=20.0, streaming=True)
    first_token(bench, "t1")
    bench.at += 15
    assert the(Hold, fail(bench, "t1")).until == NOW_S + 15 + 120


def test_at_its_deadline_a_prompt_that_is_still_being_read_is_given_up():
    """I6: what nobody waits for is not computed."""
    bench = Bench()
    assert bench.arrive(deadline_s=5.0)[-1] == WakeAt(NOW_S + 5)
    effects = tick(bench, NOW_S + 5)
    assert kinds(effects) == ["Cancel", "Charge", "Close"]
    assert billed(effects) == ("failed", Usage(), 0)
    assert the(Close, effects).reason == "deadline_exceeded" in ERROR_OF_REASON


def test_a_deadline_is_for_the_first_token():
    bench = Bench()
    bench.arrive(deadline_s=5.0, streaming=True)
    first_token(bench, "t1")
    assert tick(bench, NOW_S + 5) == []


# ReplicaLost and ReplicaSeen.


def test_a_lost_replica_sends_its_streams_on_and_cancels_the_old_ones():
    bench = Bench(replicas=2)
    bench.arrive("t1", streaming=True)
    bench.arrive("t2")
    bench.arrive("t3")  # on r1 again
    first_token(bench, "t1")
    effects = bench.tell(ReplicaLost(NOW_S, "r1", "killed by signal 9"))
    assert kinds(effects) == ["Cancel", "Dispatch", "Cancel", "Hold", "WakeAt"]
    assert effects[0] == Cancel("t1", "r1", 1)
    assert effects[1].resume
    assert effects[1].why.startswith("r1 was lost; it goes on from exactly what was delivered; ")
    assert bench.load("r1") == 0
    assert bench.tell(ReplicaLost(NOW_S, "r1", "again")) == []


def test_a_lost_replica_is_not_chosen_and_one_that_comes_back_is():
    bench = Bench(replicas=1)
    bench.tell(ReplicaLost(NOW_S, "r1", "killed"))
    assert "Hold" in kinds(bench.arrive())
    assert the(Dispatch, bench.see("r1", generation=1)).replica == "r1"


def test_a_heartbeat_changes_nothing():
    bench = Bench(replicas=1)
    bench.arrive()
    assert bench.see("r1") == []
    assert bench.load("r1") == 1


def test_a_restarted_replica_has_lost_what_ran_on_it_and_is_trusted_again():
    """Its end may be reported after its return, or never: what ran on it starts afresh all the same."""
    bench = Bench(replicas=1, attempts_max=9)
    bench.arrive("t1")
    fail(bench, "t1")
    tick(bench, NOW_S + 1)
    effects = bench.see("r1", slots=4, generation=1)
    assert kinds(effects)[:3] == ["Cancel", "Hold", "Dispatch"]
    assert the(Dispatch, effects).ticket == "t1"
    replica = bench.desk.replicas["r1"]
    assert (replica.state, replica.slots, replica.strikes, replica.load) == ("ready", 4, 0, 1)


def test_a_restarted_replica_is_given_again_what_it_failed_before():
    """Otherwise a request waits for a busy replica beside an idle one, for the sake of a crash that is mended."""
    bench = Bench(replicas=2, slots=1)
    swamp(bench, 2)
    assert "Hold" in kinds(bench.tell(ReplicaLost(NOW_S, "r1", "killed")))
    dispatch = the(Dispatch, bench.see("r1", slots=1, generation=1))
    assert (dispatch.ticket, dispatch.replica, dispatch.attempt) == ("t1", "r1", 2)


def test_when_a_replica_changes_its_model_those_who_waited_for_it_look_elsewhere():
    bench = Bench(replicas=2, slots=1)
    swamp(bench, 2)
    fail(bench, "t2")  # waits for r1, which is busy
    assert bench.waiting() == ["t2"]
    assert the(Dispatch, bench.see("r1", generation=1, model="embedder")).replica == "r2"


def test_a_replica_that_comes_back_with_another_model_serves_that():
    bench = Bench(replicas=1)
    bench.tell(ReplicaLost(NOW_S, "r1", "stopped"))
    bench.see("r1", generation=1, model="embedder")
    assert "Hold" in kinds(bench.arrive())
    assert the(Dispatch, bench.arrive("t2", model="embedder", operation="embedding")).replica == "r1"


# KeyChanged.


def test_a_revoked_key_takes_its_open_streams_with_it_once():
    """I15: open streams too, and the waiting; each is cut once."""
    bench = Bench(slots=1)
    bench.tell(KeyChanged(NOW_S, key("bob")))
    bench.arrive("t1")
    bench.arrive("t2")
    bench.arrive("t3", who="bob")
    revoked = KeyChanged(NOW_S, key("ann", revoked_s=NOW_S))
    cuts = [
        Cut(name, "invalid_api_key", "this key was revoked while the answer was streaming") for name in ("t1", "t2")
    ]
    assert bench.tell(revoked) == cuts
    assert bench.tell(revoked) == []
    assert cuts[0].reason in ERROR_OF_REASON
    assert the(Refuse, bench.arrive("t4")).reason == "invalid_api_key"
    effects = bench.tell(ClientGone(NOW_S, "t1", USED))
    assert billed(effects) == ("client_gone", USED, COST)
    assert the(Close, effects).why == "cut off by us; billed what the engine produced"


def test_a_revocation_to_come_takes_the_open_streams_when_it_comes():
    """I15: planned, or written by a process whose clock is ahead of ours."""
    bench = Bench()
    bench.arrive()
    assert bench.tell(KeyChanged(NOW_S, key("ann", revoked_s=NOW_S + 1))) == [WakeAt(NOW_S + 1)]
    assert tick(bench, NOW_S + 0.5) == [WakeAt(NOW_S + 1)]
    assert kinds(tick(bench, NOW_S + 1)) == ["Cut"]
    assert tick(bench, NOW_S + 2) == []


def test_a_planned_revocation_can_be_taken_back():
    bench = Bench()
    bench.arrive()
    bench.tell(KeyChanged(NOW_S, key("ann", revoked_s=NOW_S + 1)))
    bench.tell(KeyChanged(NOW_S, key("ann")))
    assert tick(bench, NOW_S + 1) == []


def test_a_rotated_key_ends_at_its_time_and_its_open_streams_finish():
    bench = Bench()
    bench.arrive()
    assert bench.tell(KeyChanged(NOW_S, key("ann", expires_s=NOW_S + 1))) == []
    bench.at = NOW_S + 1
    assert the(Refuse, bench.arrive("t2")).reason == "invalid_api_key"
    assert billed(finish(bench, "t1"))[0] == "finished"


def test_a_key_that_was_let_in_before_is_refused_from_its_end_on():
    bench = Bench()
    bench.tell(KeyChanged(NOW_S, key("ann", expires_s=NOW_S + 1)))
    assert kinds(bench.arrive("t1"))[0] == "Admitted"
    bench.at = NOW_S + 1
    assert the(Refuse, bench.arrive("t2")).reason == "invalid_api_key"


def test_new_limits_hold_at_once_and_the_same_ones_do_not_start_over():
    bench = Bench(limits=Limits(requests_per_minute=2))
    bench.arrive("t1")
    bench.tell(KeyChanged(NOW_S, key("ann", prefix="ul_AbCdE", limits=Limits(requests_per_minute=2))))
    bench.arrive("t2")
    assert kinds(bench.arrive("t3")) == ["Refuse"]
    bench.tell(KeyChanged(NOW_S, key("ann", limits=Limits(requests_per_minute=3))))
    assert kinds(bench.arrive("t4")) == ["Admitted", "Hold", "WakeAt"]


# SettingsChanged.


def test_new_settings_hold_from_now_on():
    bench = Bench()
    bench.tell(SettingsChanged(NOW_S, DeskSettings(models=(EMBEDDER,))))
    assert the(Refuse, bench.arrive()).reason == "model_not_found"


def test_default_limits_hold_for_keys_without_their_own():
    bench = Bench()
    bench.tell(KeyChanged(NOW_S, key("bob", limits=Limits(concurrent=2))))
    bench.tell(SettingsChanged(NOW_S, settings(default_limits=Limits(concurrent=1))))
    for number, (who, comes) in enumerate([("ann", "Admitted"), ("ann", "Refuse"), ("bob", "Admitted")]):
        assert kinds(bench.arrive(f"t{number}", who=who))[0] == comes
    assert kinds(bench.arrive("t4", who="bob"))[0] == "Admitted"


def test_a_price_that_changes_holds_for_those_who_arrive_later():
    bench = Bench()
    bench.arrive()
    dear = replace(GEMMA, price=replace(GEMMA.price, completion_usd_per_mtok=GEMMA.price.prompt_usd_per_mtok * 100))
    bench.tell(SettingsChanged(NOW_S, DeskSettings(models=(dear,))))
    assert billed(finish(bench, "t1")) == ("finished", USED, COST)


def test_a_tenant_pays_its_own_price_and_others_the_model_s():
    half = OwnPrice(MODEL, completion_usd_per_mtok=GEMMA.price.completion_usd_per_mtok / 2)
    bench = Bench(accounts=(Account("tenant", "ann's", prices=(half, OwnPrice("no such model", Decimal(9)))),))
    bench.tell(KeyChanged(NOW_S, key("bob")))
    for number, who in enumerate(("ann", "bob")):
        bench.arrive(f"t{number}", who=who)
    dear = replace(GEMMA.price, completion_usd_per_mtok=half.completion_usd_per_mtok)
    assert billed(finish(bench, "t0")) == ("finished", USED, dear.cost_pico_usd(USED))
    assert billed(finish(bench, "t1")) == ("finished", USED, COST)
    bench.tell(SettingsChanged(NOW_S, settings()))
    bench.arrive("t2")
    assert billed(finish(bench, "t2")) == ("finished", USED, COST)


def test_an_unknown_routing_policy_makes_no_desk():
    with pytest.raises(KeyError, match="astrology"):
        assemble(settings(routing="astrology"))


# Tick.


def test_a_tick_with_nothing_due_does_nothing():
    assert tick(Bench(), NOW_S + 1) == []


def test_a_tick_sets_the_next_alarm():
    bench = Bench(replicas=0)
    bench.arrive("t1")
    bench.at += 10
    bench.arrive("t2")
    assert kinds(tick(bench, NOW_S + 120)) == ["Refuse", "WakeAt"]
    assert kinds(tick(bench, NOW_S + 130)) == ["Refuse"]


def test_one_that_waited_too_long_is_refused_and_costs_nothing():
    bench = Bench(replicas=0, limits=Limits(tokens_per_minute=1000))
    bench.arrive(prompt_bytes=3996)
    (refuse,) = tick(bench, NOW_S + 120)
    assert (refuse.reason, refuse.retry_after_s, refuse.why) == ("overloaded", 1.0, "waited too long")
    meter = bench.desk.accounts.meter("key_ann")
    assert meter.open_requests == 0
    assert meter.tokens.left(bench.at) == 1000


def test_one_that_ran_before_and_waits_too_long_fails_visibly():
    bench = Bench(replicas=1)
    bench.arrive()
    bench.tell(ReplicaLost(NOW_S, "r1", "killed"))
    effects = tick(bench, NOW_S + 120)
    assert billed(effects) == ("failed", Usage(), 0)
    assert the(Close, effects).reason == "upstream_failed"


def test_a_wide_request_that_waited_too_long_lets_the_narrow_behind_it_in():
    bench = Bench(slots=2)
    bench.arrive("t1")
    bench.arrive("wide", strands=2)
    bench.at += 1
    bench.arrive("narrow")
    effects = tick(bench, NOW_S + 120)
    assert kinds(effects) == ["Refuse", "Dispatch"]
    assert the(Dispatch, effects).ticket == "narrow"


def test_nothing_is_started_whose_time_is_over_when_others_leave_the_line():
    """I6: the wide one's refusal would let the narrow one in, but its time is over just the same."""
    bench = Bench(slots=2)
    bench.arrive("t1")
    bench.arrive("wide", strands=2)
    bench.arrive("narrow")
    assert kinds(tick(bench, NOW_S + 120)) == ["Refuse", "Refuse"]


# The books.


def breakages():
    """Ways to cook them, each to be noticed."""

    def lease(bench):
        bench.desk.replicas["r1"].load += 1

    def state(bench):
        bench.desk.tickets["t1"].state = "finished"

    def lost_lease(bench):
        bench.desk.tickets["t1"].lease = None

    def prefill(bench):
        bench.desk.replicas["r1"].prefill_tokens -= 1

    def queue(bench):
        bench.desk.desks[MODEL].aside["t1"] = bench.desk.tickets["t1"]

    def meter(bench):
        bench.desk.accounts.meter("key_ann").open_requests += 1

    def ghost(bench):
        bench.desk.desks[MODEL].remove(bench.desk.tickets["t3"])

    def hidden(bench):
        bench.desk.desks[MODEL].pool.open.append(bench.desk.replicas["r1"])

    return [lease, state, lost_lease, prefill, queue, meter, ghost, hidden]


@pytest.mark.parametrize("breakage", breakages(), ids=lambda breakage: breakage.__name__)
def test_check_notices_what_does_not_add_up(breakage):
    bench = Bench(slots=2, limits=Limits(concurrent=9))
    swamp(bench, 3)
    breakage(bench)
    with pytest.raises(AssertionError):
        bench.desk.check()


def test_reading_time_is_never_needed():
    """Two desks told the same at other times by the wall clock decide the same."""
    story = [arrived("t1"), Finished(NOW_S + 1, "t1", 1, USED)]
    first, second = Bench(), Bench()
    assert [first.tell(event) for event in story] == [second.tell(event) for event in story]
