from __future__ import annotations

import pytest

from underlay.domain.errors import NotFound
from underlay.physics.lookup import named


def test_what_is_not_known_is_told_with_what_was_meant():
    assert named({"one": 1}, "one", "number") == 1
    with pytest.raises(NotFound, match="did you mean one") as caught:
        named({"one": 1, "two": 2}, "oen", "number")
    assert caught.value.param == "number"
    with pytest.raises(NotFound, match="known are one, two"):
        named({"one": 1, "two": 2}, "x", "number")
