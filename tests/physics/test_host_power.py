from __future__ import annotations

import pytest

from underlay.domain.errors import NotFound
from underlay.physics.host_power import cpus, host, stated


def test_the_usual_host_is_near_the_published_one() -> None:
    assert host().power_w(1.0) == pytest.approx(1200, rel=0.1)  # Boavizta's p5.48xlarge by way of EcoLogits


def test_a_host_draws_more_while_its_accelerators_are_busy() -> None:
    some = host("EPYC 9654", memory_gb=512, storage_tb=4, nics_100g=2)
    assert some.idle_w > cpus()["EPYC 9654"].idle_w
    assert some.idle_w < some.power_w(0.5) < some.busy_w < host("EPYC 9654").busy_w


def test_liquid_needs_no_fans() -> None:
    assert host(cooling="liquid").fan_share == 0 < host().fan_share


def test_what_the_owner_says_is_taken_and_marked() -> None:
    assert (stated(2000).power_w(0.3), stated(2000).method) == (2000, "assumed")


def test_an_unknown_processor_is_met_with_what_was_meant() -> None:
    with pytest.raises(NotFound, match="EPYC 9965"):
        host("EPYC 965")
