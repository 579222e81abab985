import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.domain.policy import DeskSettings, ModelPolicy
from underlay.physics import profiles
from underlay.twin.crowd.arrivals import Arrivals
from underlay.twin.crowd.lengths import Separate
from underlay.twin.crowd.open_loop import OpenLoop
from underlay.twin.crowd.spreads import Fixed
from underlay.twin.crowd.tenants import Tenant
from underlay.twin.engine import SlotRules
from underlay.twin.fluid.demand import Kind
from underlay.twin.fluid.pools import Pace, Pool
from underlay.twin.fluid.station import Pooled
from underlay.twin.fluid.surface import Surface, measured_settings

SETTINGS = DeskSettings(models=(ModelPolicy("chat"),), waiting_max=20)
FULL = Pace(1.0, 1.0)


@pytest.fixture(scope="module")
def surface(coarse):
    crowd = OpenLoop(
        arrivals=Arrivals(1.0),
        lengths=Separate(prompt=Fixed(value=200), output=Fixed(value=40)),
        tenants=(Tenant(name="all"),),
        model="chat",
    )
    times = profiles.find("h100-sxm", "llama-3.1-8b", "tp1", "bf16").coefficients
    rules = SlotRules(slots=4)
    settings = measured_settings(SETTINGS, 2, 4)
    found = Surface(
        Pooled("chat", rules, times, 0.0, None, settings, (), ((Kind(crowd, None), 1.0, 1.0),), 2, 32), 1
    )
    while not found.saturated:
        found.rise()
    return found


def pool(surface, replicas=10, pace=FULL):
    made = Pool(0, 0, surface, SETTINGS)
    made.count(pace, replicas)
    return made


def test_a_surface_rises_to_what_it_can_serve(surface):
    assert all(one.inside < other.inside for one, other in zip(surface.levels, surface.levels[1:], strict=False))
    assert surface.levels[-1].refused_share > 0.03
    assert surface.levels[0].refused_share == 0.0
    assert surface.rate_max_per_s == pytest.approx(surface.levels[-1].ended_per_s, rel=0.05)
    assert (surface.rate_per_s[1:] >= surface.rate_per_s[:-1]).all()


@quick
@given(st.lists(st.floats(0, 300), min_size=1, max_size=30), st.sampled_from([0.1, 1.0, 5.0]))
def test_nobody_appears_or_vanishes(surface, arrivals, tick_s):
    flow = pool(surface)
    ended = refused = 0.0
    for arrived in arrivals:
        before = flow.inside
        lost = flow.step(arrived, tick_s)
        ended += flow.ended_per_s * flow.ready * tick_s
        refused += lost
        assert 0.0 <= lost <= arrived + 1e-9
        assert flow.inside == pytest.approx(
            before + arrived - lost - flow.ended_per_s * flow.ready * tick_s, abs=1e-6
        )
        assert flow.line <= SETTINGS.waiting_max + 1e-6
    assert ended + refused + flow.inside == pytest.approx(sum(arrivals), rel=1e-9, abs=1e-6)


def test_a_steady_load_settles_where_as_many_end(surface):
    flow = pool(surface)
    load = 0.6 * surface.rate_max_per_s * 10
    for _ in range(200):
        assert flow.step(load * 0.5, 0.5) == 0.0
    assert flow.ended_per_s * 10 == pytest.approx(load, rel=1e-6)
    assert 0 < flow.inside < surface.inside_max * 10


def test_nobody_ends_before_the_answer_is_made(surface):
    flow = pool(surface)
    stays_s = surface.guess.seconds(1.0)
    ended = []
    for _ in range(300):
        flow.step(10.0 * stays_s / 100, stays_s / 100)
        ended.append(flow.ended_per_s)
    assert max(ended[:50]) == pytest.approx(0.0, abs=1e-6)
    assert ended[-1] == pytest.approx(1.0, rel=0.05)


def test_prompts_that_come_together_slow_everybody_down(surface):
    flow = pool(surface)
    load = 0.6 * surface.rate_max_per_s * 10
    for _ in range(100):
        flow.step(load * 0.1, 0.1)
    settled = flow.running / 10
    assert flow.felt == pytest.approx(settled, rel=1e-3)
    flow.step(1.6 * load * 0.1, 0.1)
    assert flow.felt > 1.02 * settled


def test_with_fewer_replicas_who_finds_no_room_stands_in_line(surface):
    flow = pool(surface)
    most = surface.rate_max_per_s * 10
    for _ in range(100):
        flow.step(0.97 * most * 0.2, 0.2)
    assert flow.line == 0.0
    flow.count(FULL, -5)
    flow.step(0.0, 1e-6)
    assert flow.line > 0.0
    assert flow.running == pytest.approx(5 * surface.inside_max, rel=1e-3)


def test_beyond_what_it_serves_the_line_fills_and_the_rest_is_refused(surface):
    flow = pool(surface)
    most = surface.rate_max_per_s * 10
    refused = [flow.step(2.0 * most, 1.0) for _ in range(60)]
    assert refused[-1] == pytest.approx(most, rel=1e-6)
    assert flow.line == pytest.approx(20 - 10 * surface.pooled.settings.waiting_max / 2, abs=1e-6)


def test_slower_replicas_end_fewer_of_as_many(surface):
    quick_pool, slow = pool(surface), pool(surface, pace=Pace(1.0, 2.0))
    for _ in range(100):
        quick_pool.step(20.0, 1.0)
        slow.step(20.0, 1.0)
    assert slow.inside > 1.5 * quick_pool.inside
    assert slow.ended_per_s == pytest.approx(quick_pool.ended_per_s, rel=1e-6)


def test_without_replicas_everybody_is_refused(surface):
    flow = pool(surface)
    flow.count(FULL, -10)
    assert flow.step(7.0, 1.0) == 7.0
