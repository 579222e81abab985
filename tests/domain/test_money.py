"""Whole pico-dollars, said as dollars without rounding or exponents."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.domain.money import PICO_PER_USD, usd


@pytest.mark.parametrize(
    ("pico", "said"),
    [(0, "0"), (1, "0.000000000001"), (10**12, "1"), (1500 * 10**9, "1.5"), (10**16, "10000"), (-(10**11), "-0.1")],
)
def test_an_amount_as_people_read_it(pico, said):
    assert usd(pico) == said


@given(st.integers(-(10**24), 10**24))
def test_nothing_is_lost_in_saying_it(pico):
    assert Decimal(usd(pico)) * PICO_PER_USD == pico
    assert "e" not in usd(pico).lower()
