from __future__ import annotations

import pytest

from underlay.domain.errors import BadRequest, NotFound
from underlay.physics.prices import hour_price, hour_prices


def test_a_price_is_the_middle_of_a_dated_band() -> None:
    price = hour_price("h100-sxm")
    assert (price.least_usd, price.usd, price.most_usd) == (3.49, pytest.approx(4.14), 12.29)
    assert "2026-09-25 to 2026-11-09" in price.note
    assert all(one.least_usd <= one.usd <= one.most_usd for one in hour_prices().values())


def test_a_price_that_nobody_published_is_asked_for() -> None:
    with pytest.raises(BadRequest, match="usd_per_hour"):
        hour_price("gb200")
    with pytest.raises(NotFound):
        hour_price("gb2000")
