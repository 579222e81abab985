"""Whose text may be in which slot."""

from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.live.engines.slots import SETTLE_S, Slots


def books(slots=3):
    every = Slots()
    every.opened("m/0", slots)
    return every


def done(seat, at=0.0, **more):
    seat.give_back(at, clean=True, **more)
    return seat.slot, seat.reuse


def test_a_tenant_finds_its_slot_again():
    every = books()
    slot, _ = done(every.take("m/0", "ann", 0))
    done(every.take("m/0", "bob", 0))
    assert done(every.take("m/0", "ann", 0)) == (slot, True)


def test_each_conversation_finds_its_own():
    every = books()
    one = done(every.take("m/0", "ann", 0, opening=1))
    two = done(every.take("m/0", "ann", 0, opening=2))
    assert one[0] != two[0]
    assert done(every.take("m/0", "ann", 0, opening=1)) == one


def test_unwritten_slots_go_before_those_of_others():
    every = books()
    taken = [done(every.take("m/0", name, 0)) for name in ("ann", "bob", "cyd")]
    assert sorted(slot for slot, _ in taken) == [0, 1, 2]
    assert all(reuse for _, reuse in taken)
    assert done(every.take("m/0", "dan", 0)) == (taken[0][0], False)
    assert done(every.take("m/0", "dan", 0)) == (taken[0][0], True)


def test_more_requests_than_slots_wait_for_one_and_read_anew():
    every = books(slots=1)
    ann = every.take("m/0", "ann", 0)
    bob = every.take("m/0", "bob", 0)
    again = every.take("m/0", "ann", 0)
    assert [(seat.slot, seat.reuse) for seat in (ann, bob, again)] == [(0, True), (0, False), (0, False)]
    for seat in (ann, bob, again):
        done(seat)
    assert not every.take("m/0", "bob", 0).reuse


def test_nobody_is_believed_until_a_broken_request_has_certainly_ended():
    every = books(slots=1)
    every.take("m/0", "ann", 0).give_back(0, clean=False)
    assert done(every.take("m/0", "ann", 0.1)) == (0, True)  # both are hers
    assert done(every.take("m/0", "bob", 0.2)) == (0, False)
    assert done(every.take("m/0", "bob", 0.3)) == (0, False)  # hers may have come in between
    assert done(every.take("m/0", "bob", SETTLE_S + 1)) == (0, False)
    assert done(every.take("m/0", "bob", SETTLE_S + 1)) == (0, True)


def test_a_broken_request_sends_others_elsewhere():
    every = books(slots=2)
    done(every.take("m/0", "cyd", 0))
    broken = every.take("m/0", "ann", 0)
    broken.give_back(0, clean=False)
    assert every.take("m/0", "bob", 0.1).slot != broken.slot


def test_a_warmed_slot_is_anybodys():
    every = books(slots=1)
    done(every.take("m/0", "ann", 0))
    done(every.take_free("m/0", 0, 0), public=True)
    assert every.take("m/0", "bob", 0).reuse
    assert every.take_free("m/0", 0, 0) is None
    assert every.take_free("m/0", 1, 0) is None


def test_a_restarted_replica_knows_nothing_and_old_seats_do_no_harm():
    every = books(slots=1)
    old = every.take("m/0", "ann", 0)
    every.opened("m/0", 1)
    old.give_back(0, clean=False)
    old.give_back(0, clean=False)
    assert done(every.take("m/0", "bob", 0)) == (0, True)


def test_where_there_are_no_books_the_engine_chooses():
    seat = Slots().take("vllm/0", "ann", 0)
    assert (seat.slot, seat.reuse, seat.salt) == (-1, False, "ann")
    done(seat)


class Engine:
    """Slots that hold what was read last; requests come in after a while, those given up before it notices."""

    def __init__(self, slots):
        self.holds = [None] * slots
        self.coming = []

    def send(self, at, seat):
        if seat.reuse:
            assert self.holds[seat.slot] in (None, seat.salt), "somebody else's text was looked at"
        self.holds[seat.slot] = seat.salt

    def send_late(self, at, seat, late):
        """A request that was given up is read all the same, though nobody hears how long that took."""
        self.coming.append((at + late, seat))

    def run(self, at):
        for due in [one for one in self.coming if one[0] <= at]:
            self.coming.remove(due)
            self.holds[due[1].slot] = due[1].salt


steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "end", "break", "warm"]),
        st.sampled_from(["ann", "bob", "cyd"]),
        st.integers(0, 9),
        st.floats(0, 1.5),
    ),
    max_size=40,
)


@quick
@given(steps=steps, slots=st.integers(1, 3))
def test_no_request_looks_at_what_another_tenant_left(steps, slots):
    """I13: whatever is cut off, and however late the engine hears of it."""
    every, engine, open_seats, at = books(slots), Engine(slots), [], 0.0
    for kind, who, number, pause_s in steps:
        at += pause_s
        engine.run(at)
        if kind == "take":
            seat = every.take("m/0", who, at)
            if seat.slot in {other.slot for other in open_seats}:
                seat.give_back(at, clean=True)  # it would wait in the engine: not played here
                continue
            open_seats.append(seat)
            engine.send(at, seat)
        elif kind == "warm":
            seat = every.take_free("m/0", number % slots, at)
            if seat is not None:
                engine.holds[seat.slot] = None
                seat.give_back(at, clean=True, public=True)
        elif open_seats:
            seat = open_seats.pop(number % len(open_seats))
            if kind == "break":
                engine.send_late(at, seat, number / 10)
            seat.give_back(at, clean=kind == "end")
