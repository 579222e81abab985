from __future__ import annotations

import pytest

from underlay.physics.failure_rates import DOMAINS, failure_rates, repairs


def test_the_rates_of_one_accelerator_come_to_the_published_sum():
    per_hour = sum(rate.per_s for rate in failure_rates() if rate.counted == "accelerator") * 3600
    # 419 unplanned interruptions of 16,384 accelerators in 54 days.
    assert per_hour == pytest.approx(419 / (16_384 * 54 * 24), rel=1e-3)
    assert {rate.counted for rate in failure_rates()} == {"accelerator", "rack", "site"}
    assert all(rate.source for rate in failure_rates())


def test_two_of_a_hundred_switches_fail_in_three_months():
    (switch,) = [rate for rate in failure_rates() if rate.domain == "rack"]
    assert switch.per_s * 2190 * 3600 == pytest.approx(0.0202, abs=1e-4)


def test_all_that_breaks_is_repaired():
    for domain in DOMAINS:
        assert sum(way.share for way in repairs()[domain]) == pytest.approx(1.0)
    assert {way.method for ways in repairs().values() for way in ways} == {"assumed"}
