from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.ledger.builders import metered

from underlay.domain.figures import Figure, over_windows, total, weakest


def figure(
    value: float = 1.0, off: float | None = 0.0, meter: str = "m", method="measured", unit: str = "J"
) -> Figure:
    return Figure(value, unit, method, meter, "here", off)


def test_a_sum_is_known_as_its_least_known_part() -> None:
    assert total([figure(), figure(method="assumed"), figure(method="modelled")]).method == "assumed"
    assert weakest(["calibrated", "measured"]) == "calibrated"


def test_shares_of_one_reading_are_off_together_and_meters_apart() -> None:
    assert total([figure(off=3.0), figure(off=4.0)]).uncertainty == 7.0
    assert total([figure(off=3.0), figure(off=4.0, meter="other")]).uncertainty == 5.0
    modelled = figure(off=1.0, meter="", method="modelled")
    assert total([figure(off=3.0), figure(off=4.0, meter="other"), modelled]).uncertainty == 6.0
    assert total([figure(off=3.0), figure(off=None)]).uncertainty is None


def test_a_sum_names_meters_and_boundaries_once() -> None:
    both = total([figure(), figure(), figure(meter="n")])
    assert (both.meter, both.boundary, both.value) == ("m+n", "here", 3.0)
    assert total([both, figure()]).meter == "m+n"
    with pytest.raises(ValueError, match="unit"):
        total([figure(), figure(unit="W")])
    with pytest.raises(ValueError, match="unit"):
        total([])


def test_windows_on_end_of_a_whole_counter_are_off_by_one_window() -> None:
    assert over_windows([figure(off=70.0)] * 100).uncertainty == 70.0
    assert over_windows([figure(off=0.0), figure(off=7.0), figure(off=14.0), figure(off=0.0)]).uncertainty == 14.0
    # Two visits are two: between them its share was 0.
    assert over_windows([figure(off=7.0), figure(0.0, off=0.0), figure(off=7.0)]).uncertainty == 14.0
    assert over_windows([figure(off=7.0), figure(off=None)]).uncertainty is None
    with pytest.raises(ValueError, match="one meter"):
        over_windows([figure(), figure(meter="n")])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(0, 999))
@quick
def test_the_bound_over_windows_holds_for_any_lag(shares, seed) -> None:
    dice = random.Random(seed)
    quantum = 10.0
    late = [dice.choice((0.0, quantum, dice.uniform(0, quantum))) for _ in range(len(shares) + 1)]
    truth = sum(share * 50.0 for share in shares)
    read = [share * (50.0 + late[n] - late[n + 1]) for n, share in enumerate(shares)]
    said = over_windows([figure(value, quantum * share) for value, share in zip(read, shares, strict=True)])
    assert abs(said.value - truth) <= said.uncertainty + 1e-9


def test_products_and_multiples_carry_both_uncertainties() -> None:
    assert figure(10.0, 1.0).times(-2.0) == Figure(-20.0, "J", "measured", "m", "here", 2.0)
    assert figure(10.0).times(0.5, method="modelled").method == "modelled"
    rate = Figure(3.0, "g/kWh", "modelled", "", "", 0.5)
    made = figure(10.0, 1.0).by(rate, unit="g", scale=0.1)
    assert (made.value, made.unit, made.method, made.meter) == (3.0, "g", "modelled", "m")
    assert made.uncertainty == pytest.approx(0.1 * (10 * 0.5 + 3 * 1.0 + 0.5))
    assert figure(10.0, None).by(rate, unit="g").uncertainty is None


def test_a_counter_is_off_by_the_most_that_passes_between_two_refreshes() -> None:
    read = metered(0.0, meter="gpu0", boundary="accelerator", refresh_s=0.1, most_w=700.0)
    assert (read.value, read.uncertainty, read.method) == (0.0, pytest.approx(70.0), "measured")


def test_what_is_no_number_is_no_figure() -> None:
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="None"):
            figure(wrong)
    with pytest.raises(ValueError):
        figure(1.0, -1.0)


def test_figures_are_json_and_say_no_uncertainty_that_they_do_not_have() -> None:
    assert msgspec.json.decode(msgspec.json.encode(figure(off=None)), type=Figure) == figure(off=None)
    assert b"uncertainty" not in msgspec.json.encode(figure(off=None))
