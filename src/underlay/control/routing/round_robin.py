"""Round robin: whoever waited longest for a turn.

By the turn that is written on each replica, not by a place in a list: lists of those that may be chosen change from
request to request, and a place in them skips some and repeats others.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from underlay.control.fleet import Pool, Replica
from underlay.control.prefixes import PrefixIndex

from .policy import Ask, Choice, Policy, choice

_TURN = attrgetter("turn")


class RoundRobin(Policy):
    """Each in its turn, whatever it carries."""

    def choose(
        self,
        ask: Ask,
        candidates: Sequence[Replica],
        pool: Pool,  # noqa: ARG002 - it asks for nothing more
        index: PrefixIndex,
    ) -> Choice:
        """Choose the one not chosen for longest."""
        chosen = min(candidates, key=_TURN)
        return choice(ask, chosen, index, f"round robin: its turn among {len(candidates)}")
