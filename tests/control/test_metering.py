"""What it costs, exactly."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import PRICE, key, quick

from underlay.control.effects import Charge
from underlay.control.metering import Tariff, charge
from underlay.domain.answer import Usage
from underlay.domain.money import Price

usages = st.builds(
    lambda fresh, cached, completion: Usage(fresh + cached, cached, completion),
    *[st.integers(0, 10_000_000)] * 3,
)
prices = st.decimals(0, 1000, places=6)


def cost(usage, outcome="finished", price=PRICE):
    return charge("t1", key("ann"), "gemma", Tariff(price), usage, outcome).cost_pico_usd


def test_a_charge_says_who_pays_for_what():
    usage = Usage(1000, 400, 500)
    expected = 600 * 150_000 + 400 * 75_000 + 500 * 600_000
    assert charge("t1", key("ann"), "gemma", Tariff(PRICE), usage, "finished") == Charge(
        ticket="t1",
        key_id="key_ann",
        tenant="ann's",
        model="gemma",
        usage=usage,
        cost_pico_usd=expected,
        outcome="finished",
    )


def test_cached_tokens_are_prompt_tokens_at_their_own_price_and_counted_once():
    assert cost(Usage(100, 0, 0)) == 100 * 150_000
    assert cost(Usage(100, 100, 0)) == 100 * 75_000


@pytest.mark.parametrize(("outcome", "pays"), [("finished", True), ("client_gone", True), ("failed", False)])
def test_who_failed_pays_nothing_who_left_pays_what_was_made(outcome, pays):
    usage = Usage(10, 0, 5)
    booked = charge("t1", key("ann"), "gemma", Tariff(PRICE), usage, outcome)
    assert bool(booked.cost_pico_usd) == pays
    assert booked.usage == usage  # the work is on record either way


@quick
@given(usage=usages, prompt=prices, cached=prices, completion=prices)
def test_money_is_exact(usage, prompt, cached, completion):
    """I7: no price with six decimals and no number of tokens loses a pico-dollar."""
    price = Price(prompt, cached, completion)
    truth = (
        Fraction(prompt) * (usage.prompt_tokens - usage.cached_tokens)
        + Fraction(cached) * usage.cached_tokens
        + Fraction(completion) * usage.completion_tokens
    )
    assert cost(usage, price=price) == truth * 10**6


@quick
@given(parts=st.lists(usages, max_size=5))
def test_the_sum_of_the_parts_is_the_price_of_the_sum(parts):
    total = Usage(*(sum(getattr(u, f) for u in parts) for f in Usage.__struct_fields__))
    assert sum(cost(part) for part in parts) == cost(total)


def test_the_smallest_price_there_is_counts():
    assert cost(Usage(1, 0, 0), price=Price(prompt_usd_per_mtok=Decimal("0.000001"))) == 1


@quick
@given(usage=usages, price=st.decimals(0, 1000, places=9))
def test_a_price_with_fractions_of_a_pico_dollar_per_token_costs_what_the_price_says(usage, price):
    exact = Price(price, price, price)
    assert Tariff(exact).cost_pico_usd(usage) == exact.cost_pico_usd(usage)
