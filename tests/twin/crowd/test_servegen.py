from collections import Counter
from itertools import islice
from random import Random

import numpy as np
import pytest
from msgspec.structs import replace

from underlay.domain.errors import BadRequest
from underlay.twin.crowd.servegen import ServeGen
from underlay.twin.crowd.servegen_files import load

HOUR = ServeGen("deepseek-r1", start_s=36_000.0, stop_s=37_200.0, model="m", region="west", band="batch")


def test_as_many_calls_come_as_were_counted_from_each_client():
    counts = [Counter(call.tenant for call in HOUR.calls(Random(seed))) for seed in range(4)]
    windows = [busy for at in range(36_000, 37_200, 600) for busy in load("deepseek-r1").windows[at]]
    expected = Counter()
    for busy in windows:
        expected[f"client-{busy.client}"] += busy.rate_per_s * 600
    assert sum(map(Counter.total, counts)) / 4 == pytest.approx(expected.total(), rel=0.04)
    for client, count in expected.most_common(3):
        assert np.mean([found[client] for found in counts]) == pytest.approx(count, rel=0.2)


def test_calls_come_in_order_within_the_window_and_with_their_lengths():
    calls = list(HOUR.calls(Random(1)))
    assert [call.at for call in calls] == sorted(call.at for call in calls)
    assert calls[0].at >= 0
    assert calls[-1].at < 1200
    assert {(call.model, call.region, call.band) for call in calls} == {("m", "west", "batch")}
    biggest = Counter(call.tenant for call in calls).most_common(1)[0][0]
    sizes = load("deepseek-r1").sizes_at(biggest.removeprefix("client-"), 36_000.0)
    outputs = [call.output_tokens for call in calls if call.tenant == biggest]
    assert np.median(outputs) == pytest.approx(sizes.output[4], rel=0.1)
    assert max(outputs) <= sizes.output[-1]


def test_a_mean_rate_comes_out_and_the_shape_of_the_day_stays():
    day = ServeGen("deepseek-r1")
    scaled = replace(day, mean_rate_per_s=100.0)
    moments = np.arange(300, 86_400, 600.0)
    plain, told = ([crowd.rate_per_s(at) for at in moments] for crowd in (day, scaled))
    assert np.mean(told) == pytest.approx(100.0)
    assert np.array(told) / np.array(plain) == pytest.approx(told[0] / plain[0])
    assert day.rate_per_s(86_401.0) == 0.0


def test_a_part_may_begin_later_in_the_run():
    later = replace(HOUR, at_s=500.0, stop_s=36_300.0, mean_rate_per_s=10.0)
    calls = list(later.calls(Random(1)))
    assert calls[0].at >= 500
    assert calls[-1].at < 800
    assert len(calls) / 300 == pytest.approx(10, rel=0.25)
    assert [later.rate_per_s(at) > 0 for at in (499.0, 500.0, 799.0, 800.0)] == [False, True, True, False]


def test_equal_dice_give_equal_calls():
    told = [
        [(call.at, call.output_tokens, call.tenant) for call in islice(HOUR.calls(Random(seed)), 500)]
        for seed in (1, 1, 2)
    ]
    assert told[0] == told[1] != told[2]


def test_typical_calls_are_like_those_it_makes():
    calls, sample = list(HOUR.calls(Random(1))), HOUR.sample(4000, Random(1))
    means = [np.mean([call.output_tokens for call in some]) for some in (calls, sample)]
    assert means[1] == pytest.approx(means[0], rel=0.05)


def test_who_is_left_out_is_said():
    assert HOUR.warnings() == ()
    (said,) = ServeGen("m-large").warnings()
    assert said.startswith("m-large: 15 of 108 clients, 40% of all calls, are left out")
    assert len(HOUR.tenant_bands()) == 73


def test_what_cannot_be_is_refused():
    HOUR.check()
    with pytest.raises(BadRequest, match="Nobody of deepseek-r1 calls from 90000 to inf s"):
        ServeGen("deepseek-r1", start_s=90_000.0).check()
    for wrong in ({"mean_rate_per_s": 0.0}, {"start_s": 5.0, "stop_s": 4.0}, {"at_s": -1.0}, {"output_scale": 0.0}):
        with pytest.raises(ValueError, match=r".+\."):
            ServeGen("deepseek-r1", **wrong)
