"""Appointments: kept in order, at most one alarm, none for what was overtaken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.control.agenda import Agenda


def agenda_of(stands: set[str]) -> Agenda:
    return Agenda({"meet": lambda what, _: what in stands})


def test_what_is_due_comes_in_order_of_time_then_of_making():
    agenda = agenda_of({"a", "b", "c", "d"})
    for at, what in ((3.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "d")):
        agenda.add(at, "meet", what)
    assert agenda.due(5.0) == [("meet", "a"), ("meet", "b"), ("meet", "c")]
    assert agenda.due(5.0) == []


def test_the_alarm_is_asked_for_once_and_again_only_if_earlier():
    agenda = agenda_of({"a", "b", "c"})
    assert agenda.next_alarm() is None
    agenda.add(5.0, "meet", "a")
    assert agenda.next_alarm() == 5.0
    assert agenda.next_alarm() is None
    agenda.add(7.0, "meet", "b")
    assert agenda.next_alarm() is None
    agenda.add(2.0, "meet", "c")
    assert agenda.next_alarm() == 2.0


def test_nobody_is_woken_for_what_was_overtaken():
    stands = {"a", "b"}
    agenda = agenda_of(stands)
    agenda.add(1.0, "meet", "a")
    agenda.add(2.0, "meet", "b")
    stands.clear()
    assert agenda.next_alarm() is None
    assert agenda.due(9.0) == []
    assert len(agenda) == 0


@quick
@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 9))), st.floats(0, 100))
def test_nothing_that_stands_is_missed_and_nothing_comes_early(made, now):
    stands = {1, 3, 5, 7}
    agenda = Agenda({"meet": lambda what, _: what in stands})
    for at, what in made:
        agenda.add(at, "meet", what)
    due = [what for _, what in agenda.due(now)]
    assert due == [what for at, what in sorted(made, key=lambda each: each[0]) if at <= now and what in stands]
