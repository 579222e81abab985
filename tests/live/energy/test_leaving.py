"""On which account is an attempt that was never heard, once its request is over?"""

from types import SimpleNamespace
from typing import Any

import pytest

from underlay.domain.answer import Usage
from underlay.domain.views import Journey
from underlay.live.computed import Computed
from underlay.live.energy.leaving import Left


@pytest.mark.parametrize(
    ("outcome", "broke", "ending"),
    [
        ("finished", False, "failed"),  # another was heard before it
        ("finished", True, "failed"),
        ("failed", False, "failed"),
        ("client_gone", False, "abandoned"),
        ("client_gone", True, "failed"),
    ],
)
def test_only_who_leaves_abandons(outcome: str, broke: bool, ending: str) -> None:
    unheard = Computed(2, "r", 0.0, 1.0)
    unheard.end(1.0, 0, failed=broke)
    exchange: Any = SimpleNamespace(
        ticket="t", model="m", computed=[], unheard=[unheard], guessed_tokens=9,
        carried_bytes=lambda: 1, produced=Usage,
    )  # fmt: skip
    left = Left(exchange, 1.0)
    left.journey = Journey(
        "t", 0.0, "openai", "chat", "m", "", "", outcome, 200, Usage(), "0", 1.0, None, 2, ()
    )  # fmt: skip
    assert [end for _, end in left.phases()] == [ending]
