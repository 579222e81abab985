from __future__ import annotations

import pytest

from underlay.domain.errors import NotFound
from underlay.physics import grid
from underlay.physics.climate import HOUR_S


@pytest.mark.parametrize("signal", [grid.carbon(300, "x", 5.0), grid.price(0.07, "x", 5.0)])
def test_a_day_has_the_published_mean_and_one_top(signal) -> None:
    values = [signal.at(minute * 60.0) for minute in range(24 * 60)]
    assert sum(values) / len(values) == pytest.approx(signal.mean, rel=1e-9)
    top_h = (values.index(max(values)) / 60 + 5.0) % 24
    assert top_h == pytest.approx(signal.top_h, abs=0.1)
    assert signal.at(0) == pytest.approx(signal.at(24 * HOUR_S))


def test_hours_that_are_given_are_taken() -> None:
    signal = grid.given([100, 300])
    assert (signal.at(0), signal.at(1800), signal.mean, signal.method) == (100, 200, 200, "measured")


def test_a_region_has_what_was_published_and_nothing_else() -> None:
    west = grid.region("azure/westus2")
    assert (west.carbon_g_kwh, west.pue, west.usd_kwh, west.country) == (119.76, 1.15, 0.0635, "US")
    assert grid.region("aws/ap-east-1").pue is None
    with pytest.raises(NotFound, match="azure/westus2"):
        grid.region("azure/westus22")


def test_a_country_without_a_row_is_the_world_and_marked() -> None:
    france, method = grid.country("FR")
    assert (method, france.carbon_g_kwh < 100) == ("modelled", True)
    assert grid.country("SG") == (grid.countries()["world"], "assumed")
    bare = grid.region("azure/westcentralus")._replace(carbon_g_kwh=None, country="QA")
    assert grid.carbon_of(bare)[2] == "assumed"


def test_every_figure_names_its_source() -> None:
    assert len(grid.regions()) > 140
    assert all(one.source for one in [*grid.regions().values(), *grid.countries().values()])
