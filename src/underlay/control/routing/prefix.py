"""Prefix-aware: the best match, unless that replica is overloaded beside the others (SMG's ``cache_aware``).

Overloaded is who has over 32 requests more, and over 1.1 times as many, as the least loaded candidate. There the
whole fleet then counts as imbalanced and every cache is thrown away (sglang #32195), with sick replicas in the
comparison (vllm-project/router #254); here only the overloaded are passed by, and only candidates are compared.
With nothing matched the least loaded gets it, not the smallest tree: that one never grew and drew everything to
itself (sglang #14532).
"""

from __future__ import annotations

from collections.abc import Sequence

from underlay.control.fleet import Pool, Replica
from underlay.control.prefixes import PrefixIndex

from .least_requests import in_use, least_loaded
from .policy import Ask, Choice, Policy, allowed, before, cached_tokens, choice, first_of

_ABOVE = 32
_TIMES = 1.1


class Prefix(Policy):
    """The best match above one half, among those not overloaded."""

    def choose(self, ask: Ask, candidates: Sequence[Replica], pool: Pool, index: PrefixIndex) -> Choice:
        """Choose the best match, else the least loaded."""
        if not ask.chain:
            return self._least(ask, candidates, index, "nothing known of the prompt")
        link = ask.chain[len(ask.chain) // 2]  # just above one half
        depth, deepest = index.deepest(ask.chain)
        if 2 * depth <= len(ask.chain):
            return self._least(ask, candidates, index, "no match above one half")
        among = allowed(candidates, pool)
        least = min([replica.load for replica in candidates])
        for holders in (deepest, index.holders(link)):
            fit = [each for each in first_of(holders, among) if not _overloaded(each.load, least)]
            if fit:
                return self._best_match(ask, fit, index)
        return self._least(ask, candidates, index, "the matches are overloaded or may not be chosen")

    def _best_match(self, ask: Ask, fit: Sequence[Replica], index: PrefixIndex) -> Choice:
        best, best_depth = fit[0], 0
        for replica in fit:
            depth = index.held(replica, ask.chain)
            if depth > best_depth or (depth == best_depth and before(replica, best)):
                best, best_depth = replica, depth
        why = f"best match of {len(fit)}: holds {best_depth} of {len(ask.chain)} blocks"
        return Choice(best, cached_tokens(ask, best_depth, index), why)

    def _least(self, ask: Ask, candidates: Sequence[Replica], index: PrefixIndex, cause: str) -> Choice:
        chosen = least_loaded(candidates)
        return choice(ask, chosen, index, f"{cause}; least loaded of {len(candidates)}: {in_use(chosen)}")


def _overloaded(load: int, least: int) -> bool:
    return load - least > _ABOVE and load > _TIMES * least
