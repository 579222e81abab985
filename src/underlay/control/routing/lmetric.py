"""LMetric: new prefill tokens times batch size (arXiv 2603.15202).

A product has no weights to tune: its factors' scales cancel out in a comparison. Prefill tokens are those in flight
there and not yet computed, with what this prompt would add; the batch is what runs there, with this one.
It takes all replicas to be alike, which ``sticky`` does not.
"""

from __future__ import annotations

from collections.abc import Sequence

from underlay.control.fleet import Pool, Replica
from underlay.control.prefixes import PrefixIndex

from .policy import Ask, Choice, Policy, before, cached_tokens, survey


class LMetric(Policy):
    """The least product of new prefill tokens and batch size."""

    def choose(self, ask: Ask, candidates: Sequence[Replica], pool: Pool, index: PrefixIndex) -> Choice:
        """Choose the least product among those worth a look."""
        looked_at = survey(ask, candidates, pool, index)
        best, best_cached, least = looked_at[0], 0, -1
        for replica in looked_at:
            cached = cached_tokens(ask, index.held(replica, ask.chain), index)
            product = (replica.prefill_tokens + max(ask.prompt_tokens - cached, 1)) * (replica.load + 1)
            if least < 0 or product < least or (product == least and before(replica, best)):
                best, best_cached, least = replica, cached, product
        tokens = least // (best.load + 1)
        why = f"least product of {len(looked_at)} looked at: {tokens} tokens to prefill x batch of {best.load + 1}"
        return Choice(best, best_cached, why)
