"""Settings that change while requests run and wait: nobody is lost, and what is decided next is decided by them."""

import pytest
from msgspec.structs import replace
from tests.control.builders import NOW_S, Bench, arrived, key, kinds, settings, the

from underlay.control import routing
from underlay.control.desk import assemble
from underlay.control.effects import Dispatch, Hold
from underlay.control.events import (
    AttemptFailed,
    Finished,
    FirstToken,
    KeyChanged,
    ReplicaLost,
    SettingsChanged,
    Tick,
)
from underlay.domain.answer import Usage
from underlay.domain.policy import Band


def change(bench, **more):
    return bench.tell(SettingsChanged(bench.at, replace(bench.desk.settings, **more)))


def in_turn(bench):
    """The names of those who wait as they would be served, one after the other, each as soon as the last ended."""
    names = []
    while bench.desk.tickets:
        (running,) = [ticket for ticket in bench.desk.tickets.values() if ticket.state == "running"]
        names.append(running.name)
        bench.at += 1
        bench.tell(Finished(bench.at, running.name, running.lease.attempt, Usage()))
    return names[1:]


def queued(**bands):
    """One that runs, and one after the other in line, each of its band."""
    bench = Bench(slots=1)
    bench.arrive("runs")
    for name, band in bands.items():
        bench.at += 0.1
        bench.arrive(name, band=band)
    return bench


def test_who_waits_keeps_the_order_of_coming():
    bench = Bench(slots=1)
    names = [f"t{number}" for number in range(12)]
    for name in names:
        bench.arrive(name)  # all in the same instant
    change(bench, wait_max_s=60.0)
    assert bench.waiting() == names[1:]
    assert in_turn(bench) == names[1:]


def test_a_band_is_found_again_by_its_name_wherever_it_stands_now():
    bench = queued(b1="batch", s1="standard")
    change(bench, bands=(Band("batch"), Band("standard", 0.2)))
    assert in_turn(bench) == ["b1", "s1"]


def test_those_of_a_band_that_is_gone_wait_in_the_nearest_that_is_left():
    bench = queued(s1="standard", b1="batch", s2="standard")
    change(bench, bands=(Band("only"),))
    assert in_turn(bench) == ["s1", "b1", "s2"]


def test_one_that_ran_and_waits_again_does_so_in_a_band_that_there_is():
    """It was let in under three bands, and its replica is lost under one."""
    bench = Bench()
    bench.arrive(band="batch")
    change(bench, bands=(Band("only"),), wait_max_s=60.0)
    assert the(Hold, bench.tell(ReplicaLost(bench.at, "r1", "killed"))).until == NOW_S + 60


def test_one_that_stands_aside_keeps_a_band_that_there_is():
    bench = Bench(replicas=2, slots=1)
    bench.arrive("t1", band="batch")
    bench.arrive("t2")
    bench.tell(AttemptFailed(bench.at, "t1", 1, "reset"))
    change(bench, bands=(Band("only"),))
    assert the(Dispatch, bench.tell(Finished(bench.at, "t2", 1, Usage()))).ticket == "t1"
    bench.tell(ReplicaLost(bench.at, "r2", "killed"))


def test_more_room_in_line_is_there_at_once():
    bench = Bench(slots=1, waiting_max=0)
    bench.arrive("t1")
    assert kinds(bench.arrive("t2")) == ["Refuse"]
    change(bench, waiting_max=1)
    assert "Hold" in kinds(bench.arrive("t3"))


def test_a_shorter_line_sends_nobody_away_that_is_in_it():
    bench = Bench(slots=1)
    for number in range(4):
        bench.arrive(f"t{number}")
    assert change(bench, waiting_max=1) == []
    assert bench.waiting() == ["t1", "t2", "t3"]


@pytest.mark.parametrize("name", sorted(routing.POLICIES))
def test_every_policy_takes_over_from_every_other_in_the_middle(name):
    bench = Bench(replicas=3, slots=4)
    for number in range(4):
        bench.arrive(f"t{number}", session=number, blocks=(number + 1, 2), prompt_bytes=256)
    change(bench, routing=name)
    for number in range(4, 8):
        assert "Dispatch" in kinds(bench.arrive(f"t{number}", session=number, blocks=(1, 2), prompt_bytes=256))
    bench.tell(ReplicaLost(bench.at, "r1", "killed"))
    bench.see("r1", generation=1)
    assert "Dispatch" in kinds(bench.arrive("t9"))


def test_an_unknown_policy_is_a_defect_of_the_driver_and_nobody_is_lost_by_it():
    bench = Bench(slots=1)
    bench.arrive("t1")
    bench.arrive("t2")
    with pytest.raises(KeyError, match="astrology"):
        change(bench, routing="astrology")
    bench.desk.check()
    assert bench.waiting() == ["t2"]


def test_hedges_may_be_allowed_later():
    bench = Bench(replicas=2, slots=8)
    change(bench, hedge_share=1.0)
    for number in range(17):
        bench.arrive(f"before {number}")
        bench.at += 0.1
        bench.tell(FirstToken(bench.at, f"before {number}", 1, 10, 0))
        bench.tell(Finished(bench.at, f"before {number}", 1, Usage(10, 0, 5)))
    bench.arrive("t1")
    assert the(Dispatch, bench.tell(Tick(bench.at + 1))).beside


def test_the_same_settings_again_change_nothing_that_is_decided():
    first, second = assemble(settings(seed=3, routing="random")), assemble(settings(seed=3, routing="random"))
    second.handle(SettingsChanged(NOW_S, settings(seed=3, routing="random")))
    events = [arrived(f"t{number}", NOW_S) for number in range(5)]
    assert [first.handle(event) for event in events] == [second.handle(event) for event in events]


def test_slots_that_are_kept_free_are_given_when_none_are_to_be_kept_any_more():
    bench = Bench(slots=10)
    bench.tell(KeyChanged(NOW_S, key("bob")))
    bench.arrive("b1", who="bob")
    for number in range(8):
        bench.arrive(f"a{number}")
    bench.at += 12  # too long for a burst
    bench.arrive("a8")
    assert bench.waiting() == ["a8"]
    assert the(Dispatch, change(bench, holdback_share=0.0)).ticket == "a8"


def shared(others="standard", bands=None):
    """Eight of ten slots run for ann's team in the batch band, one for bob's in another; and they have for long."""
    bench = Bench(slots=10, **({} if bands is None else {"bands": bands}))
    bench.tell(KeyChanged(NOW_S, key("bob")))
    for number in range(8):
        bench.arrive(f"a{number}", band="batch")
    bench.arrive("b1", who="bob", band=others)
    bench.at += 30
    return bench


def test_what_is_kept_free_is_counted_anew_by_other_bands():
    """Bob's work becomes less urgent than ann's: nothing is kept for it from her any more."""
    bench = shared()
    assert "Hold" in kinds(bench.arrive("a8", band="batch"))
    turned = (Band("batch"), Band("standard", 0.2))
    assert the(Dispatch, change(bench, bands=turned)).ticket == "a8"


def test_bands_that_change_with_people_running_lose_none_of_them():
    bench = shared(others="batch", bands=(Band("standard"), Band("batch", 0.05)))
    change(bench, bands=(Band("only"),))
    assert "Dispatch" in kinds(bench.arrive("a8")), "who was over its part before is not known any more"
    bench.tell(Finished(bench.at, "a8", 1, Usage()))
    bench.at += 12
    assert the(Hold, bench.arrive("a9")).why == "the free slots are kept for others"
    change(bench, bands=(Band("standard"), Band("batch", 0.05), Band("night", 0.05)))
    bench.tell(Finished(bench.at, "b1", 1, Usage()))
    for number in range(8):
        bench.tell(Finished(bench.at, f"a{number}", 1, Usage()))
    bench.tell(Finished(bench.at, "a9", 1, Usage()))
    assert bench.desk.tickets == {}
    assert bench.load("r1") == 0
