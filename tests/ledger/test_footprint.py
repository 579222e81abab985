from __future__ import annotations

import pytest

from underlay.domain.errors import NotFound
from underlay.domain.figures import Figure
from underlay.ledger.footprint import SiteRates, country_rates, embodied_carbon, footprint, region_rates
from underlay.ledger.node import FACILITY, IT

KWH = Figure(3.6e6, "J", "measured", "gpu0", IT, 0.0)


def rate(value: float, unit: str = "g/kWh") -> Figure:
    return Figure(value, unit, "modelled", "", "", 0.0, "somebody", "2026")


RATES = SiteRates(
    pue=rate(1.5, "ratio"),
    carbon_location=rate(400.0),
    carbon_marginal=rate(700.0),
    water_on_site=rate(0.2, "L/kWh"),
    water_off_site=rate(3.0, "L/kWh"),
)


def test_a_kilowatt_hour_has_pue_applied_exactly_once() -> None:
    found = footprint(KWH, RATES)
    assert found.carbon_location.value == pytest.approx(600.0)
    assert found.carbon_marginal.value == pytest.approx(1050.0)
    assert found.water_off_site.value == pytest.approx(4500.0)  # mL: 3 L for each of 1.5 kWh
    assert found.water_on_site.value == pytest.approx(200.0)  # of IT: no PUE in it
    assert (found.carbon_location.source, found.carbon_location.version) == ("somebody", "2026")
    assert found.carbon_location.method == "modelled"


def test_energy_that_has_pue_in_it_is_refused() -> None:
    for boundary in (FACILITY, "accelerators; power and cooling of the site"):
        with pytest.raises(ValueError, match="PUE"):
            footprint(Figure(1.0, "J", "measured", "", boundary), RATES)
    with pytest.raises(ValueError, match="kWh"):
        footprint(Figure(1.0, "kWh", "measured"), RATES)


def test_what_nobody_published_is_none_and_never_0() -> None:
    found = footprint(KWH, RATES)
    assert found.carbon_market is None
    bare = footprint(KWH, SiteRates(carbon_location=rate(400.0), water_on_site=rate(0.2, "L/kWh")))
    assert bare.water_off_site is None
    assert bare.water_on_site is not None
    unknown = footprint(KWH, region_rates("azure/mexicocentral"))
    assert unknown.carbon_market is None


def test_without_a_pue_the_boundary_says_that_power_and_cooling_are_not_in_it() -> None:
    bare = footprint(KWH, SiteRates(carbon_location=rate(400.0), water_off_site=rate(3.0, "L/kWh")))
    assert bare.carbon_location.value == pytest.approx(400.0)  # not by a PUE that nobody said
    assert bare.carbon_location.boundary.endswith("no PUE is known")
    assert bare.water_off_site.boundary.endswith("no PUE is known")
    assert footprint(KWH, RATES).carbon_location.boundary.startswith("facility, ")


def test_rates_of_a_region_keep_their_sources_and_editions() -> None:
    rates = region_rates("aws/af-south-1")
    assert rates.carbon_location.value == 702.03
    assert rates.carbon_location.version == "2024"
    assert rates.carbon_marginal.value == 890.21
    assert rates.carbon_marginal.version == "b2858aa"
    assert rates.pue.value == 1.24
    assert rates.carbon_market is None
    said = rate(0.0)
    assert region_rates("aws/af-south-1", market=said).carbon_market == said  # an owner may say 0
    with pytest.raises(NotFound):
        region_rates("aws/nowhere")


def test_a_machine_of_ones_own_has_its_countrys_grid() -> None:
    rates = country_rates("FR", pue=rate(1.0, "ratio"))
    found = footprint(KWH, rates)
    assert found.carbon_location.value == rates.carbon_location.value
    assert found.carbon_marginal is None
    assert country_rates("??").carbon_location.method == "assumed"


def test_embodied_carbon_is_apart_and_none_where_nobody_published_it() -> None:
    hour = embodied_carbon("h100-sxm", 1.0)
    # (164 + 5,700 / 8) kg over 54 months, between 36 and 72.
    assert hour.value == pytest.approx(1e3 * (164 + 5700 / 8) / (54 * 730.5))
    assert hour.value + hour.uncertainty == pytest.approx(1e3 * (164 + 5700 / 8) / (36 * 730.5))
    assert embodied_carbon("b200-sxm", 1.0) is None
    assert not hasattr(footprint(KWH, RATES), "embodied")
