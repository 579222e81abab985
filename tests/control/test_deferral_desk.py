"""Requests that can wait, at the desk: put off, begun, put off again, given up; never in anybody's way."""

from __future__ import annotations

from tests.control.builders import NOW_S, Bench, kinds, settings, the

from underlay.control.effects import Admitted, Dispatch, Hold, Refuse, WakeAt
from underlay.control.events import (
    AttemptFailed,
    ClientGone,
    Finished,
    FirstToken,
    GridSeen,
    ReplicaLost,
    SettingsChanged,
    Tick,
)
from underlay.domain.answer import Usage

HOUR_S = 3600.0
NEXT_HOUR_S = (NOW_S // HOUR_S + 1) * HOUR_S


def clean_from(hour_s: float, grams: float = 100.0) -> tuple[float, ...]:
    """400 g/kWh but for the hour that begins then."""
    place = int(hour_s // HOUR_S) % 24
    return tuple(grams if hour == place else 400.0 for hour in range(24))


def bench(hours=None, **more) -> Bench:
    made = Bench(**{"deferral": "carbon", "slots": 4, **more})
    made.tell(GridSeen(NOW_S, clean_from(NEXT_HOUR_S) if hours is None else hours))
    return made


def pass_to(made: Bench, at: float) -> list:
    made.at = at
    return made.tell(Tick(at))


def test_it_is_held_for_the_better_hour_and_told_why():
    made = bench()
    effects = made.arrive(defer_s=4 * HOUR_S)
    assert kinds(effects) == ["Admitted", "Hold", "WakeAt"]
    hold = the(Hold, effects)
    wait_h = (NEXT_HOUR_S - NOW_S) / HOUR_S
    assert hold.why == f"deferrable: 100 g/kWh in {wait_h:.1f} h, 400 g/kWh now; it is held until then"
    assert hold.until == NOW_S + 4 * HOUR_S  # nothing was seen yet of how long answers take
    assert the(WakeAt, effects).at == NEXT_HOUR_S
    begun = pass_to(made, NEXT_HOUR_S)
    assert the(Dispatch, begun).why.startswith("waited; ")


def test_nobody_waits_behind_it():
    made = bench(slots=1)
    made.arrive("patient", defer_s=4 * HOUR_S)
    assert the(Dispatch, made.arrive("urgent")).ticket == "urgent"


def test_it_begins_at_once_where_nothing_gets_better():
    made = bench((400.0,) * 24)
    assert kinds(made.arrive(defer_s=4 * HOUR_S)) == ["Admitted", "Dispatch"]


def test_it_begins_at_once_where_nothing_is_known_or_wanted():
    made = bench(())
    assert "Dispatch" in kinds(made.arrive("t1", defer_s=4 * HOUR_S))
    made = bench(deferral="none")
    assert "Dispatch" in kinds(made.arrive("t1", defer_s=4 * HOUR_S))


def test_it_begins_at_once_where_its_time_is_too_short():
    made = bench()
    assert "Dispatch" in kinds(made.arrive(defer_s=300.0))  # the margin alone is longer


def test_it_begins_before_the_better_hour_if_it_must():
    made = bench()
    defer_s = NEXT_HOUR_S - NOW_S + 300.0
    effects = made.arrive(defer_s=defer_s)
    assert kinds(effects) == ["Admitted", "Dispatch"]  # until then nothing is better than now
    better = bench(clean_from(NOW_S + 1.0, grams=500.0))  # this hour is worse than those that follow
    held = better.arrive(defer_s=4 * HOUR_S)
    assert the(WakeAt, held).at == NEXT_HOUR_S


def test_where_everybody_is_busy_it_stays_aside_until_it_must_begin():
    made = bench(clean_from(NOW_S), slots=1)
    made.arrive("urgent")
    held = made.arrive("patient", defer_s=2 * HOUR_S)
    assert "no room for it yet" in the(Hold, held).why
    at, latest_at = NOW_S, NOW_S + 2 * HOUR_S - 600.0
    while made.desk.tickets["patient"].put_off:
        at = made.desk.agenda.alarm_at
        assert at <= latest_at
        pass_to(made, at)
    assert at == latest_at
    assert made.waiting() == ["patient"]
    refused = pass_to(made, NOW_S + 2 * HOUR_S)
    assert the(Refuse, refused).ticket == "patient"


def test_more_urgent_ones_go_first_when_its_hour_has_come():
    made = bench(slots=1)
    made.arrive("running")
    made.arrive("patient", defer_s=4 * HOUR_S, band="batch")
    made.at = NEXT_HOUR_S - 1.0
    made.arrive("urgent", band="priority")
    pass_to(made, NEXT_HOUR_S)
    done = made.tell(Finished(NEXT_HOUR_S, "running", 1, Usage(5, 0, 5)))
    assert the(Dispatch, done).ticket == "urgent"


def test_new_hours_and_new_settings_are_heeded_by_those_who_wait():
    made = bench()
    made.arrive("t1", defer_s=8 * HOUR_S)
    later = made.tell(GridSeen(NOW_S + 1.0, clean_from(NEXT_HOUR_S + HOUR_S)))
    assert "Dispatch" not in kinds(later)
    assert "Dispatch" not in kinds(pass_to(made, NEXT_HOUR_S))
    begun = made.tell(SettingsChanged(NEXT_HOUR_S + 1.0, settings(deferral="none")))
    assert the(Dispatch, begun).ticket == "t1"


def test_who_leaves_while_put_off_gives_everything_back():
    made = bench()
    made.arrive("t1", defer_s=4 * HOUR_S)
    assert kinds(made.tell(ClientGone(NOW_S + 5.0, "t1", Usage())))[:2] == ["Charge", "Close"]
    assert made.desk.waiting() == 0
    assert pass_to(made, NEXT_HOUR_S) == []


def test_once_begun_it_is_tried_again_as_any_other():
    made = bench(replicas=2)
    made.arrive("t1", defer_s=4 * HOUR_S)
    pass_to(made, NEXT_HOUR_S)
    failed = made.tell(AttemptFailed(NEXT_HOUR_S + 1.0, "t1", 1, "reset"))
    assert the(Dispatch, failed).attempt == 2


def test_without_a_replica_it_waits_as_well():
    made = bench()
    made.tell(ReplicaLost(NOW_S, "r1", "killed"))
    assert the(Hold, made.arrive("t1", defer_s=4 * HOUR_S)).why.startswith("deferrable: ")
    assert the(Admitted, made.arrive("t2", defer_s=4 * HOUR_S))


def test_it_begins_the_earlier_the_longer_answers_take():
    made = bench()
    made.arrive("t1")
    made.tell(FirstToken(NOW_S + 1.0, "t1", 1, 10, 0))
    made.tell(Finished(NOW_S + 600.0, "t1", 1, Usage(10, 0, 100)))
    made.at = NOW_S + 600.0
    made.arrive("t2", defer_s=4 * HOUR_S)
    assert made.desk.tickets["t2"].latest_at == NOW_S + 600.0 + 4 * HOUR_S - 600.0 - 2 * 600.0


def test_it_has_a_place_of_its_own_and_is_in_nobodys():
    made = bench(slots=1)
    made.arrive("running")
    made.arrive("t1", defer_s=4 * HOUR_S)
    assert the(Hold, made.arrive("t2", defer_s=4 * HOUR_S)).place == 2
    assert the(Hold, made.arrive("urgent")).place == 1


def test_those_put_off_cannot_fill_the_platform():
    made = bench(slots=1, waiting_max=2)
    made.arrive("running")
    for name in ("t1", "t2"):
        made.arrive(name, defer_s=4 * HOUR_S, band="batch")
    assert the(Refuse, made.arrive("t3", defer_s=4 * HOUR_S, band="batch")).reason == "overloaded"
    effects = made.arrive("urgent")
    assert the(Refuse, effects).ticket == "t2"
    assert the(Hold, effects).ticket == "urgent"
    assert made.waiting() == ["t1", "urgent"]
