from itertools import islice
from random import Random

import pytest
from msgspec.structs import replace

from underlay.twin.crowd.arrivals import Arrivals
from underlay.twin.crowd.lengths import Separate
from underlay.twin.crowd.open_loop import OpenLoop
from underlay.twin.crowd.rates import Diurnal
from underlay.twin.crowd.spreads import Exponential, Gamma
from underlay.twin.crowd.tenants import Region, Tenant

LENGTHS = Separate(prompt=Gamma(mean=800, cv=1), output=Exponential(mean=200))
CROWD = OpenLoop(
    arrivals=Arrivals(50.0, stop_s=100.0),
    lengths=LENGTHS,
    tenants=(Tenant("ann", weight=3, prefix_tokens=1100, deadline_s=9.0), Tenant("bob", band="batch")),
    region="west",
    model="m",
)


def told(calls):
    return [(call.at, call.prompt_tokens, call.output_tokens, call.tenant, call.links) for call in calls]


def test_calls_come_at_the_rate_as_long_and_by_whom_they_should():
    calls = list(CROWD.calls(Random(1)))
    assert len(calls) == pytest.approx(5000, rel=0.06)
    assert [call.at for call in calls] == sorted(call.at for call in calls)
    bobs = [call for call in calls if call.tenant == "bob"]
    anns = [call for call in calls if call.tenant == "ann"]
    assert len(bobs) / len(calls) == pytest.approx(0.25, abs=0.03)
    assert sum(call.prompt_tokens for call in bobs) / len(bobs) == pytest.approx(800, rel=0.1)
    assert sum(call.prompt_tokens for call in anns) / len(anns) == pytest.approx(1900, rel=0.1)
    assert {(call.band, call.deadline_s, call.links) for call in bobs} == {("batch", None, ())}
    assert {(call.model, call.region, call.deadline_s) for call in anns} == {("m", "west", 9.0)}
    assert len({call.links for call in anns}) == 1


def test_equal_dice_give_equal_calls_and_others_do_not():
    assert told(CROWD.calls(Random(5))) == told(CROWD.calls(Random(5)))
    assert told(CROWD.calls(Random(5))) != told(CROWD.calls(Random(6)))


def test_other_lengths_leave_times_and_tenants_alone():
    longer = replace(CROWD, lengths=Separate(prompt=Gamma(mean=1600, cv=2), output=Exponential(mean=200)))
    pairs = list(zip(CROWD.calls(Random(5)), longer.calls(Random(5)), strict=True))
    assert all((one.at, one.tenant) == (other.at, other.tenant) for one, other in pairs)


def test_its_dice_are_thrown_when_it_is_asked_not_while_calls_are_made():
    dice = Random(5)
    calls = CROWD.calls(dice)
    dice.random()
    assert told(islice(calls, 500)) == told(islice(CROWD.calls(Random(5)), 500))


def test_nothing_follows():
    (call,) = islice(CROWD.calls(Random(1)), 1)
    assert not CROWD.follows
    assert CROWD.follow_up(call, "refused", 3.0, Random(1)) is None


def test_typical_calls_are_like_those_it_makes():
    calls = CROWD.sample(4000, Random(1))
    assert sum(call.output_tokens for call in calls) / 4000 == pytest.approx(200, rel=0.07)
    assert CROWD.rate_per_s(50.0) == 50.0
    assert CROWD.rate_per_s(100.0) == 0.0


def test_regions_have_their_share_and_their_own_day():
    daily = replace(
        CROWD, arrivals=Arrivals(2.0, over_time=(Diurnal(peak_hour=12, trough_share=0.1),), stop_s=86_400.0)
    )
    crowd = daily.across((Region("eu", weight=3), Region("us", utc_offset_h=-8)))
    assert crowd.rate_per_s(43_200.0) == pytest.approx(sum(part.rate_per_s(43_200.0) for part in crowd.crowds))
    assert crowd.crowds[0].rate_per_s(12 * 3600.0) == pytest.approx(1.5 * (1 + 9 / 11))
    assert crowd.crowds[1].rate_per_s(20 * 3600.0) == pytest.approx(0.5 * (1 + 9 / 11))
    calls = list(islice(crowd.calls(Random(1)), 3000))
    assert [call.at for call in calls] == sorted(call.at for call in calls)
    assert {call.region for call in calls} == {"eu", "us"}


def test_who_may_call_is_known_beforehand():
    CROWD.check()
    assert CROWD.tenant_bands() == {"ann": "", "bob": "batch"}
    assert CROWD.warnings() == ()
    with pytest.raises(ValueError, match="same name"):
        replace(CROWD, tenants=(Tenant("a"), Tenant("a")))
