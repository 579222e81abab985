"""What every routing policy is told, and what it answers.

A policy chooses among the replicas it is shown and nothing else: bounds and means are taken over those that may be
chosen, since full or sick ones in the sums made other routers herd (vllm-project/router #254). Whatever it
goes by, it says how much of the prompt it expects in the chosen one's cache, so that prediction and truth
can be compared under each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from heapq import nsmallest
from itertools import islice
from math import inf

from underlay.control.dice import Dice
from underlay.control.fleet import LOOK_AT, SCAN_MAX, Pool, Replica
from underlay.control.prefixes import PrefixIndex
from underlay.domain.policy import DeskSettings

#: How many holders are passed by, at the most, in search of those that may be chosen.
_PASSED_MAX = 64


class Ask:
    """A prompt that wants a replica.

    ``chain`` stands for its beginning (``prefixes.chain``; empty: unknown), ``session`` for its conversation (0:
    none was named); ``prompt_tokens`` are estimated.
    """

    __slots__ = ("at", "chain", "prompt_tokens", "session", "strands")

    def __init__(self, at: float, strands: int, prompt_tokens: int, chain: list[int], session: int = 0) -> None:
        self.at = at
        self.strands = strands
        self.prompt_tokens = prompt_tokens
        self.chain = chain
        self.session = session


class Choice:
    """Who gets it, how many of its prompt's tokens should be cached there, and why, for people.

    ``depth`` is how many blocks of the prompt it is known to hold at least; 0 where that was not looked at.
    """

    __slots__ = ("cached_tokens", "depth", "replica", "why")

    def __init__(self, replica: Replica, cached_tokens: int, why: str, depth: int = 0) -> None:
        self.replica = replica
        self.cached_tokens = cached_tokens
        self.why = why
        self.depth = depth


class Policy(ABC):
    """A way to choose. One of each desk; what it remembers is kept apart by model."""

    #: Whether ``probes`` ever says anything.
    probing = False

    def __init__(self, settings: DeskSettings, dice: Dice) -> None:
        self.settings = settings
        self.dice = dice

    @abstractmethod
    def choose(self, ask: Ask, candidates: Sequence[Replica], pool: Pool, index: PrefixIndex) -> Choice:
        """Choose one of the candidates (at least one; ``pool.open`` itself where all open ones are)."""

    def probes(self, pool: Pool) -> Sequence[Replica]:  # noqa: ARG002 - for those that probe
        """Say which replicas are to be asked how busy they are, after a choice."""
        return ()

    def probed(self, replica: Replica, running: int, waiting: int, at: float) -> None:  # noqa: B027 - optional
        """Hear how busy a replica is by its own count."""

    def forget(self, replica: Replica) -> None:  # noqa: B027 - optional
        """Forget what was remembered of a replica that restarted, or is gone."""


def cached_tokens(ask: Ask, depth: int, index: PrefixIndex) -> int:
    """How many of a prompt's tokens ``depth`` blocks are; the last token is always computed."""
    cached = int(depth * index.block_tokens)
    return cached if cached < ask.prompt_tokens else max(ask.prompt_tokens - 1, 0)


def choice(ask: Ask, replica: Replica, index: PrefixIndex, why: str) -> Choice:
    """Make the answer of a policy that has not looked at caches."""
    depth = index.held(replica, ask.chain)
    return Choice(replica, cached_tokens(ask, depth, index), why, depth)


def before(replica: Replica, other: Replica) -> bool:
    """Whether a replica goes before its equal: it has less of its slots in use, or was not chosen for longer."""
    mine, theirs = replica.load * other.slots, other.load * replica.slots
    return mine < theirs or (mine == theirs and replica.turn < other.turn)


def allowed(candidates: Sequence[Replica], pool: Pool) -> frozenset[Replica] | None:
    """What ``may`` needs to tell candidates from others: nothing where all open ones are."""
    return None if candidates is pool.open else frozenset(candidates)


def may(replica: Replica, among: frozenset[Replica] | None) -> bool:
    """Whether a replica is a candidate, ``among`` being what ``allowed`` said."""
    return replica.place >= 0 if among is None else replica in among


def first_of(holders: Collection[Replica], among: frozenset[Replica] | None) -> list[Replica]:
    """Return those of a few that are candidates, or the first few of many: a search bounded in any case."""
    if len(holders) <= SCAN_MAX:
        if among is None:  # the usual case, without a call for each
            return [replica for replica in holders if replica.place >= 0]
        return [replica for replica in holders if replica in among]
    found = []
    for replica in islice(holders, _PASSED_MAX):
        if may(replica, among):
            found.append(replica)
            if len(found) == LOOK_AT:
                break
    return found


def least_pressed(ask: Ask, candidates: Sequence[Replica], pool: Pool) -> Sequence[Replica]:
    """Return the candidates with least pressure: all of a few, the first few of many."""
    if candidates is pool.open:
        return pool.least_pressed()
    if len(candidates) <= SCAN_MAX:
        return candidates
    return nsmallest(LOOK_AT, candidates, key=lambda replica: (replica.score(ask.prompt_tokens), replica.turn))


def survey(ask: Ask, candidates: Sequence[Replica], pool: Pool, index: PrefixIndex) -> Sequence[Replica]:
    """Return the candidates worth a look: all of a few; of many, the least pressed and the best holders."""
    pressed = least_pressed(ask, candidates, pool)
    if len(pressed) == len(candidates):
        return pressed
    _, holders = index.deepest(ask.chain)
    return list(dict.fromkeys([*first_of(holders, allowed(candidates, pool)), *pressed]))


#: The best of those looked at: the replica, blocks it holds, its score, and the soonest first token among them all.
Found = tuple[Replica, int, float, float]


def least_cold(tokens: int, looked_at: Sequence[Replica]) -> Replica:
    """Find the least ``Replica.score`` for a prompt of so many tokens of which nothing is cached anywhere."""
    scores = [
        (r.pace.base_s + (r.prefill_tokens + tokens) * r.pace.token_s) * (r.load + 1) for r in looked_at
    ]  # ``score``, spelled out: this runs once per replica and request
    least = min(scores)
    best = looked_at[scores.index(least)]
    if scores.count(least) > 1:
        for replica, score in zip(looked_at, scores, strict=True):
            if score == least and before(replica, best):
                best = replica
    return best


def least_score(
    ask: Ask, chain: Sequence[int], looked_at: Iterable[Replica], index: PrefixIndex, known: int = 0
) -> Found | None:
    """Find the least ``Replica.score`` for what is not cached of the prompt; ``None`` if none was looked at.

    All of them hold the first ``known`` blocks at least.
    """
    first, last, full = (chain[0], chain[-1], len(chain)) if chain else (None, None, 0)
    all_tokens = ask.prompt_tokens or 1
    rest = all_tokens - cached_tokens(ask, full, index)  # where all is held
    best: Replica | None = None
    best_score = soonest_s = inf
    best_depth = 0
    for replica in looked_at:
        blocks = replica.blocks
        if last in blocks:
            depth, uncached = full, rest
        elif not known and first not in blocks:
            depth, uncached = 0, all_tokens
        else:
            depth = index.held(replica, chain, known)
            uncached = all_tokens - cached_tokens(ask, depth, index)
        pace = replica.pace
        first_s = pace.base_s + (replica.prefill_tokens + uncached) * pace.token_s
        if first_s < soonest_s:  # noqa: PLR1730 - a call of min takes longer than the rest of this line
            soonest_s = first_s
        score = first_s * (replica.load + 1)
        if score < best_score or best is None or (score == best_score and before(replica, best)):
            best, best_score, best_depth = replica, score, depth
    return None if best is None else (best, best_depth, best_score, soonest_s)
