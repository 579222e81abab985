"""Session affinity: one conversation, one replica, while that has room.

The place on the ring follows from the session alone, so nothing is remembered and nothing is lost by a restart.
Where that replica may not be chosen, or carries too much, the next on the ring stands in: the same one each time.
(vLLM production-stack hashes likewise but has no bound, so one busy session holds up all others of its replica.)
"""

from __future__ import annotations

from collections.abc import Sequence

from underlay.control.dice import Dice
from underlay.control.fleet import Pool, Replica
from underlay.control.prefixes import PrefixIndex
from underlay.domain.policy import DeskSettings

from .policy import Ask, Choice, Policy
from .ring import Rings


class Session(Policy):
    """By the session, with bounded load."""

    def __init__(self, settings: DeskSettings, dice: Dice) -> None:
        super().__init__(settings, dice)
        self._rings = Rings()

    def choose(self, ask: Ask, candidates: Sequence[Replica], pool: Pool, index: PrefixIndex) -> Choice:
        """Choose by the session; prompts that name none go to the least score."""
        return self._rings.choose(ask.session, "session", ask, candidates, pool, index)

    def forget(self, replica: Replica) -> None:
        """Look at the members again."""
        self._rings.forget(replica)
