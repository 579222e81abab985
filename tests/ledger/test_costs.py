from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.ledger.builders import MODEL, decode, prefill, step, window

from underlay.domain.figures import Figure
from underlay.domain.money import PICO_PER_USD
from underlay.ledger.attribution import attribute
from underlay.ledger.costs import CostRates, accelerator_hours, amortised, listed, split, window_costs
from underlay.ledger.node import Host, node_accounts

RATES = CostRates(Figure(3.6, "USD/h", "assumed"), Figure(0.36, "USD/kWh", "assumed"))


def busy(value: float = 200.0):
    return attribute(window(value), [step(decode("a"), prefill("b"), end_s=0.75)], MODEL)


def node(value: float = 200.0, pue: float | None = 1.5):
    host = Host(Figure(40.0, "J", "measured", "rapl"), Figure(10.0, "W", "calibrated"), 0.5)
    return node_accounts([busy(value)], host, pue=None if pue is None else Figure(pue, "ratio", "assumed"))


@given(st.integers(0, 10**18), st.lists(st.floats(0, 1e12), min_size=1, max_size=20))
@quick
def test_parts_of_an_amount_are_the_amount_to_the_last_pico_dollar(amount, weights) -> None:
    parts = split(amount, weights)
    assert sum(parts) == amount
    assert min(parts) >= 0
    heaviest = weights.index(max(weights))
    assert parts[heaviest] >= amount // len(weights) - 1 or max(weights) == 0.0


def test_a_window_costs_its_hire_its_electricity_and_its_overhead() -> None:
    costs = window_costs(node(), 8, RATES)
    assert sum(cost.accelerator_pico_usd for cost in costs) == pytest.approx(8 * 3.6 / 3600 * PICO_PER_USD)
    assert sum(cost.electricity_pico_usd for cost in costs) == pytest.approx(240.0 * 1e-7 * PICO_PER_USD)
    assert sum(cost.overhead_pico_usd for cost in costs) == pytest.approx(120.0 * 1e-7 * PICO_PER_USD)


def test_hire_goes_where_the_time_went() -> None:
    costs = {(cost.account, cost.request): cost.accelerator_pico_usd for cost in window_costs(busy(), 1, RATES)}
    hour = 3.6 / 3600 * PICO_PER_USD
    assert costs["idle_provisioned", ""] == pytest.approx(0.25 * hour)
    assert costs["busy", "a"] + costs["busy", "b"] == pytest.approx(0.75 * hour)
    assert costs["unexplained", ""] == 0
    stuck = {cost.request: cost.accelerator_pico_usd for cost in window_costs(busy(0.0), 1, RATES)}
    assert stuck["a"] == stuck["b"] == pytest.approx(0.375 * hour)  # the meter did not move; time did


def test_time_that_fills_caches_is_hired_too_and_hours_are_divided_as_their_hire_is() -> None:
    log = [step(decode("a"), end_s=0.5), step(prefill("", purpose="warming"), begin_s=0.5)]
    accounts = attribute(window(200.0), log, MODEL)
    costs = {(cost.account, cost.request): cost.accelerator_pico_usd for cost in window_costs(accounts, 2, RATES)}
    assert costs["warming", ""] > 0
    hours = accelerator_hours(accounts, 2)
    assert sum(hours) == pytest.approx(2 / 3600.0)
    for entry, spent in zip(accounts.entries, hours, strict=True):
        assert costs[entry.account, entry.request] == pytest.approx(spent * 3.6 * PICO_PER_USD, abs=1.0)


def test_what_nobody_said_is_none() -> None:
    costs = window_costs(node(pue=None), 1, CostRates(accelerator_hour=RATES.accelerator_hour))
    assert all(cost.electricity_pico_usd is None and cost.overhead_pico_usd is None
               for cost in costs if cost.account == "busy")  # fmt: skip
    assert all(cost.accelerator_pico_usd is not None for cost in costs if cost.account == "busy")


def test_a_residual_below_zero_is_paid_back() -> None:
    whole = node_accounts([busy()], node_meter=Figure(150.0, "J", "measured", "redfish"))
    costs = window_costs(whole, 1, RATES)
    assert sum(cost.electricity_pico_usd for cost in costs) == pytest.approx(150.0 * 1e-7 * PICO_PER_USD)


def test_an_hour_is_hired_or_written_off() -> None:
    hired = listed("h100-sxm")
    assert hired.method == "assumed"
    assert hired.uncertainty > 0.0
    assert listed("no such thing") is None
    assert amortised(35_064.0, 48.0).value == pytest.approx(1.0)
