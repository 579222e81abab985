from __future__ import annotations

import pytest

from underlay.domain.errors import BadRequest, NotFound
from underlay.physics.climate import Clock
from underlay.physics.cooling import CoolingPlant
from underlay.physics.power_chain import chain
from underlay.twin.world.site_supply import INLET_C, SiteState, SiteSupply, supply


def test_what_is_given_takes_the_place_of_what_was_published() -> None:
    said = supply("azure/westus2", 1e6, Clock(), carbon_g_kwh=10, usd_kwh=0.5, pue=1.3)
    assert (said.carbon.mean, said.price.mean, said.pue) == (10, 0.5, 1.3)
    plain = supply("azure/westus2", 1e6, Clock())
    assert (plain.carbon.mean, plain.price.mean, plain.pue, plain.water_l_kwh) == (119.76, 0.0635, 1.15, 1.09)
    assert said.plant.factor > plain.plant.factor
    hourly = supply("azure/westus2", 1e6, Clock(), carbon_g_kwh=[10, 30], hourly_c=[5, 6])
    assert [hourly.carbon.at(at) for at in (0, 1800)] == [10, 20]
    assert hourly.climate.temperature_c(0) == 5


def test_what_is_missing_is_said() -> None:
    said = supply("aws/ap-east-1", 1e6, Clock())
    assert said.price is None
    assert any("price" in text for text in said.warnings)
    assert any("no PUE" in text for text in said.warnings)
    assert any("assumed" in text for text in said.warnings)
    assert "not accounted" in supply("", 1e6, Clock()).warnings[0]


def test_without_a_place_cooling_draws_what_the_pue_says() -> None:
    state = SiteState(supply("", 1e6, Clock(), pue=1.2), 1e6)
    assert state.cool(0, 10, 1.05e7, 1e7).joules == pytest.approx(0.15e7)


def test_heat_that_stays_warms_and_room_to_spare_cools_down() -> None:
    plant = CoolingPlant(1e6, economiser=False)
    said = supply("azure/westus2", 1e6, Clock(), plant=plant)
    state = SiteState(SiteSupply(chain(), plant, said.climate), 1e6)
    state.working_share = 0.0
    state.cool(0, 60, 60e6, 60e6)
    assert state.inlet_c == pytest.approx(INLET_C + 2)  # a megawatt for a minute into 30 MJ/K
    state.working_share = 1.0
    state.cool(60, 3600, 0.0, 0.0)
    assert state.inlet_c == INLET_C


def test_bad_input_is_refused() -> None:
    with pytest.raises(NotFound, match="did you mean azure/westus2"):
        supply("azure/westus22", 1e6, Clock())
    with pytest.raises(BadRequest, match="PUE"):
        supply("azure/westus2", 1e6, Clock(), pue=0.9)
