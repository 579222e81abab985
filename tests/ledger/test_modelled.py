from __future__ import annotations

import pytest

from underlay.ledger.modelled import network, storage


def test_the_internet_is_an_average_with_a_wide_band_and_no_marginal_figure() -> None:
    said = network(1e9)
    assert said.value == pytest.approx(0.007 * 3.6e6)
    assert said.method == "assumed"
    assert said.uncertainty == pytest.approx(25 * said.value)
    assert "average" in said.boundary
    assert network(1e9, "marginal") is None


def test_storage_takes_watts_for_what_it_holds() -> None:
    assert storage(1e12, 10.0).value == pytest.approx(56.0)
