"""The same request twice: answered once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import NOW_S, quick

from underlay.control.idempotency import Requests
from underlay.domain.errors import Conflict


def test_the_second_gets_the_answer_of_the_first():
    requests = Requests(60.0, 10)
    assert requests.begin("ann's", "key", "body", "t1", NOW_S) is None
    requests.ended("t1", True, NOW_S + 5)
    assert requests.begin("ann's", "key", "body", "t2", NOW_S + 6) == "t1"
    requests.ended("t2", True, NOW_S + 7)
    assert requests.begin("ann's", "key", "body", "t3", NOW_S + 64.9) == "t1"
    requests.check()


def test_while_the_first_is_being_answered_the_second_is_told_to_wait():
    requests = Requests(60.0, 10)
    requests.begin("ann's", "key", "body", "t1", NOW_S)
    with pytest.raises(Conflict, match="still being answered") as caught:
        requests.begin("ann's", "key", "body", "t2", NOW_S)
    assert (caught.value.param, caught.value.retry_after_s, caught.value.retryable) == (
        "Idempotency-Key",
        1.0,
        True,
    )


@pytest.mark.parametrize("finished", [False, True])
def test_another_request_under_the_same_key_is_refused_for_good(finished):
    requests = Requests(60.0, 10)
    requests.begin("ann's", "key", "body", "t1", NOW_S)
    if finished:
        requests.ended("t1", True, NOW_S)
    with pytest.raises(Conflict, match="another request") as caught:
        requests.begin("ann's", "key", "another body", "t2", NOW_S)
    assert (caught.value.param, caught.value.retry_after_s, caught.value.retryable) == (
        "Idempotency-Key",
        None,
        False,
    )
    requests.check()


def test_what_failed_may_be_sent_again():
    requests = Requests(60.0, 10)
    requests.begin("ann's", "key", "body", "t1", NOW_S)
    requests.ended("t1", False, NOW_S)
    assert len(requests) == 0
    assert requests.begin("ann's", "key", "another body", "t2", NOW_S) is None


def test_i12_tenants_do_not_share_keys():
    requests = Requests(60.0, 10)
    requests.begin("ann's", "key", "body", "t1", NOW_S)
    requests.ended("t1", True, NOW_S)
    assert requests.begin("bob's", "key", "body", "t2", NOW_S) is None


def test_an_answer_is_kept_so_long_after_its_end_whether_or_not_anyone_sweeps():
    requests = Requests(60.0, 10)
    requests.begin("ann's", "key", "body", "t1", NOW_S)
    requests.ended("t1", True, NOW_S + 100)
    assert requests.begin("ann's", "key", "body", "t2", NOW_S + 159.9) == "t1"
    assert requests.begin("ann's", "key", "body", "t3", NOW_S + 160) is None
    requests.check()


def test_the_finished_make_room_oldest_first_and_the_open_stay():
    requests = Requests(60.0, 3)
    for number in (1, 2, 3):
        requests.begin("ann's", f"key {number}", "body", f"t{number}", NOW_S)
    requests.ended("t2", True, NOW_S + 1)
    requests.ended("t1", True, NOW_S + 2)
    requests.begin("ann's", "key 4", "body", "t4", NOW_S + 3)
    assert requests.begin("ann's", "key 1", "body", "t5", NOW_S + 4) == "t1"
    requests.begin("ann's", "key 2", "body", "t6", NOW_S + 4)
    requests.begin("ann's", "key 5", "body", "t7", NOW_S + 4)
    assert len(requests) == 4  # all of them open
    requests.check()


class Naive:
    """The same by looking at everything each time."""

    def __init__(self, kept_s, kept_max):
        self.kept_s, self.kept_max, self.rows = kept_s, kept_max, []

    def expire(self, at):
        self.rows = [row for row in self.rows if row["ended"] is None or at < row["ended"] + self.kept_s]

    def begin(self, tenant, key, body, ticket, at):
        self.expire(at)
        for row in self.rows:
            if row["place"] == (tenant, key):
                if row["body"] != body or row["ended"] is None:
                    return "conflict"
                return row["ticket"]
        self.rows.append({"place": (tenant, key), "body": body, "ticket": ticket, "ended": None, "order": 0})
        while len(self.rows) > self.kept_max and (done := [row for row in self.rows if row["ended"] is not None]):
            self.rows.remove(min(done, key=lambda row: row["order"]))
        return None

    def ended(self, ticket, finished, at, order):
        for row in list(self.rows):
            if row["ticket"] == ticket and row["ended"] is None:
                row["ended"], row["order"] = at, order
                if not finished:
                    self.rows.remove(row)


happenings = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "begin", "finish", "finish", "fail", "expire"]),
        st.sampled_from(["ann's", "bob's"]),
        st.sampled_from(["k1", "k2", "k3"]),
        st.sampled_from(["b1", "b1", "b2"]),
        st.integers(0, 5),
    ),
    max_size=60,
)


@quick
@given(happenings, st.integers(1, 4))
def test_any_order_of_happenings_gives_what_looking_at_everything_gives(happenings, kept_max):
    requests, naive, at = Requests(8.0, kept_max), Naive(8.0, kept_max), NOW_S
    for number, (what, tenant, key, body, amount) in enumerate(happenings):
        at += amount
        if what == "begin":
            try:
                told = requests.begin(tenant, key, body, f"t{number}", at)
            except Conflict:
                told = "conflict"
            assert told == naive.begin(tenant, key, body, f"t{number}", at)
        elif what == "expire":
            requests.expire(at)
            naive.expire(at)
            assert len(requests) == len(naive.rows)
        elif unended := [row["ticket"] for row in naive.rows if row["ended"] is None]:
            ticket = unended[amount % len(unended)]
            requests.ended(ticket, what == "finish", at)
            naive.ended(ticket, what == "finish", at, number)
        requests.check()
