from __future__ import annotations

from underlay.physics import catalogue
from underlay.physics.embodied import _KNOWN, accelerator_hour


def test_an_hour_of_an_h100_lies_between_two_lives() -> None:
    hour = accelerator_hour("h100-sxm")
    assert hour is not None
    assert 16 < hour.least_g < hour.grams < hour.most_g < 34
    assert hour.most_g == 2 * hour.least_g


def test_nobodys_figure_is_carried_over() -> None:
    assert accelerator_hour("h200-sxm") is None
    assert _KNOWN.keys() <= catalogue.accelerators().keys()
