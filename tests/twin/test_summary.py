"""What a run came to, reckoned by hand on a few requests."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from tests.twin.runs import add, empty, queue

from underlay.domain.figures import METHODS, weakest
from underlay.twin.figures import KINDS, title
from underlay.twin.records import Account
from underlay.twin.rows import rows_of
from underlay.twin.summary import GROUPS_MAX, OTHERS, _groups, everywhere, summarise


def small():
    """Five requests in ten seconds: good, slow to begin, slow to go on, refused, open."""
    result = empty()
    add(result, 1.0, 0.5, 0.9, output_tokens=11, cached_tokens=50, region="west")
    add(result, 2.0, 1.5, 1.9, output_tokens=11, region="west")
    add(result, 3.0, 0.5, 1.5, output_tokens=11, region="east")
    add(result, 4.0, outcome="refused", output_tokens=0, region="east", try_=2)
    add(result, 9.0, 0.8, outcome="open", output_tokens=3, region="west")
    return result


def test_counts_rates_and_goodput():
    told = summarise(small())
    expected = {
        "requests": 5, "finished": 3, "refused": 1, "failed": 0, "left": 0, "open": 1, "retries": 1,
        "slo_attainment": 0.2, "goodput": 0.1, "throughput": 0.3, "output_tokens": 33, "output_token_rate": 3.3,
        "cached_share": 50 / 300,
    }  # fmt: skip
    assert {name: told.value(name) for name in expected} == pytest.approx(expected)
    assert isnan(told.value("no such figure"))


def test_latencies_are_those_of_finished_requests():
    told = summarise(small())
    assert told.value("ttft_mean") == pytest.approx(2.5 / 3)
    assert told.value("ttft_p50") == pytest.approx(0.5)
    assert told.value("ttft_p99") == pytest.approx(1.48)  # straight between 0.5 and 1.5, two hundredths below it
    assert told.value("tpot_p50") == pytest.approx(0.04)
    assert told.value("tpot_mean") == pytest.approx((0.04 + 0.04 + 0.1) / 3)
    assert told.value("e2e_mean") == pytest.approx((0.9 + 1.9 + 1.5) / 3)


def test_without_a_promise_every_finished_request_is_good():
    result = small()
    result.slo = {}
    assert summarise(result).value("slo_attainment") == 0.6


def test_a_promise_on_what_is_not_measured_is_refused():
    result = small()
    result.slo = {"ttfb": 1.0}
    with pytest.raises(ValueError, match="ttft, tpot, e2e, not on ttfb"):
        summarise(result)


def test_an_answer_of_one_token_has_no_time_between_tokens_to_hold_against_it():
    result = empty()
    add(result, 0.0, 0.5, 0.5, output_tokens=1)
    told = summarise(result)
    assert told.value("slo_attainment") == 1.0
    assert isnan(told.value("tpot_p50"))


def test_of_nothing_nothing_is_known_and_nothing_breaks():
    told = summarise(empty())
    assert told.value("requests") == 0
    assert told.value("goodput") == 0
    assert isnan(told.value("slo_attainment"))
    assert isnan(told.value("ttft_p99"))
    assert all(groups == () for groups in told.groups.values())
    assert isnan(summarise(empty(simulated_s=0.0, partial=True)).value("goodput"))


def test_groups_add_up_to_the_whole():
    told = summarise(queue(3))
    for groups in told.groups.values():
        for name in ("requests", "finished", "goodput", "output_tokens"):
            assert sum(group.value(name) for group in groups) == pytest.approx(told.value(name))
    assert [group.name for group in told.groups["region"]] == ["west", "east"]


def test_the_many_small_are_one_group():
    result = empty()
    for number in range(GROUPS_MAX + 10):
        for _ in range(2 if number == 30 else 1):
            add(result, 1.0, 0.1, 0.2, tenant=f"t{number}")
    groups = summarise(result).groups["tenant"]
    assert len(groups) == GROUPS_MAX + 1
    assert (groups[0].name, groups[0].value("requests")) == ("t30", 2)
    assert (groups[-1].name, groups[-1].value("requests")) == (OTHERS, 10)


def test_who_was_served_nowhere_is_in_no_place():
    result = small()
    places = np.array([0, -1, 0], dtype=np.int16)
    rows = rows_of(result.requests, {}).only(np.arange(3))
    assert [(group.name, group.value("requests")) for group in _groups(rows, places, ["west"], 1.0)] == [
        ("west", 2)
    ]


def test_energy_and_money_by_token():
    result = small()
    result.accounts = [
        Account.of("west", "energy_feeder", 300.0, "J", "calibrated"),
        Account.of("east", "energy_feeder", 30.0, "J", "assumed"),
        Account.of("west", "energy_it", 220.0, "J", "modelled"),
        Account.of("", "accelerators_cost", 0.0022, "USD", "assumed"),
        Account.of("west", "accelerators_cost", 0.0011, "USD", "assumed"),
        Account.of("", "electricity_cost", 0.0011, "USD", "modelled"),
        Account.of("west", "water_on_site", 2.0, "L", "modelled"),
        Account.of("west", "water_off_site", 3000.0, "mL", "modelled"),
        Account.of("west", "share_of_sun", 0.5, "share", "assumed"),
        Account.of("", "cold_starts", 3.0, "count", "modelled"),
    ]
    told = summarise(result)
    figures = {figure.name: figure for figure in told.figures}
    assert figures["energy_feeder"].value == pytest.approx(330 / 3.6e6)
    assert (figures["energy_feeder"].unit, figures["energy_feeder"].method) == ("kWh", "assumed")
    assert figures["energy_per_token"].value == pytest.approx(10.0)
    assert figures["pue"].value == pytest.approx(1.5)
    assert figures["cost"].value == pytest.approx(0.0033)
    assert figures["cost_per_mtok"].value == pytest.approx(100.0)
    assert figures["water"].value == pytest.approx(5.0)
    assert figures["cold_starts"] == ("cold_starts", 3.0, "count", "modelled")
    assert "share_of_sun" not in figures, "shares of places are not added up"


def test_units_of_one_kind_are_added_in_one_unit():
    kinds = [
        Account.of("a", "carbon", 1.5, "kgCO2e", "modelled"),
        Account.of("b", "carbon", 500.0, "gCO2e", "modelled"),
    ]
    (total,) = everywhere(kinds)
    assert (total.value, total.unit) == (pytest.approx(2.0), "kgCO2e")


def test_every_figure_has_a_kind_and_a_method():
    for figure in summarise(queue(1)).figures:
        assert figure.name in KINDS
        assert figure.unit == KINDS[figure.name].unit
        assert figure.method in METHODS


def test_names_as_people_write_them():
    assert title("ttft_p99") == "TTFT p99"
    assert title("cost_per_mtok") == "cost per million tokens"
    assert weakest(["modelled", "assumed", "measured"]) == "assumed"


def test_the_time_after_the_last_arrival_is_no_time_of_service():
    result = empty(duration_s=10.0, simulated_s=400.0)
    add(result, 9.0, 0.5, 0.9)
    assert summarise(result).value("goodput") == 0.1
    assert summarise(result).windows.starts_s[-1] < 10.0


def test_utilisation_is_that_of_all_replicas():
    result = empty()
    result.series.add(1.0, {"a.utilisation": 1.0, "a.replicas": 3.0, "b.utilisation": 0.0, "b.replicas": 1.0})
    assert summarise(result).value("utilisation") == 0.75
