from pathlib import Path

import numpy as np
import pytest
from tests.twin.plan.builders import demand

from underlay.domain.errors import BadRequest
from underlay.twin.crowd import trace_files
from underlay.twin.plan.demand import of_rate, of_scenario, of_trace, told_lengths
from underlay.twin.scenario import Scenario, with_settings


def test_lengths_told_by_their_mean_are_those():
    made = demand(lengths=((1000.0, 1.0), (200.0, 0.5)))
    assert made.prompt_mean == pytest.approx(1000, rel=0.05)
    assert made.output_mean == pytest.approx(200, rel=0.05)
    assert made.prompt_tokens.max() <= 8000
    assert made.longest <= 9600
    fixed = demand(lengths=((1000.0, 0.0), (200.0, 0.0)))
    assert (fixed.longest, fixed.written) == (1200, {"prompt_tokens": 1000.0, "output_tokens": 200.0})


def test_recorded_lengths_hold_the_longest_request():
    made = of_rate(1.0, 1.0, *told_lengths(None, None, "sharegpt"))
    assert made.longest == max(sum(pair) for pair in trace_files.lengths(trace_files.locate("sharegpt")))
    assert made.written == {"lengths": {"name": "sharegpt"}}
    with pytest.raises(BadRequest, match="or of neither"):
        told_lengths((100.0, 1.0), None, "sharegpt")
    with pytest.raises(BadRequest, match="did you mean 'sharegpt'"):
        told_lengths(None, None, "shargpt")


def write_trace(path: Path) -> Path:
    rows = ["arrived_at,num_prefill_tokens,num_decode_tokens"]
    at = 0.0
    for minute in range(4):  # every minute twice as busy as the one before
        for _ in range(30 * 2**minute):
            at += 60 / (30 * 2**minute)
            rows.append(f"{at:.3f},{100 + minute},10")
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_trace_has_its_own_peak_and_burstiness(tmp_path):
    path = write_trace(tmp_path / "calls.csv")
    made = of_trace(str(path))
    assert made.mean_per_s == pytest.approx(450 / 240, rel=0.02)
    assert made.peak_per_s == pytest.approx(240 / 60, rel=0.02)
    assert made.longest == 113
    assert made.cv <= made.cv_most < 0.3  # like a clock
    scaled = of_trace(str(path), 10.0)
    assert scaled.mean_per_s == pytest.approx(10.0)
    assert scaled.peak_per_s / scaled.mean_per_s == pytest.approx(made.peak_per_s / made.mean_per_s)
    assert scaled.written == {"lengths": {"path": str(path)}}


def test_a_scenario_has_the_rates_of_its_crowds():
    tree = {
        "duration": 86_400.0,
        "crowds": [
            {
                "arrivals": {"rate_per_s": 4, "process": {"kind": "gamma", "cv": 2},
                             "over_time": [{"kind": "diurnal", "trough_share": 0.5}]},
                "prompt_tokens": 300,
                "output_tokens": {"mean": 100, "cv": 0.5},
            }
        ],
    }  # fmt: skip
    made = of_scenario(with_settings(Scenario.model_validate(tree), {}))
    assert made.mean_per_s == pytest.approx(4, rel=0.01)
    assert made.peak_per_s == pytest.approx(4 / 0.75, rel=0.01)
    assert made.cv == 2
    assert set(made.prompt_tokens.tolist()) == {300}
    again = with_settings(Scenario.model_validate(tree), {})
    assert np.array_equal(of_scenario(again).output_tokens, made.output_tokens)


def test_growth_is_of_the_whole_load_and_nothing_cannot_be():
    made = demand(10.0, 20.0).times(1.5)
    assert (made.mean_per_s, made.peak_per_s) == (15.0, 30.0)
    with pytest.raises(BadRequest, match="the peak at least the mean"):
        demand(20.0, 10.0)
    with pytest.raises(BadRequest, match="above 0"):
        demand(0.0, 10.0)
