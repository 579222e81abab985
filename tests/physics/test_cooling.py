from __future__ import annotations

from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.physics.climate import Climate
from underlay.physics.cooling import CoolingPlant, available_ratio
from underlay.physics.grid import regions
from underlay.physics.power_chain import chain

PLANT = CoolingPlant(1.15e6)
LOSSES = chain()
CHAIN = (1 + LOSSES.rack.share) * (1 + LOSSES.hall.share) - 1


def pue(plant: CoolingPlant, climate: Climate) -> float:
    return (1 + CHAIN) * (1 + plant.yearly_share(0.7e6, climate))


def published() -> list[tuple[Climate, float]]:
    return [
        (Climate(one.latitude, one.longitude), one.pue)
        for one in regions().values()
        if one.pue and one.latitude is not None and one.longitude is not None
    ]


def test_modelled_pues_lie_where_published_ones_do() -> None:
    said = [pue(PLANT, climate) for climate, _ in published()]
    was = [value for _, value in published()]
    assert len(was) > 55
    assert min(was) <= min(said) <= max(said) <= max(was)
    assert median(said) == pytest.approx(median(was), abs=0.05)


def test_an_old_site_is_as_bad_as_surveys_say() -> None:
    losses = chain("typical")
    lost = (1 + losses.rack.share) * (1 + losses.hall.share + losses.hall.fixed_share / 0.4) - 1
    old = CoolingPlant(1.15e6, economiser=False)
    assert 1.3 < (1 + lost) * (1 + old.yearly_share(0.7e6, Climate(40, 0))) < 1.6  # Uptime: 1.54 on average


def test_a_plant_scaled_to_a_published_pue_has_it() -> None:
    for climate, value in published():
        scaled = PLANT.calibrated(value, CHAIN, 0.7e6, climate)
        assert pue(scaled, climate) == pytest.approx(value, abs=0.006)
        assert scaled.method == "calibrated"


@quick
@given(st.floats(-20, 45), st.floats(-20, 45), st.floats(1e4, 2e6))
def test_heat_outside_makes_it_dearer_and_harder(cool_c, warm_c, heat_w) -> None:
    cool_c, warm_c = sorted((cool_c, warm_c))
    plant = replace(PLANT, economiser=False)
    cool, warm = plant.cool(heat_w, cool_c), plant.cool(heat_w, warm_c)
    assert cool.capacity_w >= warm.capacity_w
    assert cool.removed_w >= warm.removed_w
    if warm.removed_w == heat_w and heat_w > 0.06 * cool.capacity_w:  # below, a large one switches on and off
        assert cool.power_w <= warm.power_w * 1.02


def test_a_chiller_gets_weaker_the_hotter_it_is() -> None:
    assert available_ratio(45) < available_ratio(35) < available_ratio(20)
    assert available_ratio(35) == pytest.approx(0.945, abs=1e-3)


def test_cold_air_needs_no_chiller_and_half_a_plant_cools_half() -> None:
    assert PLANT.cool(1e6, 10).power_w == pytest.approx(1e6 * (PLANT.fan_share + PLANT.pump_share))
    assert PLANT.cool(1e6, 30, 0.5).removed_w == pytest.approx(PLANT.cool(2e6, 30).removed_w / 2)
    assert PLANT.cool(1e6, 30, 0.0).removed_w == 0


def test_a_wet_plant_evaporates_about_two_litres_a_kilowatt_hour() -> None:
    wet = CoolingPlant(1.15e6, wet=True)
    assert wet.cool(1e6, 30).water_l_s * 3600 / 1000 == pytest.approx(1.85, abs=0.05)
    assert wet.cool(1e6, 10).water_l_s == 0 == PLANT.cool(1e6, 30).water_l_s
