"""The same request sent twice: answered again, refused for a while, or run; and what never stays behind."""

import pytest
from tests.control.builders import NOW_S, Bench, billed, key, kinds, the

from underlay.control.effects import Admitted, Refuse, Replay
from underlay.control.events import AttemptFailed, ClientGone, Finished, FirstToken, KeyChanged, Tick
from underlay.domain.answer import Usage
from underlay.domain.keys import Budget, Limits

USED = Usage(10, 0, 5)
ONCE = ("key", "body")


def send(bench, ticket, sent=ONCE, **more):
    return bench.arrive(ticket, idempotency=sent, **more)


def finish(bench, ticket):
    return bench.tell(Finished(bench.at, ticket, 1, USED))


def test_i7_a_request_that_was_answered_is_answered_again_and_charged_once():
    bench = Bench()
    send(bench, "t1")
    finish(bench, "t1")
    why = "the same request was answered as t1; nothing is charged"
    assert send(bench, "t2") == [Admitted("t2", "key_ann", "ann's", why), Replay("t2", "t1", why)]
    assert not bench.desk.tickets
    assert send(bench, "t3")[1].original == "t1"


def test_while_it_is_being_answered_a_second_is_told_to_wait():
    bench = Bench()
    send(bench, "t1")
    refuse = the(Refuse, send(bench, "t2"))
    assert (refuse.reason, refuse.param, refuse.retry_after_s) == ("conflict", "Idempotency-Key", 1.0)
    assert billed(finish(bench, "t1"))[0] == "finished"


def test_also_while_the_first_waits():
    bench = Bench(replicas=0)
    send(bench, "t1")
    assert the(Refuse, send(bench, "t2")).reason == "conflict"
    assert bench.waiting() == ["t1"]


def test_the_same_key_with_another_request_is_a_mistake():
    bench = Bench()
    send(bench, "t1")
    for _ in range(2):
        refuse = the(Refuse, send(bench, "t2", ("key", "other")))
        assert (refuse.reason, refuse.retry_after_s) == ("conflict", None)
        finish(bench, "t1")


def test_another_tenants_key_is_another_key():
    bench = Bench()
    bench.tell(KeyChanged(NOW_S, key("bob")))
    send(bench, "t1")
    finish(bench, "t1")
    assert "Dispatch" in kinds(send(bench, "t2", who="bob"))


ENDS = {
    "its caller left": lambda bench: bench.tell(ClientGone(bench.at, "t1", USED)),
    "it failed": lambda bench: bench.tell(AttemptFailed(bench.at, "t1", 1, "rejected")),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_what_was_not_finished_may_be_sent_again_and_runs(end):
    bench = Bench()
    send(bench, "t1")
    end(bench)
    assert "Dispatch" in kinds(send(bench, "t2"))


def test_what_was_refused_in_line_may_be_sent_again():
    bench = Bench(replicas=0, wait_max_s=5.0)
    send(bench, "t1")
    bench.at += 5
    assert kinds(bench.tell(Tick(bench.at))) == ["Refuse"]
    assert "Hold" in kinds(send(bench, "t2"))


def refused_by_limit(bench):
    bench.tell(KeyChanged(NOW_S, key(limits=Limits(concurrent=1))))
    bench.arrive("runs")
    return "rate_limit_exceeded", lambda: finish(bench, "runs")


def refused_by_budget(bench):
    bench.tell(KeyChanged(NOW_S, key(budgets=(Budget("day", tokens=1),))))
    return "insufficient_quota", lambda: bench.tell(KeyChanged(NOW_S, key()))


def refused_by_the_line(bench):
    for number in range(2):
        bench.arrive(f"runs {number}")
    return "overloaded", lambda: finish(bench, "runs 0")


@pytest.mark.parametrize("refused", [refused_by_limit, refused_by_budget, refused_by_the_line])
def test_what_was_refused_at_the_door_leaves_nothing_behind(refused):
    bench = Bench(waiting_max=0)
    reason, relieve = refused(bench)
    assert the(Refuse, send(bench, "t1")).reason == reason
    relieve()
    assert len(bench.desk.requests) == 0
    assert "Dispatch" in kinds(send(bench, "t2"))


def test_a_replay_counts_against_no_limit_and_needs_no_room():
    bench = Bench(slots=1, waiting_max=0, limits=Limits(requests_per_minute=2))
    send(bench, "t1")
    finish(bench, "t1")
    bench.arrive("t2")
    assert kinds(send(bench, "t3")) == ["Admitted", "Replay"]


def test_a_revoked_key_is_answered_nothing_again():
    """I15."""
    bench = Bench()
    send(bench, "t1")
    finish(bench, "t1")
    bench.tell(KeyChanged(NOW_S, key(revoked_s=NOW_S)))
    assert the(Refuse, send(bench, "t2")).reason == "invalid_api_key"


def test_after_its_time_a_key_means_something_new():
    bench = Bench(idempotency_s=60.0)
    send(bench, "t1")
    finish(bench, "t1")
    bench.at += 60
    bench.tell(Tick(bench.at))
    assert len(bench.desk.requests) == 0
    assert "Dispatch" in kinds(send(bench, "t2", ("key", "other")))


def test_late_words_about_the_first_do_not_touch_the_second():
    bench = Bench()
    send(bench, "t1")
    bench.tell(FirstToken(bench.at, "t1", 1, 10, 0))
    bench.tell(ClientGone(bench.at, "t1", USED))
    send(bench, "t2")
    assert finish(bench, "t1") == []
    assert the(Refuse, send(bench, "t3")).reason == "conflict"
    finish(bench, "t2")
    assert the(Replay, send(bench, "t4")).original == "t2"
