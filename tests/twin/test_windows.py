"""Rates and percentiles by the time of arrival."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from tests.control.builders import quick
from tests.twin.runs import add, empty, queue

from underlay.twin.records import Series
from underlay.twin.rows import rows_of
from underlay.twin.windows import SAMPLES_MAX, WINDOWS_MAX, thin, width_for, windows_of


@quick
@given(some.floats(1e-3, 1e9))
def test_there_are_never_too_many_windows(span_s):
    assert span_s / width_for(span_s) <= WINDOWS_MAX


def test_a_request_belongs_to_the_window_in_which_it_arrived():
    result = empty(duration_s=2.0)
    add(result, 0.01, 0.2, 5.0, output_tokens=10)
    add(result, 0.02, 0.4, 1.5, output_tokens=20)
    add(result, 1.99, outcome="refused", output_tokens=0)
    windows = windows_of(rows_of(result.requests, {}), 2.0)
    assert windows.width_s == 0.1
    assert len(windows.starts_s) == 20
    assert windows.values["arrival_rate"][0] == pytest.approx(20)
    assert windows.values["output_token_rate"][0] == pytest.approx(300)
    assert windows.values["ttft_p50"][0] == pytest.approx(0.3)
    assert windows.values["goodput"][-1] == 0
    assert isnan(windows.values["ttft_p50"][-1])


def test_windows_add_up_to_the_run():
    result = queue(5)
    windows = windows_of(rows_of(result.requests, result.slo), result.simulated_s)
    assert sum(windows.values["requests"]) == len(result.requests)
    assert sum(windows.values["arrival_rate"]) * windows.width_s == pytest.approx(len(result.requests))


def test_a_last_window_that_was_cut_short_has_its_own_width():
    result = empty(duration_s=100.0, simulated_s=10.05, partial=True)
    add(result, 10.01, 0.1, 0.2)
    windows = windows_of(rows_of(result.requests, {}), 10.05)
    assert windows.values["arrival_rate"][-1] == pytest.approx(1 / 0.05)


def test_samples_are_thinned_by_their_means():
    times = [float(second) for second in range(1000)]
    series = Series(times, {"a.power_w": times, "a.none": [nan] * 1000, "a.half": [nan, 4.0] * 500})
    thinned = thin(series)
    assert len(thinned.times_s) == 200 <= SAMPLES_MAX
    assert thinned.values["a.power_w"][0] == 2.0
    assert np.mean(thinned.values["a.power_w"]) == pytest.approx(np.mean(times))
    assert all(map(isnan, thinned.values["a.none"]))
    assert set(thinned.values["a.half"]) == {4.0}
    assert thin(Series()).times_s == []
    assert thin(Series([1.0], {"a.b": [2.0]})).values == {"a.b": [2.0]}
