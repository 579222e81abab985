"""Bands, tenants and places, against a line that is kept the slow way."""

from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import settings as pace
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.control.builders import quick

from underlay.control.fairness import Counters
from underlay.control.waiting import Line
from underlay.domain.policy import Band

BANDS = (Band("priority"), Band("standard", 0.2), Band("batch", 0.05))
TENANTS = ("ann", "bob", "cyd")
PRIORITY, STANDARD, BATCH = range(3)


@dataclass
class One:
    name: str
    band: int = STANDARD
    tenant: str = "ann"
    cost: float = 100.0


class Room:
    """A line with its counters; short words for tests."""

    def __init__(self, bands=BANDS, **weights):
        self.counters = Counters(lambda tenant: weights.get(tenant, 1.0))
        self.line = Line(bands, self.counters)
        self.number = count(1)

    def come(self, tenant="ann", band=STANDARD, *, times=1, first=False, cost=100.0):
        for _ in range(times):
            one = One(f"{tenant}{next(self.number)}", band, tenant, cost)
            self.counters.arrive(tenant)
            self.line.push(one, first=first)
        return one

    def serve(self, times=1):
        """Serve the first head and charge it, so many times; who was served."""
        served = []
        for _ in range(times):
            one = next(self.line.heads())
            self.line.serve(one)
            self.counters.depart(one.tenant)
            self.counters.charge(one.tenant, one.cost)
            self.line.check()
            served.append(one)
        return served

    def heads(self, **how):
        return [one.name for one in self.line.heads(**how)]


def test_a_tenants_requests_are_served_in_the_order_they_came():
    room = Room()
    room.come(times=3)
    assert [one.name for one in room.serve(3)] == ["ann1", "ann2", "ann3"]
    assert len(room.line) == 0
    assert room.heads() == []


def test_one_that_was_served_before_goes_before_its_tenants_others_in_order():
    room = Room()
    room.come(times=2)
    room.come(first=True, times=2)
    assert [one.name for one in room.serve(4)] == ["ann3", "ann4", "ann1", "ann2"]


def test_tenants_take_turns_however_many_one_has_waiting():
    room = Room()
    room.come("ann", times=100)
    room.come("bob", times=2)
    assert [one.tenant for one in room.serve(5)] == ["ann", "bob", "ann", "bob", "ann"]


def test_newest_first_only_inside_a_tenant():
    room = Room()
    room.come("ann", times=2)
    room.come("bob", times=2)
    room.come("cyd", PRIORITY)
    assert room.heads() == ["cyd5", "ann1", "bob3"]
    assert room.heads(newest=True) == ["cyd5", "ann2", "bob4"]


def test_one_that_was_served_before_stays_first_under_overload():
    room = Room()
    room.come(first=True)
    room.come(times=2)
    assert room.heads(newest=True) == ["ann1"]


def test_bands_are_served_in_strict_order_while_nothing_is_owed():
    room = Room((Band("priority"), Band("standard"), Band("batch")))
    for band in (BATCH, STANDARD, PRIORITY):
        room.come(band=band, times=3)
    assert [one.band for one in room.serve(9)] == [PRIORITY] * 3 + [STANDARD] * 3 + [BATCH] * 3


@pytest.mark.parametrize("costs", [(100.0, 100.0, 100.0), (20.0, 200.0, 1000.0), (1000.0, 20.0, 7.0)])
def test_over_a_long_busy_time_each_band_gets_its_share_and_the_highest_the_rest(costs):
    room, work = Room(), [0.0, 0.0, 0.0]
    for band, cost in enumerate(costs):
        room.come(band=band, times=5, cost=cost)
    while sum(work) < 40 * max(costs) + 200 * min(costs):
        (one,) = room.serve()
        work[one.band] += one.cost
        room.come(band=one.band, cost=one.cost)
    slack = 2 * max(costs)
    assert abs(work[STANDARD] - 0.2 * sum(work)) <= slack
    assert abs(work[BATCH] - 0.05 * sum(work)) <= slack
    assert work[PRIORITY] >= 0.75 * sum(work) - 2 * slack


def test_an_empty_band_hoards_nothing():
    room = Room()
    room.come(band=BATCH)
    room.come(band=PRIORITY, times=15)
    room.serve(15)  # batch is owed 75 now
    room.line.remove(next(room.line.heads()))
    room.come(band=BATCH)
    room.come(band=PRIORITY, times=25)
    assert [one.band for one in room.serve(20)] == [PRIORITY] * 20


def test_a_band_that_could_not_be_served_is_owed_a_few_requests_at_most():
    room = Room()
    for one in [room.come(band=PRIORITY) for _ in range(1000)]:
        if len(room.line) == 1000:
            room.come("bob", BATCH, times=10)
        room.line.serve(one)
    room.come(band=PRIORITY, times=10)
    assert [one.band for one in room.serve(6)] == [BATCH] * 4 + [PRIORITY] * 2


def test_work_that_higher_bands_leave_goes_to_the_lowest():
    room = Room()
    room.come(band=BATCH, times=20)
    assert len(room.serve(20)) == 20


def test_weights_hold_in_the_line():
    room = Room(ann=3.0)
    room.come("ann", times=100)
    room.come("bob", times=100)
    served = [one.tenant for one in room.serve(80)]
    assert abs(served.count("ann") - 60) <= 2


def test_a_correction_of_a_counter_brings_its_tenant_forward_at_once():
    room = Room()
    room.come("ann", times=2)
    room.come("bob", times=2)
    room.counters.charge("ann", 50.0)
    room.counters.charge("bob", 100.0)
    assert room.heads() == ["ann1", "bob3"]
    room.counters.charge("bob", -90.0)
    assert room.heads() == ["bob3", "ann1"]


def test_the_line_may_change_while_its_heads_are_read():
    room = Room()
    for tenant in TENANTS:
        room.come(tenant)
    seen = []
    for one in room.line.heads():
        room.line.serve(one)
        seen.append(one.tenant)
    assert seen == list(TENANTS)


def test_counters_lift_one_that_joins_a_line_it_was_not_in():
    """A tenant that was away cannot push the others out on its return."""
    room = Room()
    room.come("ann", times=100)
    room.serve(50)
    room.come("bob", times=50)
    assert [one.tenant for one in room.serve(20)].count("bob") == 10


def test_the_place_is_that_of_its_turn():
    room = Room()
    last = room.come("ann", times=50)
    assert room.line.place(last) == 50
    assert room.line.ahead(STANDARD, "ann") == 50
    assert room.line.ahead(STANDARD, "bob") <= 1
    assert room.line.ahead(PRIORITY, "bob") <= 3  # what is owed to lower bands
    assert room.line.ahead(BATCH, "bob") == 19  # its share serves it before all of them are


@pytest.mark.parametrize("tenant", ["ann", "bob", "new"])
@pytest.mark.parametrize("weights", [{}, {"ann": 3.0}])
def test_the_number_ahead_comes_true_if_nobody_else_comes(tenant, weights):
    room = Room((Band("only"),), **weights)
    room.come("ann", 0, times=30)
    room.come("bob", 0, times=10)
    room.serve(9)
    told = room.line.ahead(0, tenant)
    one = room.come(tenant, 0)
    assert room.line.place(one) == told + 1
    served = [each.name for each in room.serve(len(room.line))]
    assert abs(served.index(one.name) - told) <= 3


def test_a_full_line_sends_away_the_newest_of_the_busiest_in_the_lowest_band():
    room = Room()
    room.come("ann", PRIORITY, times=9)
    room.come("ann", BATCH)
    busiest = room.come("bob", BATCH, times=3)
    assert room.line.spare(PRIORITY, "cyd") is busiest
    assert room.line.spare(STANDARD, "bob") is busiest


def test_in_its_own_band_a_newcomer_replaces_only_who_has_more_waiting():
    room = Room()
    newest = room.come("ann", times=3)
    room.come("bob", times=1)
    assert room.line.spare(STANDARD, "bob") is newest
    room.come("bob")
    assert room.line.spare(STANDARD, "bob") is None
    assert room.line.spare(STANDARD, "ann") is None


def test_nobody_is_sent_away_for_a_lower_band():
    room = Room()
    room.come("ann", PRIORITY, times=50)
    assert room.line.spare(STANDARD, "bob") is None
    assert Room().line.spare(BATCH, "bob") is None


class LineMachine(RuleBasedStateMachine):
    """The line against lists that are sorted anew each time."""

    def __init__(self):
        super().__init__()
        self.counters = Counters(lambda tenant: 1.0)
        self.line = Line(BANDS, self.counters)
        self.waits = []  # (one, whether it was served before), in order of coming
        self.since = {}  # when a tenant's queue in a band began
        self.number = 0

    def queue(self, band, tenant):
        mine = [(one, again) for one, again in self.waits if (one.band, one.tenant) == (band, tenant)]
        return [one for one, again in mine if again] + [one for one, again in mine if not again]

    def ranked(self, band):
        """The tenants of a band, who is to be served first in front."""
        tenants = {one.tenant for one, _ in self.waits if one.band == band}
        return sorted(tenants, key=lambda tenant: (self.counters.value(tenant), self.since[band, tenant]))

    @rule(
        tenant=st.sampled_from(TENANTS), band=st.integers(0, 2), cost=st.integers(1, 9), first=st.booleans(),
        arrives=st.booleans(),
    )  # fmt: skip
    def push(self, tenant, band, cost, first, arrives):
        self.number += 1
        one = One(f"w{self.number}", band, tenant, float(cost))
        if not self.queue(band, tenant):
            self.since[band, tenant] = self.number
        self.waits.append((one, first))
        if arrives:
            self.counters.arrive(tenant)
        self.line.push(one, first=first)

    @rule(tenant=st.sampled_from(TENANTS), tokens=st.integers(-5, 9))
    def charge(self, tenant, tokens):
        self.counters.charge(tenant, float(tokens))

    @precondition(lambda self: self.waits)
    @rule(data=st.data(), served=st.booleans())
    def go(self, data, served):
        entry = data.draw(st.sampled_from(self.waits))
        self.waits.remove(entry)
        if served:
            self.line.serve(entry[0])
        else:
            self.line.remove(entry[0])

    @invariant()
    def ordered(self):
        for newest in (False, True):
            heads = list(self.line.heads(newest))
            for band in range(3):
                expected = []
                for tenant in self.ranked(band):
                    queue = self.queue(band, tenant)
                    again = any(again for one, again in self.waits if one is queue[0])
                    expected.append(queue[-1 if newest and not again else 0])
                assert [one for one in heads if one.band == band] == expected
            bands = [one.band for one in heads]
            runs = [band for place, band in enumerate(bands) if place == 0 or bands[place - 1] != band]
            assert len(runs) == len(set(runs))  # one band after the other

    @invariant()
    def sound(self):
        self.line.check()
        assert len(self.line) == len(self.waits)
        assert sorted(one.name for one in self.line) == sorted(one.name for one, _ in self.waits)
        for one, _ in self.waits:
            assert 1 <= self.line.place(one) <= len(self.waits)

    @invariant()
    def spared(self):
        for band in range(3):
            for tenant in TENANTS:
                spare = self.line.spare(band, tenant)
                lowest = max((one.band for one, _ in self.waits), default=-1)
                sizes = {each: len(self.queue(lowest, each)) for each in TENANTS}
                if lowest < band or (lowest == band and max(sizes.values()) <= sizes[tenant] + 1):
                    assert spare is None
                else:
                    assert spare.band == lowest
                    assert sizes[spare.tenant] == max(sizes.values())


TestLine = LineMachine.TestCase
TestLine.settings = pace(quick, stateful_step_count=12)
