"""Random: what every other policy has to beat."""

from __future__ import annotations

from collections.abc import Sequence

from underlay.control.fleet import Pool, Replica
from underlay.control.prefixes import PrefixIndex

from .policy import Ask, Choice, Policy, choice


class RandomChoice(Policy):
    """Any of them, each with the same chance."""

    def choose(
        self,
        ask: Ask,
        candidates: Sequence[Replica],
        pool: Pool,  # noqa: ARG002 - it asks for nothing more
        index: PrefixIndex,
    ) -> Choice:
        """Throw the dice."""
        chosen = candidates[self.dice.below(len(candidates))]
        return choice(ask, chosen, index, f"random: one of {len(candidates)}")
