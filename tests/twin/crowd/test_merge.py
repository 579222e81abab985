from itertools import islice
from random import Random

from underlay.twin.crowd.arrivals import Arrivals, Even
from underlay.twin.crowd.impatience import Impatience, Impatient
from underlay.twin.crowd.lengths import Separate
from underlay.twin.crowd.merge import Merged
from underlay.twin.crowd.open_loop import OpenLoop
from underlay.twin.crowd.sessions import Sessions
from underlay.twin.crowd.spreads import Fixed
from underlay.twin.crowd.tenants import Tenant

LENGTHS = Separate(prompt=Fixed(10), output=Fixed(5))


def single(name, rate_per_s, band=""):
    return OpenLoop(
        arrivals=Arrivals(rate_per_s, Even(), stop_s=60.0), lengths=LENGTHS, tenants=(Tenant(name, band=band),)
    )


TALKERS = Sessions(
    arrivals=Arrivals(1.0, Even(), stop_s=60.0),
    turns=Fixed(2),
    question=Fixed(10),
    answer=Fixed(20),
    think_s=Fixed(5),
    tenants=(Tenant("talker"),),
)


def test_all_calls_come_in_order():
    crowd = Merged([single("a", 2.0), single("b", 5.0)])
    calls = list(crowd.calls(Random(1)))
    assert [call.at for call in calls] == sorted(call.at for call in calls)
    assert [sum(call.tenant == name for call in calls) for name in "ab"] == [120, 300]
    assert crowd.rate_per_s(3.0) == 7.0
    assert not crowd.follows


def test_one_crowd_throws_no_dice_of_another():
    alone = [call.tenant for call in Merged([single("a", 2.0)]).calls(Random(1))]
    assert alone == ["a"] * 120
    first = [
        (call.at, call.session) for call in Merged([TALKERS, single("a", 2.0)]).calls(Random(1)) if call.session
    ]
    again = [
        (call.at, call.session) for call in Merged([TALKERS, single("a", 9.0)]).calls(Random(1)) if call.session
    ]
    assert first == again


def test_what_follows_is_asked_of_the_crowd_that_made_the_call():
    crowd = Merged([single("a", 1.0), Merged([single("b", 1.0), Impatient(TALKERS, Impatience(tries=2))])])
    assert crowd.follows
    followed = {"a": 0, "b": 0, "talker": 0}
    for call in islice(crowd.calls(Random(1)), 60):
        again = crowd.follow_up(call, "failed", call.at + 1, Random(2))
        if again is None:
            continue
        followed[call.tenant] += 1
        assert (again.try_, again.turn, again.session) == (2, 1, call.session)
        later = crowd.follow_up(again, "finished", again.at + 1, Random(2))
        assert (later.try_, later.turn, later.at) == (1, 2, again.at + 6)
        assert crowd.follow_up(later, "finished", later.at + 1, Random(2)) is None
    assert followed == {"a": 0, "b": 0, "talker": 20}


def test_typical_calls_come_from_each_by_how_many_it_makes():
    calls = Merged([single("a", 1.0), single("b", 3.0)]).sample(4000, Random(1))
    assert len(calls) == 4000
    assert abs(sum(call.tenant == "b" for call in calls) - 3000) < 120
    assert Merged([single("a", 0.0)]).sample(5, Random(1)) == []


def test_what_is_known_of_each_is_known_of_all():
    crowd = Merged([single("a", 1.0), single("b", 1.0, band="batch"), single("a", 1.0, band="late")])
    crowd.check()
    assert crowd.tenant_bands() == {"a": "late", "b": "batch"}
    assert crowd.warnings() == ()
