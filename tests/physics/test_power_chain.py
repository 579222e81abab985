from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.physics.power_chain import Loss, chain, ups_loss


@pytest.mark.parametrize(("load", "low", "high"), [(0.85, 0.94, 0.96), (0.3, 0.90, 0.94), (0.5, 0.92, 0.95)])
def test_a_typical_supply_goes_through_the_published_bands(load, low, high) -> None:
    assert low <= ups_loss("typical").efficiency(load) <= high


def test_the_best_is_as_good_at_every_load() -> None:
    assert [ups_loss("best").efficiency(load) for load in (0.1, 1.0)] == pytest.approx([0.97, 0.97])
    assert ups_loss("eco").efficiency(0.5) == pytest.approx(0.99)
    assert ups_loss("none").watts(100, 100) == 0


@quick
@given(st.floats(0.01, 1), st.floats(0.01, 1), st.sampled_from(["typical", "best", "eco", "none"]))
def test_more_load_never_loses_less_and_is_never_less_efficient(one, other, kind) -> None:
    one, other = sorted((one, other))
    loss = ups_loss(kind)
    assert loss.watts(one, 1) <= loss.watts(other, 1)
    assert loss.efficiency(one) <= loss.efficiency(other) + 1e-12 <= 1 + 1e-12


def test_two_stages_in_a_row_are_one() -> None:
    far, near = Loss(0.02, 0.03), Loss(0.0, 0.01)
    at_near = 70 + near.watts(70, 100)
    assert far.after(near).watts(70, 100) == pytest.approx(near.watts(70, 100) + far.watts(at_near, 100))


def test_what_is_fed_in_pays_for_racks_and_halls() -> None:
    found = chain("typical")
    in_racks_w = 700.0 + found.rack.watts(700.0, 1000.0)
    in_halls_w = in_racks_w + found.hall.watts(in_racks_w, in_racks_w / 0.7)
    assert found.fed_share(0.7) == pytest.approx(in_halls_w / 700.0)


def test_a_rack_loses_what_its_shelves_do() -> None:
    assert chain().rack.watts(131.2e3, 132e3) == pytest.approx(800)
