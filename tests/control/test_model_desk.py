"""The meeting of those who wait with those who serve: estimates, what is hopeless, whose turn it is."""

import pytest
from tests.control.builders import MODEL, NOW_S, Bench, key, kinds, the

from underlay.control.effects import Dispatch, Hold, Refuse, WakeAt
from underlay.control.events import (
    AttemptFailed,
    ClientGone,
    Finished,
    FirstToken,
    KeyChanged,
    Progress,
    ReplicaLost,
    Tick,
)
from underlay.domain.answer import Usage
from underlay.domain.policy import Band


def first_token(bench, ticket, prompt=10, cached=0, attempt=1):
    return bench.tell(FirstToken(bench.at, ticket, attempt, prompt, cached))


def finish(bench, ticket, completion=20, attempt=1):
    return bench.tell(Finished(bench.at, ticket, attempt, Usage(10, 0, completion)))


def model(bench):
    return bench.desk.of_model(MODEL)


def ticket(bench, name="t1"):
    return bench.desk.tickets[name]


def taught(took_s=10.0, **more):
    """One whose answers have taken so long, all of them."""
    bench = Bench(**more)
    bench.arrive("teacher")
    bench.at += took_s
    finish(bench, "teacher")
    return bench


# Sizes.


def test_a_prompt_has_a_token_per_four_bytes_until_something_was_counted():
    bench = Bench()
    bench.arrive(prompt_bytes=400)
    assert ticket(bench).prompt_tokens == 101


def count(bench, prompt_bytes, prompt, name="counted"):
    """Have a prompt counted by an engine."""
    bench.arrive(name, prompt_bytes=prompt_bytes)
    first_token(bench, name, prompt=prompt)
    finish(bench, name)


def estimate(bench, prompt_bytes):
    bench.arrive("new", prompt_bytes=prompt_bytes)
    tokens = ticket(bench, "new").prompt_tokens
    finish(bench, "new")
    return tokens


def test_how_many_tokens_prompts_have_is_learnt_from_what_engines_count():
    """A template of 30 tokens, and one for each five bytes."""
    bench = Bench()
    for size in (100, 200, 400) * 5:
        count(bench, size, 30 + size // 5)
    assert estimate(bench, 1000) == pytest.approx(230, abs=2)
    assert estimate(bench, 0) == pytest.approx(30, abs=2)


def test_a_long_template_before_short_prompts_is_learnt_at_once():
    bench = Bench()
    count(bench, 2, 105)
    assert estimate(bench, 2) == 106
    assert estimate(bench, 402) == 206  # what a byte makes is not known yet, and is as usual


def test_prompts_of_one_size_are_never_taken_to_be_shorter_than_they_are_by_more_than_they_differ():
    bench = Bench()
    for tokens in (100, 104, 96) * 5:
        count(bench, 400, tokens)
    assert 96 <= estimate(bench, 400) <= 105


def test_one_prompt_that_is_quite_different_does_not_make_all_others_so():
    bench = Bench()
    for size in (100, 200, 400) * 10:
        count(bench, size, size // 4)
    count(bench, 300, 900)
    assert estimate(bench, 300) < 2 * 76


def test_fewer_tokens_than_usual_are_learnt_too():
    bench = Bench()
    count(bench, 4000, 500)
    assert estimate(bench, 4000) == 501


@pytest.mark.parametrize(("max_tokens", "answer"), [(None, 256), (1000, 256), (30, 30)])
def test_the_work_of_a_request_is_its_prompt_and_its_probable_answer(max_tokens, answer):
    bench = Bench(slots=4)
    bench.arrive(prompt_bytes=400, max_tokens=max_tokens, strands=3)
    assert ticket(bench).cost == 3 * (101 + 2 * answer)


def test_how_long_answers_are_is_learnt_strand_by_strand():
    bench = Bench()
    bench.arrive(strands=2)
    finish(bench, "t1", completion=112)
    assert model(bench).completion_tokens == pytest.approx(256 + 0.05 * (56 - 256))


def test_what_a_block_holds_is_learnt_from_prompts_of_several():
    bench = Bench()
    bench.arrive(prompt_bytes=1280, blocks=tuple(range(1, 11)))
    first_token(bench, "t1", prompt=420)
    assert model(bench).index.block_tokens == pytest.approx(420 / 10.5)


def test_i13_no_two_tenants_share_a_beginning():
    bench = Bench(replicas=2)
    bench.tell(KeyChanged(NOW_S, key("bob")))
    asked = {"prompt_bytes": 512, "blocks": (1, 2, 3, 4)}
    bench.arrive("a1", **asked)
    bench.arrive("a2", **asked)
    bench.arrive("b1", who="bob", **asked)
    chains = [ticket(bench, name).chain for name in ("a1", "a2", "b1")]
    assert chains[0] == chains[1]
    assert not set(chains[0]) & set(chains[2])


def test_only_what_was_not_cached_counts_as_prefill():
    bench = Bench()
    asked = {"prompt_bytes": 1280, "blocks": tuple(range(1, 11))}
    bench.arrive("t1", **asked)
    first_token(bench, "t1", prompt=321)
    bench.arrive("t2", **asked)
    assert ticket(bench, "t2").lease.uncached_tokens < 40
    first_token(bench, "t2", prompt=321, cached=320)
    index = model(bench).index
    assert index.cached_tokens_total == 320  # I13's other side: what was predicted can be compared with what was
    assert index.expected_tokens_total > 280


# Paces.


def test_a_resumed_answer_teaches_no_time_between_tokens():
    """It has been produced by two replicas: neither is as quick as the whole looks."""
    bench = Bench(replicas=2)
    bench.arrive(streaming=True)
    bench.at += 1
    first_token(bench, "t1")
    bench.tell(ReplicaLost(bench.at, "r1", "killed"))
    bench.at += 1
    first_token(bench, "t1", attempt=2)
    bench.at += 1
    finish(bench, "t1", completion=1000, attempt=2)
    assert bench.desk.replicas["r2"].pace.itl_s == 0.0


def test_an_answer_teaches_the_time_between_its_tokens():
    bench = Bench()
    bench.arrive()
    bench.at += 1
    first_token(bench, "t1")
    bench.at += 2
    finish(bench, "t1", completion=21)
    assert bench.desk.replicas["r1"].pace.itl_s == pytest.approx(0.1)


# Hopeless, or too late.


def test_i19_i26_who_would_wait_too_long_is_told_at_once_and_when_to_come_back():
    bench = taught(10.0, slots=1, wait_max_s=25.0)
    bench.arrive("runs")
    assert "Hold" in kinds(bench.arrive("waits 10 s"))
    assert "Hold" in kinds(bench.arrive("waits 20 s"))
    refuse = the(Refuse, bench.arrive("would wait 30 s"))
    assert (refuse.reason, refuse.retry_after_s) == ("overloaded", pytest.approx(5.0))
    assert refuse.message == "the platform is full: 2 wait before this request, which would wait about 30 s"
    assert "would wait 30 s" not in bench.desk.tickets


def test_patience_is_the_bands():
    bands = (Band("standard"), Band("batch", 0.05, 10.0))
    bench = taught(10.0, slots=1, wait_max_s=5.0, bands=bands)
    bench.arrive("runs")
    assert kinds(bench.arrive("t1")) == ["Refuse"]
    assert the(Hold, bench.arrive("t2", band="batch")).until == bench.at + 50


def test_a_wait_longer_than_a_first_token_is_wanted_in_is_not_begun():
    bench = taught(10.0, slots=1, slo_ttft_s=5.0)
    bench.arrive("runs")
    assert kinds(bench.arrive("t1")) == ["Refuse"]
    assert "Hold" in kinds(bench.arrive("t2", band="batch"))


@pytest.mark.parametrize(("slo_ttft_s", "does"), [(None, "Hold"), (21.0, "Hold"), (19.0, "Refuse")])
def test_with_a_target_a_wait_is_reckoned_with_caution(slo_ttft_s, does):
    """Ten seconds are the mean, and who is let in should be served in time."""
    bench = taught(10.0, slots=1, slo_ttft_s=slo_ttft_s, wait_max_s=60.0)
    bench.arrive("runs")
    assert does in kinds(bench.arrive("t1"))


def test_what_one_is_told_to_come_back_after_is_when_it_would_be_let_in():
    bench = taught(10.0, slots=1, slo_ttft_s=8.0)
    bench.arrive("runs")
    assert the(Refuse, bench.arrive("t1")).retry_after_s == pytest.approx(6.0)  # the line is 4 s long by then


def test_a_busy_band_above_lengthens_the_wait_that_is_reckoned():
    bench = Bench(slots=1)
    for number in range(60):
        bench.arrive(f"teacher {number}", band="standard")
        bench.at += 0.1
        finish(bench, f"teacher {number}")
    bench.arrive("runs")
    assert "Hold" in kinds(bench.arrive("t1", deadline_s=0.5, band="standard"))
    assert "Refuse" in kinds(bench.arrive("b1", deadline_s=0.5, band="batch"))


def test_one_or_two_that_came_before_are_not_taken_for_a_busy_band():
    bench = taught(10.0, slots=1)
    bench.arrive("runs")
    assert "Hold" in kinds(bench.arrive("b1", band="batch", deadline_s=20.0))


def test_i6_a_caller_who_is_less_patient_than_the_line_is_long_does_not_join_it():
    bench = taught(10.0, slots=1)
    bench.arrive("runs")
    assert the(Refuse, bench.arrive("t1", deadline_s=9.0)).reason == "overloaded"
    assert "Hold" in kinds(bench.arrive("t2", deadline_s=11.0))


def slow_reader(**more):
    """One that is known to read a hundred tokens per second, with one request running and no room."""
    bench = Bench(slots=1, **more)
    for number in range(4):
        bench.arrive(f"teacher {number}", prompt_bytes=400)
        bench.at += 1.01
        first_token(bench, f"teacher {number}", prompt=101)
        finish(bench, f"teacher {number}")
    bench.arrive("runs")
    return bench


def test_i6_no_prefill_is_begun_that_must_end_after_the_deadline():
    refuse = the(Refuse, slow_reader().arrive("t1", prompt_bytes=4000, deadline_s=9.0))
    assert refuse.reason == "deadline_exceeded"
    assert "first token before the deadline" in refuse.message


def test_i6_one_whose_time_has_become_too_short_is_sent_away_when_its_turn_comes():
    bench = slow_reader()
    bench.see("r2", slots=1)
    bench.arrive("runs too")
    bench.arrive("t1", prompt_bytes=2000, deadline_s=9.0)
    bench.arrive("t2")
    bench.at += 6  # five more seconds of reading would be eleven
    effects = finish(bench, "runs")
    refuse = the(Refuse, effects)
    assert (refuse.ticket, refuse.reason) == ("t1", "deadline_exceeded")
    assert the(Dispatch, effects).ticket == "t2"


def test_with_a_target_the_prompt_itself_is_reckoned_with():
    """501 tokens are five seconds of reading, and a little room."""
    assert the(Refuse, slow_reader(slo_ttft_s=6.0).arrive("t1", prompt_bytes=2000)).reason == "overloaded"
    assert "Hold" in kinds(slow_reader(slo_ttft_s=6.0).arrive("t1", prompt_bytes=400))
    assert "Hold" in kinds(slow_reader(slo_ttft_s=9.0).arrive("t1", prompt_bytes=2000))


@pytest.mark.parametrize(("slo_ttft_s", "served"), [(None, "t1"), (10.0, "t2"), (12.0, "t1")])
def test_with_a_target_no_prefill_is_begun_that_cannot_meet_it(slo_ttft_s, served):
    """It has waited for five seconds and would be read for six."""
    bench = slow_reader(slo_ttft_s=slo_ttft_s)
    bench.arrive("t1", prompt_bytes=2000)
    bench.arrive("t2")
    bench.at += 5
    effects = finish(bench, "runs")
    assert the(Dispatch, effects).ticket == served
    if served == "t2":
        refuse = the(Refuse, effects)
        assert (refuse.ticket, refuse.reason) == ("t1", "overloaded")


def test_a_less_urgent_band_has_more_time_for_that_too():
    bench = slow_reader(slo_ttft_s=10.0)
    bench.arrive("t1", prompt_bytes=2000, band="batch")
    bench.at += 5
    assert the(Dispatch, finish(bench, "runs")).ticket == "t1"


def test_one_that_ran_before_is_not_dropped_for_a_target():
    bench = slow_reader(slo_ttft_s=10.0)
    bench.arrive("t1")
    bench.at += 60
    bench.tell(ReplicaLost(bench.at, "r1", "killed"))
    assert "runs" in bench.waiting()
    bench.at += 60
    assert the(Dispatch, bench.see("r2", slots=1)).ticket == "runs"


def test_an_idle_pool_tries_whatever_was_measured():
    """What was measured may be out of date, and only trying corrects it."""
    bench = slow_reader()
    finish(bench, "runs")
    assert "Dispatch" in kinds(bench.arrive("t1", prompt_bytes=4000, deadline_s=1.0))


# Whose turn it is.


def test_the_free_slots_are_kept_for_others_who_pass_those_they_are_kept_from():
    bench = Bench(slots=10)
    bench.tell(KeyChanged(NOW_S, key("bob")))
    bench.arrive("b1", who="bob")
    for number in range(8):
        bench.arrive(f"a{number}")
    bench.at += 12
    assert the(Hold, bench.arrive("a8")).why == "the free slots are kept for others"
    effects = bench.arrive("b2", who="bob")
    assert the(Dispatch, effects).ticket == "b2"
    assert bench.waiting() == ["a8"]


def test_a_burst_is_not_kept_out():
    bench = Bench(slots=10)
    bench.tell(KeyChanged(NOW_S, key("bob")))
    bench.arrive("b1", who="bob")
    assert all("Dispatch" in kinds(bench.arrive(f"a{number}")) for number in range(9))


@pytest.mark.parametrize(
    ("guest", "asked", "does"),
    [
        ("standard", "standard", "Hold"),
        ("batch", "standard", "Dispatch"),
        ("standard", "batch", "Hold"),
        ("batch", "batch", "Hold"),
    ],
)
def test_nothing_is_kept_for_guests_of_lower_bands(guest, asked, does):
    bench = Bench(slots=10)
    bench.tell(KeyChanged(NOW_S, key("bob")))
    bench.arrive("b1", who="bob", band=guest)
    for number in range(8):
        bench.arrive(f"a{number}", band=asked)
    bench.at += 12
    assert does in kinds(bench.arrive("a8", band=asked))


def test_what_a_tenant_has_in_lower_bands_is_not_held_against_its_urgent_work():
    bench = Bench(slots=10)
    bench.tell(KeyChanged(NOW_S, key("bob")))
    bench.arrive("b1", who="bob")
    for number in range(8):
        bench.arrive(f"a{number}", band="batch")
    bench.at += 12
    assert "Dispatch" in kinds(bench.arrive("urgent"))


def test_alone_a_tenant_may_have_everything():
    bench = Bench(slots=10)
    assert all("Dispatch" in kinds(bench.arrive(f"a{number}")) for number in range(10))


def test_a_wide_request_keeps_its_turn_while_slots_come_free_one_by_one():
    bench = Bench(slots=2)
    bench.arrive("t1")
    bench.arrive("t2")
    bench.arrive("wide", strands=2)
    bench.arrive("narrow")
    assert "Dispatch" not in kinds(finish(bench, "t1"))
    assert the(Dispatch, finish(bench, "t2")).ticket == "wide"
    assert bench.waiting() == ["narrow"]


def test_what_was_produced_counts_for_the_tenant_as_it_is_reported():
    bench = Bench()
    bench.arrive(prompt_bytes=40)
    counters = model(bench).counters
    assert counters.value("ann's") == 11
    bench.tell(Progress(NOW_S, "t1", 30))
    bench.tell(Progress(NOW_S, "t1", 30))
    assert counters.value("ann's") == 11 + 60
    finish(bench, "t1", completion=50)
    assert counters.value("ann's") == 11 + 100


def test_one_that_leaves_the_line_received_nothing():
    bench = Bench(slots=1)
    bench.arrive("t1")
    bench.arrive("t2")
    before = model(bench).counters.value("ann's")
    bench.tell(ClientGone(NOW_S, "t2", Usage()))
    assert model(bench).counters.value("ann's") == before


# Those who stand aside.


def test_i25_fresh_starts_beyond_the_budget_wait_for_the_next_seconds():
    bench = Bench(slots=200, retry_share=0.0)
    for number in range(110):
        bench.arrive(f"t{number}")
    bench.see("r2", slots=200, generation=0)
    bench.at += 11
    bench.tell(Tick(bench.at))  # r2 has its full part by now
    effects = bench.tell(ReplicaLost(bench.at, "r1", "killed"))
    assert kinds(effects).count("Dispatch") == 100
    held = [effect for effect in effects if type(effect) is Hold]
    assert len(held) == 10
    assert "its next attempt is not due yet" in held[0].why
    again_at = min(ticket(bench, effect.ticket).not_before for effect in held)
    assert 10.0 <= again_at - bench.at <= 12.0
    bench.at = again_at
    assert kinds(bench.tell(Tick(again_at))).count("Dispatch") == 10


def test_streams_that_go_on_are_not_counted_as_fresh_starts():
    bench = Bench(slots=200, retry_share=0.0)
    for number in range(110):
        bench.arrive(f"t{number}", streaming=True)
        first_token(bench, f"t{number}")
    bench.see("r2", slots=200)
    bench.at += 11
    bench.tell(Tick(bench.at))
    effects = bench.tell(ReplicaLost(bench.at, "r1", "killed"))
    assert kinds(effects).count("Dispatch") == 110


def test_who_stands_aside_is_before_the_line_in_the_places_that_are_told():
    bench = Bench(replicas=2, slots=1)
    for name in ("t1", "t2", "t3"):
        bench.arrive(name)
    bench.tell(ReplicaLost(NOW_S, "r1", "killed"))
    assert [bench.desk.queue_place(name) for name in ("t1", "t3", "t2", "ghost")] == [1, 2, None, None]


def test_it_says_when_replicas_could_take_more_and_must_not():
    bench = Bench(replicas=2, slots=4)
    for number in range(4):
        bench.arrive(f"t{number}")
    for replica in bench.desk.replicas.values():
        replica.capacity = 2
        model(bench).pool.changed(replica)
    hold = the(Hold, bench.arrive("t9"))
    assert hold.why == "4 of 8 slots are in use, and the replicas bear no more for now"


def test_free_slots_are_not_kept_for_a_guest_who_does_not_come_again():
    """Nothing else need happen for that: what runs may run for long."""
    bench = Bench(slots=10)
    bench.tell(KeyChanged(NOW_S, key("bob")))
    bench.arrive("b1", who="bob")
    finish(bench, "b1")
    for number in range(9):
        bench.arrive(f"a{number}")
    bench.at += 12
    wake = the(WakeAt, bench.arrive("a9"))
    assert wake.at == NOW_S + 30
    bench.at = wake.at
    assert the(Dispatch, bench.tell(Tick(bench.at))).ticket == "a9"


def test_a_guest_who_comes_again_is_expected_for_longer():
    bench = Bench(slots=10)
    bench.tell(KeyChanged(NOW_S, key("bob")))
    for number in range(9):
        bench.arrive(f"a{number}")
    bench.at += 20
    bench.arrive("b1", who="bob")
    bench.arrive("a9")
    finish(bench, "b1")
    alarms = []
    while bench.waiting():
        bench.at = bench.desk.agenda.alarm_at
        alarms.append(bench.at - NOW_S)
        bench.tell(Tick(bench.at))
    assert alarms == [30, 50]


def test_a_stream_that_was_seen_does_not_wait_for_a_slow_start():
    """Its caller looks at half an answer; that a replica is cold yet is the lesser evil."""
    bench = Bench(replicas=1, slots=4, slow_start_s=8.0)
    for number in range(3):
        bench.arrive(f"t{number}", streaming=True)
        bench.tell(FirstToken(NOW_S, f"t{number}", 1, 10, 0))
    bench.see("r2", slots=4)
    bench.arrive("t3", streaming=True)
    assert bench.load("r2") == bench.desk.replicas["r2"].capacity == 1  # it has all that it gets for now
    effects = bench.tell(AttemptFailed(NOW_S, "t0", 1, "reset", 5))
    assert the(Dispatch, effects).replica == "r2"


def test_a_stream_that_was_seen_does_not_go_back_to_who_failed_it_while_another_is_ready():
    """A replica that was killed counts as ready for a moment; asking it again uses up an attempt."""
    bench = Bench(replicas=2, slots=1)
    for number in range(2):
        bench.arrive(f"t{number}", streaming=True)
        bench.tell(FirstToken(NOW_S, f"t{number}", 1, 10, 0))
    assert kinds(bench.tell(AttemptFailed(NOW_S, "t0", 1, "reset", 5)))[0] == "Hold"
