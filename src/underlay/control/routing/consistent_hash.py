"""Consistent hashing with bounded load: equal beginnings go to the same replica, without any index.

The key is the first block of the prompt (KubeAI takes its first 100 characters), or else its session: prompts
that begin alike meet where their beginning is cached, and the bound keeps a beginning in demand from drowning its
replica.
"""

from __future__ import annotations

from collections.abc import Sequence

from underlay.control.dice import Dice
from underlay.control.fleet import Pool, Replica
from underlay.control.prefixes import PrefixIndex
from underlay.domain.policy import DeskSettings

from .policy import Ask, Choice, Policy
from .ring import Rings


class ConsistentHash(Policy):
    """By the prompt's first block, with bounded load."""

    def __init__(self, settings: DeskSettings, dice: Dice) -> None:
        super().__init__(settings, dice)
        self._rings = Rings()

    def choose(self, ask: Ask, candidates: Sequence[Replica], pool: Pool, index: PrefixIndex) -> Choice:
        """Choose by the prompt's beginning, else by the session."""
        if ask.chain:
            return self._rings.choose(ask.chain[0], "beginning", ask, candidates, pool, index)
        return self._rings.choose(ask.session, "session", ask, candidates, pool, index)

    def forget(self, replica: Replica) -> None:
        """Look at the members again."""
        self._rings.forget(replica)
