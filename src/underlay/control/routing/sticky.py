"""Sticky until saturated: stay where the prompt's beginning is cached, until another would answer much sooner.

llm-d's default since August 2026, with one change: it asks for a prefill rate measured beforehand per model and
accelerator, and warns that the rate does not transfer. Here each replica's pace is learnt from its own first
tokens (``fleet.Pace``), so unlike accelerators balance by themselves.

1. *Warm* are those that hold ``warm_share`` of the prompt's blocks. One request in a hundred (``explore_share``)
   ignores that, which spreads a beginning that is in demand.
2. A first token takes ``first_token_s(uncached tokens)``: what is in flight there and not yet computed, and what
   this prompt adds, at the replica's pace.
3. If the soonest warm one is at most ``warm_penalty_s`` behind the soonest other, only the warm are kept.
4. Among the kept, least ``score``: that time multiplied by the batch it joins (LMetric).

Beginnings held in part count as well: they lower the uncached tokens. No step looks at more than a bounded number
of replicas: the few best holders, and the least pressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log1p

from underlay.control.dice import Dice
from underlay.control.fleet import LOOK_AT, Pool, Replica
from underlay.control.prefixes import PrefixIndex
from underlay.domain.policy import DeskSettings

from .policy import (
    Ask,
    Choice,
    Found,
    Policy,
    allowed,
    cached_tokens,
    choice,
    first_of,
    least_cold,
    least_pressed,
    least_score,
    survey,
)

_NEVER = 1 << 62


class Sticky(Policy):
    """Warm until saturated."""

    def __init__(self, settings: DeskSettings, dice: Dice) -> None:
        super().__init__(settings, dice)
        self._until_explored = self._next_exploration()

    def _next_exploration(self) -> int:
        """How many warm choices come before the next that ignores warmth: one throw of the dice for all of them."""
        share = self.settings.explore_share
        if share <= 0.0 or share >= 1.0:
            return 0 if share > 0.0 else _NEVER
        return int(log1p(-self.dice.share()) / log1p(-share))

    def choose(self, ask: Ask, candidates: Sequence[Replica], pool: Pool, index: PrefixIndex) -> Choice:
        """Choose a warm replica while that costs little time, else whoever is best."""
        chain = ask.chain
        if not chain:  # nothing is known of the prompt's beginning: no cache has a say
            chosen = least_cold(ask.prompt_tokens, least_pressed(ask, candidates, pool))
            return Choice(chosen, 0, f"least pressed: {chosen.load} of {chosen.slots} slots in use")
        need = ceil(self.settings.warm_share * len(chain)) or 1
        holders = index.holders(chain[need - 1])
        if not holders:
            return self._cold(ask, candidates, pool, index)
        self._until_explored -= 1
        if self._until_explored < 0:
            self._until_explored = self._next_exploration()
            return self._explore(ask, candidates, pool, index)
        if len(holders) == 1 and candidates is pool.open:  # a conversation and its replica: no need to look around
            (only,) = holders
            if only.place >= 0:
                depth = index.held(only, chain, need)
                cached = cached_tokens(ask, depth, index)
                first_s = only.first_token_s(max(1, ask.prompt_tokens - cached))
                if first_s <= self.settings.warm_penalty_s:
                    return Choice(only, cached, _in_words("warm", depth, chain, first_s), depth)
        among = allowed(candidates, pool)
        warm = first_of(holders, among)
        if len(warm) >= LOOK_AT:  # there may be more: the deepest are to be among them
            warm = list(dict.fromkeys([*first_of(index.deepest(chain)[1], among), *warm]))
        best = least_score(ask, chain, warm, index, need)
        if best is None:
            return self._cold(ask, candidates, pool, index)
        # Nobody answers in less than no time: if it is this soon, the others need not be looked at.
        if best[3] <= self.settings.warm_penalty_s:
            return _told("warm", best, ask, index)
        return self._compare(ask, best, need, least_pressed(ask, candidates, pool), index)

    def _compare(self, ask: Ask, warm: Found, need: int, pressed: Sequence[Replica], index: PrefixIndex) -> Choice:
        """Weigh the best of the warm against the least pressed, some of which may be warm as well."""
        link = ask.chain[need - 1]
        also = least_score(ask, ask.chain, [replica for replica in pressed if link in replica.blocks], index)
        if also is not None:
            warm = _better(warm, also)
        other = least_score(ask, ask.chain, [replica for replica in pressed if link not in replica.blocks], index)
        if other is None:
            return _told("warm as all are", warm, ask, index)
        if warm[3] - other[3] <= self.settings.warm_penalty_s:
            return _told("warm", warm, ask, index, f", {other[3]:.2f} s elsewhere")
        return _told("released", _better(warm, other), ask, index, f", {warm[3]:.2f} s where it is warm")

    def _cold(self, ask: Ask, candidates: Sequence[Replica], pool: Pool, index: PrefixIndex) -> Choice:
        """Nobody that may be chosen is warm."""
        best = least_score(ask, ask.chain, survey(ask, candidates, pool, index), index)
        if best is None:
            return choice(ask, candidates[0], index, "nobody is pressed")
        return _told("none warm", best, ask, index)

    def _explore(self, ask: Ask, candidates: Sequence[Replica], pool: Pool, index: PrefixIndex) -> Choice:
        """Choose as if nothing were cached anywhere."""
        chosen = least_cold(ask.prompt_tokens, least_pressed(ask, candidates, pool))
        return choice(ask, chosen, index, "exploring: least score whatever is cached")


def _better(one: Found, other: Found) -> Found:
    """The lower score of the two, with the sooner first token of both."""
    best = other if other[2] < one[2] else one
    return (*best[:3], min(one[3], other[3]))


def _told(word: str, best: Found, ask: Ask, index: PrefixIndex, beside: str = "") -> Choice:
    """Put a choice in words."""
    replica, depth, score, _ = best
    why = _in_words(word, depth, ask.chain, score / (replica.load + 1))
    return Choice(replica, cached_tokens(ask, depth, index), why + beside, depth)


def _in_words(word: str, depth: int, chain: Sequence[int], first_s: float) -> str:
    return f"{word}: holds {depth} of {len(chain)} blocks; first token in {first_s:.2f} s"
