"""Which requests are asked of a second replica, and how many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import NOW_S, quick

from underlay.control.hedging import BUSY_SHARE, SHORT_TOKENS, Hedger, LatePoint


def taught(share: float = 0.5, ttft_s: float = 0.1, count: int = 40) -> Hedger:
    """One that has seen as many first tokens after that time."""
    hedger = Hedger(share)
    for number in range(count):
        hedger.dispatched(f"before {number}", 100, 0.01, NOW_S)
        hedger.heard(f"before {number}", ttft_s)
    return hedger


def test_a_late_request_gets_one_copy_and_no_second_one():
    hedger = taught()
    hedger.dispatched("t1", 100, 0.01, NOW_S)
    late_at = hedger.next_at()
    assert NOW_S + 0.1 <= late_at <= NOW_S + 0.115
    assert hedger.due(late_at - 0.001, 0.1) == []
    assert hedger.due(late_at, 0.1) == ["t1"]
    assert hedger.due(late_at + 100, 0.1) == []
    assert hedger.next_at() is None


def test_who_was_heard_or_went_away_gets_none():
    hedger = taught()
    for ticket in ("heard", "gone", "late"):
        hedger.dispatched(ticket, 100, 0.01, NOW_S)
    hedger.heard("heard", 0.05)
    hedger.gone("gone")
    assert hedger.due(NOW_S + 9, 0.0) == ["late"]


def test_a_long_prompt_is_not_computed_twice():
    hedger = taught()
    hedger.dispatched("short", SHORT_TOKENS, 0.01, NOW_S)
    hedger.dispatched("long", SHORT_TOKENS + 1, 0.01, NOW_S)
    assert hedger.due(NOW_S + 9, 0.0) == ["short"]


def test_nothing_is_copied_on_a_busy_platform():
    hedger = taught()
    hedger.dispatched("t1", 100, 0.01, NOW_S)
    assert hedger.due(NOW_S + 9, BUSY_SHARE) == []
    assert hedger.due(NOW_S + 10, 0.0) == []


def test_a_first_token_that_was_expected_late_is_not_late():
    hedger = taught()
    hedger.dispatched("t1", 100, 3.0, NOW_S)
    assert hedger.next_at() == NOW_S + 6.0


def test_nothing_is_late_before_enough_was_seen():
    hedger = taught(count=15)
    hedger.dispatched("t1", 100, 0.01, NOW_S)
    assert hedger.next_at() is None
    hedger.heard("t1", 0.1)
    hedger.dispatched("t2", 100, 0.01, NOW_S)
    assert hedger.next_at() is not None


def test_without_a_share_nothing_is_remembered():
    hedger = taught(share=0.0)
    hedger.dispatched("t1", 100, 0.01, NOW_S)
    assert hedger.next_at() is None
    assert hedger.due(NOW_S + 9, 0.0) == []


def test_a_ticket_id_that_comes_again_is_a_new_request():
    hedger = taught()
    hedger.dispatched("t1", 100, 0.01, NOW_S)
    hedger.gone("t1")
    hedger.dispatched("t1", 100, 0.01, NOW_S + 5)
    assert hedger.next_at() > NOW_S + 5
    assert hedger.due(NOW_S + 9, 0.0) == ["t1"]


def test_i25_when_all_are_late_only_their_share_gets_copies():
    hedger = taught(share=1 / 16, count=20)
    for number in range(100):
        hedger.dispatched(f"t{number}", 100, 0.01, NOW_S)
    assert len(hedger.due(NOW_S + 9, 0.0)) == 7


def test_what_is_saved_up_in_good_times_is_bounded():
    hedger = taught(share=0.5, count=1000)
    for number in range(20):
        hedger.dispatched(f"t{number}", 100, 0.01, NOW_S)
    assert len(hedger.due(NOW_S + 9, 0.0)) == 10


def test_how_late_a_copied_request_became_is_learnt_too():
    hedger = taught(share=1.0)
    for number in range(16):
        hedger.dispatched(f"t{number}", 100, 0.01, NOW_S)
    hedger.due(NOW_S + 1, 0.0)
    for number in range(16):
        hedger.heard(f"t{number}", 4.0)
    hedger.dispatched("next", 100, 0.01, NOW_S)
    assert hedger.next_at() >= NOW_S + 4.0


happenings = st.lists(
    st.tuples(
        st.sampled_from(["dispatched", "dispatched", "dispatched", "heard", "gone", "due"]),
        st.integers(0, 20),
        st.sampled_from([0.0, 0.05, 0.2]),
        st.sampled_from([0.0, 0.69, 0.7]),
    ),
    max_size=200,
)


@quick
@given(happenings, st.sampled_from([0.01, 0.1, 0.3]))
def test_i25_copies_never_exceed_their_share_and_none_has_two(happenings, share):
    hedger, at, firsts, copies = taught(share), NOW_S, 40, 0
    begun, copied = 0, set()
    open_tickets: list[str] = []
    for what, number, later_s, utilisation in happenings:
        at += later_s
        if what == "dispatched":
            begun, firsts = begun + 1, firsts + 1
            open_tickets.append(f"t{begun}")
            hedger.dispatched(f"t{begun}", number * 150, 0.001, at)
        elif what == "due":
            for ticket in hedger.due(at, utilisation):
                assert ticket in open_tickets
                assert ticket not in copied
                assert utilisation < BUSY_SHARE
                copied.add(ticket)
                copies += 1
            assert hedger.next_at() is None or hedger.next_at() > at
        elif open_tickets:
            ticket = open_tickets.pop(number % len(open_tickets))
            hedger.gone(ticket) if what == "gone" else hedger.heard(ticket, 0.1)
        assert copies <= share * firsts + 1e-9


@quick
@given(st.lists(st.floats(0.0001, 500.0), min_size=16, max_size=160))
def test_the_late_point_is_the_95th_percentile_to_an_eighth(samples):
    point = LatePoint()
    samples = samples[: len(samples) // 16 * 16]  # it looks after every sixteenth
    for took_s in samples:
        point.add(took_s)
    exact = sorted(samples)[-int(0.05 * len(samples)) - 1]
    assert exact <= point.after_s() <= exact * 1.126


@pytest.mark.parametrize("odd_s", [0.0, 1e-9, 1e9])
def test_odd_times_are_counted_at_the_ends(odd_s):
    point = LatePoint()
    for _ in range(16):
        point.add(odd_s)
    assert 0.0 < point.after_s() <= 1024.0


def test_the_late_point_follows_the_day():
    point = LatePoint()
    for took_s in [0.1] * 5000 + [1.0] * 1000:
        point.add(took_s)
    assert 1.0 <= point.after_s() < 1.15
    for _ in range(5000):
        point.add(0.1)
    assert point.after_s() < 0.12
