"""Power of two choices: the less busy of two random ones.

A second look lowers the greatest load from some log n / log log n to log log n, and unlike a minimum over all it
does not send everybody to the same replica when what is known of it is old (Mitzenmacher 2001). Busy is what is
expected of all leases in tokens, not their number: prompts differ a thousandfold.
"""

from __future__ import annotations

from collections.abc import Sequence

from underlay.control.dice import Dice
from underlay.control.fleet import Pool, Replica
from underlay.control.prefixes import PrefixIndex

from .policy import Ask, Choice, Policy, before, choice


class TwoChoices(Policy):
    """The less busy of two."""

    def choose(
        self,
        ask: Ask,
        candidates: Sequence[Replica],
        pool: Pool,  # noqa: ARG002 - it asks for nothing more
        index: PrefixIndex,
    ) -> Choice:
        """Choose the less busy of two random candidates."""
        chosen, other = two(candidates, self.dice)
        if less_busy(other, chosen):
            chosen, other = other, chosen
        return choice(ask, chosen, index, f"less busy of two, {chosen.name} and {other.name}")


def two(candidates: Sequence[Replica], dice: Dice) -> tuple[Replica, Replica]:
    """Draw two candidates, not the same one twice unless it is the only one."""
    count = len(candidates)
    if count == 1:
        return candidates[0], candidates[0]
    first, second = dice.below(count), dice.below(count - 1)
    return candidates[first], candidates[second + (second >= first)]


def less_busy(replica: Replica, other: Replica) -> bool:
    """Whether less is expected of it per slot."""
    mine, theirs = replica.cost * other.slots, other.cost * replica.slots
    return mine < theirs or (mine == theirs and before(replica, other))
