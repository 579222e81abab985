"""Numbers as people read them."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tests.control.builders import quick

from underlay.twin.confidence import Interval
from underlay.twin.report.wording import NOTHING, Scale, clip, number, percent, quantity, scale, span, spread


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0213, "s", "21.30 ms"),
        (1.5, "s", "1.500 s"),
        (123456, "count", "123,456"),
        (0.98765, "share", "98.77 %"),
        (0.0, "s", "0 s"),
        (12345.678, "tokens/s", "12,346 tokens/s"),
        (25_000.0, "kWh", "25 MWh"),
        (0.05, "kWh", "50 Wh"),
        (3.2e6, "W", "3.200 MW"),
        (nan, "s", NOTHING),
        (1.2345, "ratio", "1.234"),
        (-0.5, "s", "-500 ms"),
    ],
)
def test_quantities(value, unit, text):
    assert quantity(value, unit) == text


@quick
@given(some.floats(allow_nan=False, allow_infinity=False, width=32), some.sampled_from(["s", "share", "kWh", "x"]))
def test_every_quantity_can_be_written_and_is_nearly_what_it_was(value, unit):
    told = scale(unit, value)
    written = float(told.number(value).replace(",", "")) * told.size
    assert written == pytest.approx(value, rel=1e-3, abs=1e-11)


def test_an_interval_and_its_half_are_in_one_unit():
    assert spread(Interval(0.5, 0.0123, 3), "s") == ("500", "12", "ms")
    assert spread(Interval(0.5, inf, 1), "s") == ("500", "", "ms")
    assert spread(Interval(nan, inf, 0), "s")[0] == NOTHING


def test_differences_are_told_as_finely_as_what_differs():
    told = scale("s", 0.02)
    assert told.beside(-0.0000000001, 0.02) == "+0.00"
    assert told.beside(0.0012345, 0.02) == "+1.23"
    assert Scale(1.0, "").beside(-34.33, 1234567.0) == "-34"
    assert Scale(1.0, "").beside(0.0, 0.0) == "+0"
    assert told.beside(nan, 0.02) == NOTHING


def test_shares():
    assert percent(0.1234) == "+12.3 %"
    assert percent(-0.00001) == "+0.0 %"
    assert percent(nan) == percent(inf) == NOTHING
    assert number(inf) == "∞"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.25, "250 ms"), (2.5, "2.5 s"), (59.99, "60.0 s"), (60, "1 min"), (93_785, "1 d 2 h 3 min 5 s")],
)
def test_spans(seconds, text):
    assert span(seconds) == text


def test_long_names_are_cut():
    assert clip("x" * 300) == "x" * 199 + "…"
    assert clip("short") == "short"
