from __future__ import annotations

import pytest

from underlay.physics.prices import hour_prices


def test_a_price_is_the_middle_of_a_dated_band() -> None:
    price = hour_prices()["h100-sxm"]
    assert (price.least_usd, price.usd, price.most_usd) == (3.49, pytest.approx(4.14), 12.29)
    assert "2026-09-25 to 2026-11-09" in price.note
    assert all(one.least_usd <= one.usd <= one.most_usd for one in hour_prices().values())


def test_a_price_that_nobody_published_is_not_made_up() -> None:
    assert "gb200" not in hour_prices()
