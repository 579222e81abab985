"""Where and when work begins that can wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.control import deferral
from underlay.control.deferral import AGAIN_S, HOUR_S, SLOT_S, WORTH, Backlog, Outlook, Place

CLEAN_AT_NIGHT = (300.0, 200.0, 100.0, 200.0, *[400.0] * 20)

hours = st.lists(st.floats(1.0, 900.0), min_size=24, max_size=24).map(tuple)
some_places = st.lists(st.tuples(hours, st.integers(0, 3), st.floats(0.0, 1.0)), min_size=1, max_size=4).map(
    lambda found: [Place(f"r{number}", *each) for number, each in enumerate(found)]
)


def place(region="west", values=CLEAN_AT_NIGHT, room=1, per_s=0.0):
    return Place(region, values, room, per_s)


def test_it_waits_for_the_best_hour_before_it_must_begin():
    plan = deferral.plan([place()], "carbon", 600.0, 5 * HOUR_S)
    assert (plan.region, plan.start_at) == ("west", 2 * HOUR_S)
    assert plan.why == "deferrable: 100 g/kWh in 1.8 h, 300 g/kWh now"


def test_an_hour_that_comes_too_late_is_none():
    assert deferral.plan([place()], "carbon", 600.0, 1.5 * HOUR_S).start_at == HOUR_S


def test_a_better_region_is_better_than_a_better_hour():
    plan = deferral.plan([place(), place("north", (50.0,) * 24)], "carbon", 600.0, 5 * HOUR_S)
    assert (plan.region, plan.start_at) == ("north", 600.0)


def test_the_nearest_of_equal_ones_is_taken():
    plan = deferral.plan([place("near"), place("far")], "carbon", 2 * HOUR_S, 5 * HOUR_S)
    assert plan.region == "near"


def test_little_is_no_reason_to_wait():
    nearly = (100.0, 99.0, *[400.0] * 22)
    assert deferral.plan([place(values=nearly)], "carbon", 0.0, HOUR_S).start_at == 0.0


def test_where_there_is_no_room_it_is_asked_again():
    plan = deferral.plan([place(room=0)], "carbon", 2 * HOUR_S, 5 * HOUR_S)
    assert plan.start_at == 2 * HOUR_S + AGAIN_S
    assert "no room" in plan.why


def test_what_must_begin_goes_where_there_is_room():
    places = [place("clean", (50.0,) * 24, room=0), place("dirty", (500.0,) * 24, room=2)]
    plan = deferral.plan(places, "carbon", 100.0, 100.0)
    assert (plan.region, plan.start_at) == ("dirty", 100.0)
    assert "must begin now" in plan.why


def test_what_must_begin_begins_without_room_too():
    plan = deferral.plan([place("full", room=-9), place("fuller", room=-20)], "carbon", 100.0, 50.0)
    assert (plan.region, plan.start_at) == ("full", 100.0)


def test_what_nobody_knows_is_no_reason():
    assert deferral.plan([place(values=())], "price", 0.0, HOUR_S) is None
    assert deferral.plan([], "carbon", 0.0, HOUR_S) is None


def test_an_outlook_is_read_by_what_is_wanted():
    outlook = Outlook((100.0, 500.0), (0.10, 0.05))
    assert outlook.hours("carbon", 80.0) == (100.0, 500.0)
    assert outlook.hours("price", 80.0) == (0.10, 0.05)
    assert outlook.hours("both", 1000.0) == (0.10 + 0.1, 0.05 + 0.5)
    assert outlook.hours("none", 80.0) == Outlook((100.0,)).hours("both", 80.0) == ()


def test_the_price_is_told_as_one():
    plan = deferral.plan([place(values=(0.2, 0.1, *[0.3] * 22))], "both", 0.0, 2 * HOUR_S)
    assert plan.why == "deferrable: 0.100 USD/kWh with its carbon in 1.0 h, 0.200 USD/kWh with its carbon now"


def test_many_who_wait_take_the_room_of_the_best_region_and_then_of_the_next():
    backlog = Backlog()
    for _ in range(3600):
        backlog.add(2 * HOUR_S)
    places = [place("dirty", (500.0,) * 24, per_s=1.0), place("clean", (50.0,) * 24, per_s=1.0)]
    assert deferral.pressed(places, backlog, 0.0) == ()
    assert deferral.pressed(places, backlog, HOUR_S + 1.0) == ("clean",)
    assert deferral.pressed(places, backlog, 1.5 * HOUR_S + 1.0) == ("clean", "dirty")


def test_who_is_pressed_does_not_wait_for_the_best_hour():
    plan = deferral.plan([place()], "carbon", 0.0, 5 * HOUR_S, ["west"])
    assert plan.start_at == 0.0
    assert deferral.plan([place(room=0)], "carbon", 0.0, 5 * HOUR_S, ["west"]).start_at == 2 * HOUR_S


def test_the_latest_start_leaves_twice_the_usual_time():
    assert deferral.latest_start(10_000.0, 300.0, 600.0) == 8800.0


@given(some_places, st.floats(0.0, 48 * HOUR_S), st.floats(0.0, 12 * HOUR_S), st.booleans())
@quick
def test_no_plan_is_too_late_and_none_goes_into_a_full_region_before_it_must(places, at, left_s, hurry):
    latest_at = at + left_s
    hurried = [each.region for each in places] if hurry else []
    plan = deferral.plan(places, "carbon", at, latest_at, hurried)
    assert at <= plan.start_at <= max(at, latest_at)
    if plan.start_at == at < latest_at:
        assert next(each for each in places if each.region == plan.region).room > 0
    if at >= latest_at:
        assert plan.start_at == at


@given(some_places, st.floats(0.0, 48 * HOUR_S), st.floats(0.0, 12 * HOUR_S))
@quick
def test_a_plan_that_is_asked_for_again_when_its_time_comes_ends(places, at, left_s):
    """Nobody is put off for ever, and where there is room nobody goes at a worse hour than the one he came in."""
    latest_at, began = at + left_s, at
    for _ in range(2000):
        plan = deferral.plan(places, "carbon", at, latest_at)
        if plan.start_at == at:
            break
        at = plan.start_at
    assert plan.start_at == at <= max(began, latest_at)
    if all(each.room for each in places):
        best = min(each.hours[int(began // HOUR_S) % 24] for each in places)
        chosen = next(each for each in places if each.region == plan.region)
        assert chosen.hours[int(at // HOUR_S) % 24] <= best * (1.0 + WORTH)


@given(st.lists(st.floats(0.0, 20_000.0), max_size=30), st.floats(0.01, 1.0), st.floats(0.0, 20_000.0))
@quick
def test_a_backlog_presses_as_its_members_would(latest, per_s, at):
    backlog = Backlog()
    for each in [*latest, 5.0]:
        backlog.add(each)
    backlog.remove(5.0)
    slots = sorted(each // SLOT_S * SLOT_S for each in latest)
    ends = {slot: at + (number + 1) / per_s for number, slot in enumerate(slots)}
    assert backlog.presses(at, per_s) == any(end > slot for slot, end in ends.items())
