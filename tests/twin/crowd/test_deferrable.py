"""Callers some of whom can wait."""

from random import Random

import pytest

from underlay.twin.crowd.arrivals import Arrivals
from underlay.twin.crowd.deferrable import Deferrable, Patient
from underlay.twin.crowd.impatience import Impatience, Impatient
from underlay.twin.crowd.lengths import Separate
from underlay.twin.crowd.open_loop import OpenLoop
from underlay.twin.crowd.spreads import Fixed
from underlay.twin.crowd.tenants import Tenant

CROWD = OpenLoop(
    arrivals=Arrivals(40.0, stop_s=100.0),
    lengths=Separate(prompt=Fixed(10), output=Fixed(5)),
    tenants=(Tenant("jobs", band="batch"),),
)
RULES = Deferrable(within_s=3600.0, share=0.3)


def test_the_share_of_them_can_wait_and_nobody_is_lost():
    plain = list(CROWD.calls(Random(1)))
    calls = list(Patient(CROWD, RULES).calls(Random(1)))
    assert [call.at for call in calls] == [call.at for call in plain]
    marked = [call for call in calls if call.within_s is not None]
    assert len(marked) / len(calls) == pytest.approx(0.3, abs=0.03)
    assert {call.within_s for call in marked} == {3600.0}


def test_equal_dice_mark_the_same_calls():
    first, second = ([call.within_s for call in Patient(CROWD, RULES).calls(Random(7))] for _ in range(2))
    assert first == second


def test_who_can_wait_does_not_hang_up_and_tries_again_as_patiently():
    crowd = Patient(Impatient(CROWD, Impatience(patience_s=Fixed(2))), Deferrable(within_s=60.0))
    assert crowd.follows
    call = next(crowd.calls(Random(1)))
    assert (call.deadline_s, call.within_s) == (None, 60.0)
    again = crowd.follow_up(call, "refused", 5.0, Random(1))
    assert (again.deadline_s, again.within_s, again.held_s) == (None, 60.0, 0.0)


def test_it_is_the_crowd_that_it_was():
    crowd = Patient(CROWD, RULES)
    assert crowd.tenant_bands() == {"jobs": "batch"}
    assert crowd.rate_per_s(5.0) == 40.0
    assert len(crowd.sample(3, Random(1))) == 3
    assert crowd.warnings() == ()
    crowd.check()


@pytest.mark.parametrize(
    "wrong", [{"within_s": 0.0}, {"within_s": 1.0, "share": 0.0}, {"within_s": 1.0, "share": 2.0}]
)
def test_what_cannot_be(wrong):
    with pytest.raises(ValueError, match="must be"):
        Deferrable(**wrong)
