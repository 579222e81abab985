"""Prequal: ask a few replicas how busy they are, choose among recent answers (arXiv 2312.10172).

Other desks may lead requests to the same replicas, and only the replicas can tell. A pool keeps up to 16 answers,
none older than a second. A replica is *hot* if it has more requests in flight (RIF) than the 0.84 quantile of the
pool; of the cold, the lowest latency is chosen, and if all are hot, the lowest RIF. An answer that was used counts
one request more from then on, serves a few times only, and after each choice the oldest and the worst are dropped
in turns.

The latency at that RIF is the first token's by the replica's own pace, times the batch it would join. Failures
never make it look quick, for only real first tokens are measured; but a replica that fails at once has nothing in
flight, and would swallow everything (*sinkholing*): each failure in a row doubles its latency here. What the desk
has leased itself is the least that a replica has in flight, whatever it says. With fewer than two usable answers,
two choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from underlay.control.dice import Dice
from underlay.control.fleet import Pool, Replica
from underlay.control.prefixes import PrefixIndex
from underlay.domain.policy import DeskSettings

from .policy import Ask, Choice, Policy, allowed, cached_tokens, may
from .two_choices import TwoChoices

_POOL_MAX = 16
_AGE_MAX_S = 1.0
_PROBES = 3
_HOT_QUANTILE = 0.84


class Answer:
    """What a replica said: requests in flight, when, and how often that may still be used."""

    __slots__ = ("at", "replica", "rif", "uses_left")

    def __init__(self, replica: Replica, rif: int, at: float) -> None:
        self.replica = replica
        self.rif = rif
        self.at = at
        self.uses_left = 0  # set when first looked at: the fleet's size is known there


class Prequal(Policy):
    """The quickest of the cold, by recent probes."""

    probing = True

    def __init__(self, settings: DeskSettings, dice: Dice) -> None:
        super().__init__(settings, dice)
        self._answers: dict[str, dict[Replica, Answer]] = {}  # of each model, oldest first, one of each replica
        self._worst_next = False
        self._blind = TwoChoices(settings, dice)

    def choose(self, ask: Ask, candidates: Sequence[Replica], pool: Pool, index: PrefixIndex) -> Choice:
        """Choose among the candidates that answered lately."""
        answers = self._fresh(pool, ask.at)
        among = allowed(candidates, pool)
        usable = [answer for answer in answers.values() if may(answer.replica, among)]
        if len(usable) < min(2, len(candidates)):
            blind = self._blind.choose(ask, candidates, pool, index)
            blind.why = f"too few fresh probes; {blind.why}"
            return blind
        chosen, cached, why = _select(ask, usable, _hot_above(answers), index)
        self._use(answers, chosen, ask.strands, pool)
        self._drop_one(answers)
        return Choice(chosen.replica, cached, why)

    def probes(self, pool: Pool) -> Sequence[Replica]:
        """Ask three that may be chosen, at random."""
        count = len(pool.open)
        if count <= _PROBES:
            return tuple(pool.open)
        places = dict[int, None]()
        while len(places) < _PROBES:
            places[self.dice.below(count)] = None
        return [pool.open[place] for place in places]

    def probed(self, replica: Replica, running: int, waiting: int, at: float) -> None:
        """Keep the answer in place of an older one."""
        answers = self._answers.setdefault(replica.model, {})
        answers.pop(replica, None)
        answers[replica] = Answer(replica, running + waiting, at)
        if len(answers) > _POOL_MAX:
            del answers[next(iter(answers))]

    def forget(self, replica: Replica) -> None:
        """Drop its answer: it was another life's."""
        self._answers.get(replica.model, {}).pop(replica, None)

    def _fresh(self, pool: Pool, at: float) -> dict[Replica, Answer]:
        answers = self._answers.setdefault(pool.model, {})
        while answers:
            oldest = next(iter(answers.values()))
            if at - oldest.at <= _AGE_MAX_S:
                break
            del answers[oldest.replica]
        return answers

    def _use(self, answers: dict[Replica, Answer], answer: Answer, strands: int, pool: Pool) -> None:
        """Count the request into the answer, and one use of it."""
        answer.rif = max(answer.rif, answer.replica.load) + strands
        answer.uses_left = (answer.uses_left or _uses(len(pool.members))) - 1
        if not answer.uses_left:
            del answers[answer.replica]

    def _drop_one(self, answers: dict[Replica, Answer]) -> None:
        """Drop the oldest, the next time the worst: old answers mislead, and bad ones would be left over."""
        if len(answers) <= 2:  # nothing is worse than being blind
            return
        worst = max(answers.values(), key=_rif) if self._worst_next else next(iter(answers.values()))
        self._worst_next = not self._worst_next
        del answers[worst.replica]


def _uses(members: int) -> int:
    """How often an answer may be used, so that as many come as go (the paper's formula, with delta 1, one dropped).

    A pool that holds more than half of the fleet is taken to hold half: the formula is made for large fleets.
    """
    return ceil(2.0 / ((1.0 - min(_POOL_MAX / max(members, 1), 0.5)) * _PROBES - 1.0))


def _rif(answer: Answer) -> int:
    """What it has in flight: by its own word, at the least what the desk gave it."""
    return max(answer.rif, answer.replica.load)


def _hot_above(answers: dict[Replica, Answer]) -> int:
    rifs = sorted(map(_rif, answers.values()))
    return rifs[min(int(_HOT_QUANTILE * len(rifs)), len(rifs) - 1)]


def _select(ask: Ask, usable: list[Answer], hot_above: int, index: PrefixIndex) -> tuple[Answer, int, str]:
    cold = [answer for answer in usable if _rif(answer) <= hot_above]
    if not cold:
        chosen = min(usable, key=lambda answer: (_rif(answer), answer.replica.turn))
        cached = cached_tokens(ask, index.held(chosen.replica, ask.chain), index)
        return chosen, cached, f"all {len(usable)} probed are hot: fewest in flight, {_rif(chosen)}"
    best, best_cached, least_s = cold[0], 0, float("inf")
    for answer in cold:
        cached = cached_tokens(ask, index.held(answer.replica, ask.chain), index)
        latency_s = _latency_s(answer, max(ask.prompt_tokens - cached, 1))
        if latency_s < least_s or (latency_s == least_s and answer.replica.turn < best.replica.turn):
            best, best_cached, least_s = answer, cached, latency_s
    why = f"quickest of {len(cold)} cold among {len(usable)} probed: {_rif(best)} in flight, hot above {hot_above}"
    return best, best_cached, why


def _latency_s(answer: Answer, uncached: int) -> float:
    replica = answer.replica
    return float(replica.first_token_s(uncached) * (_rif(answer) + 1) * 2**replica.strikes)
