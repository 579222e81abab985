"""Least requests: the smallest share of slots in use.

The share, not the count: a replica of twice the slots is meant to carry twice as much (Envoy divides by weights).
Requests that wait inside an engine are leases too, so nothing looks idle that is not.
"""

from __future__ import annotations

from collections.abc import Sequence

from underlay.control.fleet import Pool, Replica
from underlay.control.prefixes import PrefixIndex

from .policy import Ask, Choice, Policy, before, choice


class LeastRequests(Policy):
    """Whoever has least of its slots in use."""

    def choose(
        self,
        ask: Ask,
        candidates: Sequence[Replica],
        pool: Pool,  # noqa: ARG002 - it asks for nothing more
        index: PrefixIndex,
    ) -> Choice:
        """Choose the smallest share in use; among equals the one not chosen for longest."""
        chosen = least_loaded(candidates)
        return choice(ask, chosen, index, f"least requests of {len(candidates)}: {in_use(chosen)}")


def least_loaded(candidates: Sequence[Replica]) -> Replica:
    """Return who has the smallest share of its slots in use; of equals the one not chosen for longest."""
    least = candidates[0]
    for replica in candidates:
        if before(replica, least):
            least = replica
    return least


def in_use(replica: Replica) -> str:
    """Say how busy it is."""
    return f"{replica.load} of {replica.slots} slots in use"
