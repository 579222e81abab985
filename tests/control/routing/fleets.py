"""Pools, prompts and small simulations for the tests of routing."""

from __future__ import annotations

from heapq import heappop, heappush

from hypothesis import settings as pace

from underlay.control.dice import Dice
from underlay.control.fleet import Pool, Replica
from underlay.control.prefixes import PrefixIndex, chain, root
from underlay.control.routing import POLICIES, Ask, Policy
from underlay.domain.policy import DeskSettings

quick = pace(max_examples=30, deadline=None)
ROOT = root("gemma", "", "", "ann's")


def pool_of(*slots: int, blocks_max: int = 1024) -> tuple[Pool, PrefixIndex]:
    """A pool of replicas r1, r2 … with so many slots each, and its index."""
    pool = Pool("gemma")
    for number, count in enumerate(slots, 1):
        pool.join(f"r{number}", count, 0).blocks_max = blocks_max
    return pool, PrefixIndex(block_tokens=16.0)


def policy(name: str, seed: int = 1, **settings) -> Policy:
    return POLICIES[name](DeskSettings(**settings), Dice(seed))


def ask(tokens: int = 320, text: str = "", blocks: int = 16, session: int = 0, at: float = 0.0) -> Ask:
    """A prompt whose beginning is told by ``text`` (none: nothing is known of it)."""
    return Ask(at, 1, tokens, links(text, blocks) if text else [], session)


def links(text: str, blocks: int = 16) -> list[int]:
    """A chain: texts that begin alike share its beginning, a letter standing for a block (the last goes on)."""
    letters = [ord(letter) for letter in text[:blocks]]
    return chain(ROOT, letters + [letters[-1]] * (blocks - len(letters)))


def fast(replica: Replica, tokens_per_s: float) -> Replica:
    """Let a replica have shown this rate."""
    for tokens in (100, 200, 300, 400):
        replica.pace.prefilled(tokens, tokens / tokens_per_s)
    return replica


def carry(pool: Pool, name: str, strands: int = 1, tokens: int = 0) -> None:
    """Put load on a replica."""
    pool.take(pool.members[name], 0, 0.0, strands, tokens, 0, float(strands))


def give(chooser: Policy, wanted: Ask, pool: Pool, index: PrefixIndex, candidates=None):
    """Choose and lease, as the desk does."""
    choice = chooser.choose(wanted, pool.open if candidates is None else candidates, pool, index)
    index.insert(choice.replica, wanted.chain)
    uncached = wanted.prompt_tokens - choice.cached_tokens
    return choice, pool.take(choice.replica, 1, wanted.at, 1, uncached, choice.cached_tokens, 1.0)


def work_done(chooser: Policy, rates: dict[str, float], *, seconds: float, per_s: float, slots: int = 64):
    """Prompts of 320 uncached tokens come evenly; each replica prefills one after the other. Tokens done by each."""
    pool, index = pool_of(*[slots] * len(rates))
    free_at = dict.fromkeys(rates, 0.0)
    done = dict.fromkeys(rates, 0)
    running: list[tuple[float, int, object]] = []
    for number in range(int(seconds * per_s)):
        at = number / per_s
        while running and running[0][0] <= at:
            end, _, lease = heappop(running)
            lease.replica.pace.prefilled(lease.ahead_tokens, end - lease.at)
            done[lease.replica.name] += lease.uncached_tokens
            pool.first_token(lease, end)
            pool.give_back(lease)
        if not pool.open:
            continue
        _, lease = give(chooser, ask(at=at), pool, index)
        name = lease.replica.name
        free_at[name] = max(at, free_at[name]) + lease.uncached_tokens / rates[name]
        heappush(running, (free_at[name], number, lease))
    pool.check()
    return done
