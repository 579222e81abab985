from random import Random

import numpy as np
import pytest

from underlay.twin.crowd.arrivals import Arrivals
from underlay.twin.crowd.call import Call
from underlay.twin.crowd.impatience import Impatience, Impatient
from underlay.twin.crowd.lengths import Separate
from underlay.twin.crowd.open_loop import OpenLoop
from underlay.twin.crowd.sessions import Sessions
from underlay.twin.crowd.spreads import Exponential, Fixed
from underlay.twin.crowd.tenants import Tenant

CROWD = OpenLoop(
    arrivals=Arrivals(40.0, stop_s=100.0),
    lengths=Separate(prompt=Fixed(10), output=Fixed(5)),
    tenants=(Tenant("patient", deadline_s=99.0), Tenant("other", weight=3)),
)


def test_nobody_is_lost_and_each_waits_for_a_time_of_its_own():
    calls = list(Impatient(CROWD, Impatience(patience_s=Exponential(mean=8))).calls(Random(1)))
    plain = list(CROWD.calls(Random(1)))
    assert [call.at for call in calls] == [call.at for call in plain]
    others = [call.deadline_s for call in calls if call.tenant == "other"]
    assert np.mean(others) == pytest.approx(8, rel=0.08)
    assert {call.deadline_s for call in calls if call.tenant == "patient"} == {99.0}


def test_who_waits_for_ever_has_no_deadline():
    assert {
        call.deadline_s for call in Impatient(CROWD, Impatience()).calls(Random(1)) if call.tenant == "other"
    } == {None}


def test_a_refused_call_comes_again_later_and_later_and_then_no_more():
    crowd = Impatient(CROWD, Impatience(tries=5, backoff_s=1.0, backoff_max_s=3.0, jitter=0.0))
    call = Call(0.0, 10, 5, tenant="other", band="b", links=(1, 2), session=7, deadline_s=4.0, more="ours")
    waits = []
    while (again := crowd.follow_up(call, "refused", 100.0, Random(1))) is not None:
        waits.append(again.at - 100.0)
        told = (
            again.tenant,
            again.band,
            again.links,
            again.session,
            again.deadline_s,
            again.more,
            again.prompt_tokens,
        )
        assert told == ("other", "b", (1, 2), 7, 4.0, "ours", 10)
        assert again.try_ == call.try_ + 1
        call = again
    assert waits == [1, 2, 3, 3]


def test_jitter_keeps_them_from_coming_back_together():
    rules = Impatience(backoff_s=4.0, jitter=0.5)
    dice = Random(1)
    waits = [rules.wait_s(1, dice) for _ in range(2000)]
    assert (min(waits), max(waits)) == pytest.approx((2.0, 4.0), abs=0.01)
    assert np.mean(waits) == pytest.approx(3.0, abs=0.05)
    assert Impatience(tries=9999, jitter=0).wait_s(9998, dice) == 8.0


@pytest.mark.parametrize(
    ("outcome", "again"), [("refused", True), ("failed", True), ("left", False), ("finished", False)]
)
def test_after_which_ends_they_try_again(outcome, again):
    found = Impatient(CROWD, Impatience()).follow_up(Call(0.0, 1, 1), outcome, 5.0, Random(1))
    assert (found is not None) == again


def test_who_left_may_try_again_too():
    crowd = Impatient(CROWD, Impatience(retries_on=("left",)))
    assert crowd.follow_up(Call(0.0, 1, 1), "left", 5.0, Random(1)).try_ == 2
    assert crowd.follow_up(Call(0.0, 1, 1), "refused", 5.0, Random(1)) is None


def test_later_turns_are_the_same_persons():
    talk = Sessions(arrivals=Arrivals(1.0), turns=Fixed(3), question=Fixed(9), answer=Fixed(9), think_s=Fixed(2))
    crowd = Impatient(talk, Impatience(patience_s=Exponential(mean=8), tries=2))
    call = next(crowd.calls(Random(1)))
    again = crowd.follow_up(call, "failed", 10.0, Random(1))
    second = crowd.follow_up(again, "finished", 20.0, Random(1))
    assert (second.turn, second.try_, second.at, second.deadline_s) == (2, 1, 22.0, call.deadline_s)
    assert crowd.follow_up(second, "left", 30.0, Random(1)) is None


def test_the_rest_is_the_crowds_own():
    crowd = Impatient(CROWD, Impatience(patience_s=Fixed(3)))
    crowd.check()
    assert crowd.rate_per_s(5.0) == 40.0
    assert {call.deadline_s for call in crowd.sample(50, Random(1))} == {3.0, 99.0}
    assert crowd.tenant_bands() == {"patient": "", "other": ""}
    assert crowd.warnings() == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"tries": 0},
        {"backoff_s": -1},
        {"factor": 0.5},
        {"backoff_max_s": 0.1},
        {"jitter": 2},
        {"retries_on": ("finished",)},
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r".+\."):
        Impatience(**wrong)
