"""Joules as people write and read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.domain.joules import joules, microjoules, written


@pytest.mark.parametrize(
    ("text", "meant"),
    [("800J", 800.0), ("5kJ", 5e3), (" 2.5 MJ ", 2.5e6), ("1kWh", 3.6e6), ("1 wh", 3600.0), ("2MWh", 7.2e9)],
)
def test_amounts_as_people_write_them(text, meant):
    assert joules(text) == meant


@pytest.mark.parametrize("text", ["", "5", "kJ", "-5kJ", "5 eur", "1e3J", "5kJ/day"])
def test_what_is_no_amount_says_what_to_write(text):
    with pytest.raises(ValueError, match="is no amount of energy such as 500 J, 5kJ, 2MJ or 1kWh"):
        joules(text)


def test_thousandths_are_not_taken_for_millions():
    with pytest.raises(ValueError, match="'5mJ' is in thousandths; write M for mega: 5MJ"):
        joules("5mJ")


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "0 J"),
        (1e-6, "1e-06 J"),
        (0.25, "0.25 J"),
        (800.0, "800 J"),
        (999.96, "1 kJ"),
        (3600.0, "3.6 kJ (1 Wh)"),
        (5e5, "500 kJ (138.9 Wh)"),
        (3.6e6, "3.6 MJ (1 kWh)"),
        (9e12, "9000 GJ (2.5 GWh)"),
        (9e16, "90000000 GJ (25000 GWh)"),
    ],
)
def test_amounts_are_told_in_the_unit_that_fits(amount, text):
    assert written(amount) == text


@quick
@given(st.floats(1e-3, 9e12))
def test_what_is_written_can_be_read_again(amount):
    assert joules(written(amount).split(" (")[0]) == pytest.approx(amount, rel=6e-4)


def test_microjoules_are_whole_and_never_negative():
    assert (microjoules(1.5), microjoules(4e-7), microjoules(-0.3)) == (1_500_000, 0, 0)
