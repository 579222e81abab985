"""Recorded settings with some of them changed."""

from __future__ import annotations

import pytest

from underlay.documents.findings import DocumentError
from underlay.domain.policy import Band, DeskSettings
from underlay.twin.recorded.settings import varied

SETTINGS = DeskSettings(routing="prefix", wait_max_s=7.0, bands=(Band("first"), Band("second", 0.3)))


def test_only_what_is_named_changes():
    found = varied(
        SETTINGS, [("routing", "random"), ("desk.warm_penalty_s", "2.5"), ("policies.adaptive", "false")]
    )
    assert found == DeskSettings(
        routing="random", wait_max_s=7.0, warm_penalty_s=2.5, adaptive=False, bands=SETTINGS.bands
    )
    assert varied(SETTINGS, []) is SETTINGS


def test_a_part_of_a_list_changes_by_itself():
    assert varied(SETTINGS, [("bands.1.share", "0.5")]).bands == (Band("first"), Band("second", 0.5))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [("rooting", "random", "did you mean"), ("routing", "rondom", "random"), ("wait_max_s", "-1", "wait_max_s")],
)
def test_what_cannot_be_is_told_as_in_settings(name, text, said):
    with pytest.raises(DocumentError, match=said):
        varied(SETTINGS, [(name, text)])
