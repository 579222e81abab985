import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.twin import runs

from underlay.twin.records import COLUMNS, Requests
from underlay.twin.rows import percentiles, rows_of
from underlay.twin.summary import summarise

SHARES = (0, 50, 90, 99, 100)


@quick
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0.1, 1e9))
def test_equal_weights_change_no_percentile(values, weight):
    column = np.array(values)
    assert percentiles(column, np.full(len(column), weight), SHARES) == pytest.approx(
        percentiles(column, None, SHARES), rel=1e-9, abs=1e-6
    )


def test_a_row_counts_as_often_as_it_weighs():
    values = np.array([3.0, 1.0, 2.0])
    weights = np.array([10.0, 1000.0, 10.0])
    assert percentiles(values, weights, [50, 90])[1] < 2.0
    repeated = np.repeat(values, weights.astype(int))
    assert percentiles(values, weights, [99.9])[0] == pytest.approx(
        percentiles(repeated, None, [99.9])[0], rel=0.05
    )


def weighted(result, weight):
    """The same run, each row standing for so many requests."""
    requests = Requests()
    requests.names = result.requests.names
    columns = {name: result.requests.column(name) for name in COLUMNS}
    requests.extend(columns, np.full(len(result.requests), float(weight)))
    return requests


def test_weights_multiply_counts_and_leave_latencies():
    result = runs.queue(1)
    plain = summarise(result)
    result.requests = weighted(result, 1000)
    heavy = summarise(result)
    for figure in (
        "requests",
        "finished",
        "refused",
        "goodput",
        "throughput",
        "output_tokens",
        "output_token_rate",
    ):
        assert heavy.value(figure) == pytest.approx(1000 * plain.value(figure)), figure
    for figure in ("ttft_p99", "tpot_p50", "e2e_mean", "slo_attainment", "cached_share"):
        assert heavy.value(figure) == pytest.approx(plain.value(figure)), figure
    assert heavy.windows.values["goodput"] == pytest.approx(
        [1000 * value for value in plain.windows.values["goodput"]], nan_ok=True
    )
    assert heavy.windows.values["ttft_p99"] == pytest.approx(plain.windows.values["ttft_p99"], nan_ok=True)
    assert [group.name for group in heavy.groups["tenant"]] == [group.name for group in plain.groups["tenant"]]


def test_a_plain_row_stands_for_itself():
    result = runs.queue(1)
    rows = rows_of(result.requests, result.slo)
    assert not rows.weighted
    assert rows.weight.tolist() == [1.0] * len(result.requests)


def test_weights_are_part_of_the_hash():
    result = runs.queue(1)
    assert weighted(result, 2).hash() != weighted(result, 3).hash()


def test_who_can_wait_is_judged_by_the_whole_answer_and_counts_in_no_latency():
    result = runs.empty()
    runs.add(result, 0.0, ttft_s=0.5, e2e_s=0.9)
    runs.add(result, 0.0, ttft_s=5000.0, e2e_s=7000.0, within_s=7200.0, held_s=4999.0)
    runs.add(result, 0.0, ttft_s=5000.0, e2e_s=7300.0, within_s=7200.0, held_s=4999.0, served_in="elsewhere")
    assert rows_of(result.requests, result.slo).good.tolist() == [True, True, False]
    summary = summarise(result)
    assert summary.value("ttft_p99") == 0.5
    told = {name: summary.value(name) for name in ("deferrable", "deferrable_in_time", "held_mean", "moved_share")}
    assert told == {
        "deferrable": 2.0,
        "deferrable_in_time": 0.5,
        "held_mean": pytest.approx(4999.0),
        "moved_share": 1.0,
    }
