from __future__ import annotations

import numpy as np
import pytest

from underlay.domain.figures import weakest
from underlay.twin.world import energy_book as book
from underlay.twin.world.energy_book import EnergyBook


def test_a_total_is_known_no_better_than_its_parts_and_only_if_all_are() -> None:
    kept = EnergyBook(3)
    kept.add(book.FEEDER, np.array([3.6e6, 7.2e6, 0.0]))
    kept.known[book.PRICE, 2] = False
    methods = {kind: ["modelled", "calibrated", "assumed"] for kind in range(len(book.KINDS))}
    told = {(one.place, one.name): one for one in kept.accounts(["west", "east"], [0, 0, 1], methods)}
    assert told["west", "energy_feeder"].value == pytest.approx(3)
    assert told["west", "energy_feeder"].method == "modelled"
    assert told["", "energy_feeder"].method == "assumed"
    assert ("west", "electricity_cost") in told
    assert ("east", "electricity_cost") not in told
    assert ("", "electricity_cost") not in told


def test_pue_of_nothing_is_no_number() -> None:
    assert np.isnan(EnergyBook(1).pue([0]))
    assert weakest(["measured", "calibrated"]) == "calibrated"
