"""HTTP as bytes: what is written is one reply."""

import pytest

from underlay.live.gateway import framing


def test_no_header_value_can_break_out():
    with pytest.raises(AssertionError):
        framing.head(200, (("x", "a\r\nset-cookie: b"),), True, "")
