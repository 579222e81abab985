import numpy as np
import pytest
from tests.twin.fluid.worlds import world

from underlay.twin.fluid.demand import Demand
from underlay.twin.kernel import Kernel
from underlay.twin.scenario import build_crowds


def demand(scenario):
    crowds = [crowd.crowd for crowd in build_crowds.crowds(scenario)]
    return Demand(Kernel(1), crowds, [model.name for model in scenario.models], ["west", "east"])


def test_regions_are_streams_of_one_kind(tmp_path):
    found = demand(world(tmp_path, **{"world.regions.west.clients": 3, "world.regions.east.clients": 1}))
    assert len(found.kinds) == 1
    assert [(stream.origin, stream.share) for stream in found.streams] == [(0, 1.0), (1, 1.0)]
    rates = found.rates(np.array([0.0, 60.0]))
    assert rates == pytest.approx(np.array([[30.0, 10.0]] * 2))


def test_days_follow_the_clocks_of_callers(tmp_path):
    crowds = "\n  - arrivals: {rate_per_s: 10, over_time: [diurnal]}\n    prompt_tokens: 10\n    output_tokens: 5"
    found = demand(world(tmp_path, crowds=crowds))
    rates = found.rates(np.arange(24) * 3600.0)
    assert rates.mean(axis=0) == pytest.approx([5.0, 5.0], rel=1e-3)
    assert rates[:, 0].argmax() != rates[:, 1].argmax()


def test_tries_are_those_after_refusals(tmp_path):
    crowds = """
  - arrivals: {rate_per_s: 1}
    impatience: {tries: 4}
  - arrivals: {rate_per_s: 1}
    impatience: {tries: 4, retries_on: [failed]}
  - arrivals: {rate_per_s: 1}
"""
    assert [kind.tries for kind in demand(world(tmp_path, crowds=crowds)).kinds] == [4, 1, 1]


def test_steady_callers_call_at_the_rate_asked_for(tmp_path):
    crowds = """
  - arrivals: {rate_per_s: 1, over_time: [diurnal]}
    prompt_tokens: 10
    output_tokens: 5
  - arrivals: {rate_per_s: 1}
    sessions: {turns: 4}
  - trace: azure-2023-conv
"""
    found = demand(world(tmp_path, crowds=crowds))
    dice = Kernel(1).stream("test")
    for kind, calls_a_start in zip(found.kinds, (1, 4, 1), strict=True):
        calls = kind.steady(200.0, 50.0).calls(dice)
        times = [next(calls).at for _ in range(2000)]
        assert times[0] >= 50.0
        assert 2000 / (times[-1] - 50.0) == pytest.approx(200.0 / calls_a_start, rel=0.15)
