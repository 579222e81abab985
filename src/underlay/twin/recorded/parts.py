"""What did each recorded request have computed, in the twin? Its own part of the steps, prompt, tokens, bytes read.

The hour is run again as it was recorded. A step is shared equally by those in it, as the ledger does
(``ledger.policies.shapley``), so a request's own part of the steps is the sum of one over the heads of each. What
it took beside that depends on nobody else. With joules for each of the four, its joules are a plain sum.

Refused here: joules.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import add
from typing import NamedTuple

from underlay.control.effects import Dispatch
from underlay.ledger.step_energy import Sums
from underlay.ledger.steps import costs_of
from underlay.physics.step_time import StepCoefficients
from underlay.twin.crowd.call import Outcome
from underlay.twin.crowd.journal.crowd import Origin
from underlay.twin.engine import PagedRules, SlotRules
from underlay.twin.engine.shares import ShareWeights
from underlay.twin.exchange import Attempt, Exchange
from underlay.twin.ledger.taken import TAKEN, account_of
from underlay.twin.modelled import Modelled
from underlay.twin.platform import Platform

#: Each step weighs one, whatever is in it: what is shared is steps.
_STEPS = ShareWeights(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Parts(NamedTuple):
    """What a request took, by the account that the ledger books it on: of each attempt by how that ended."""

    model: str
    tokens: int
    accounts: Mapping[str, Sums]

    @property
    def all_of_it(self) -> Sums:
        """All its accounts together."""
        sums = Sums()
        for each in self.accounts.values():
            sums = Sums(*map(add, sums, each))
        return sums


class Sharing(Modelled):
    """A replica whose steps are shared: ``joules`` of its attempts are parts of steps."""

    __slots__ = ()

    def __init__(
        self, name: str, model: str, rules: PagedRules | SlotRules, times: StepCoefficients, place: int
    ) -> None:
        super().__init__(name, model, rules, times, place=place, weights=_STEPS)

    def _computed(
        self, begun_at: float, steps: int, first_s: float, growth_s: float, sequences: int, prefill_tokens: int
    ) -> float:
        super()._computed(begun_at, steps, first_s, growth_s, sequences, prefill_tokens)
        return float(steps)


class Noting:
    """Notes the attempts of one platform, and what each request took when it ends."""

    def __init__(self) -> None:
        self.parts: dict[str, Parts] = {}
        self._attempts: dict[str, list[Attempt]] = {}
        self._left: list[tuple[Exchange, Outcome, list[Attempt]]] = []

    def dispatched(self, platform: Platform, effect: Dispatch) -> None:
        """An attempt was made for an open exchange."""
        attempt = platform.open[effect.ticket].attempt
        if attempt is not None:
            self._attempts.setdefault(effect.ticket, []).append(attempt)

    def ended(self, exchange: Exchange, outcome: Outcome) -> None:
        """A request is over; what is running of it is taken out of its engine a step later."""
        attempts = self._attempts.pop(exchange.ticket, [])
        if attempts:
            self._left.append((exchange, outcome, attempts))

    def finish(self) -> dict[str, Parts]:
        """What each request took, by its recorded ticket; once everything is over."""
        for exchange, outcome, attempts in self._left:
            origin = exchange.call.more
            assert isinstance(origin, Origin)
            # Whoever left in the middle of an answer is content with that much in the twin, and left all the same.
            was: Outcome = "left" if (origin.call.outcome, outcome) == ("left", "finished") else outcome
            accounts: dict[str, Sums] = {}
            for attempt in attempts:
                for name, sums in _booked(attempt, TAKEN[account_of(attempt, was)]):
                    accounts[name] = Sums(*map(add, accounts.get(name, Sums()), sums))
            tokens = sum(attempt.prompt_tokens - attempt.cached_tokens + attempt.produced for attempt in attempts)
            self.parts[origin.call.arrived.ticket] = Parts(exchange.call.model, tokens, accounts)
        self._left.clear()
        return self.parts


def _booked(attempt: Attempt, account: str) -> list[tuple[str, Sums]]:
    """What an attempt took; what was computed a second time after a preemption is waste."""
    costs = costs_of(attempt.exchange.call.model)
    cached = min(attempt.cached_tokens, attempt.prompt_tokens)
    read = 0 if attempt.first_token_at is None and not attempt.joules else attempt.prompt_tokens - cached
    produced = max(0, attempt.produced - 1)  # the first one is its prompt's
    prompt, decoded = costs.prefill("", read, cached), costs.decode("", attempt.prompt_tokens + 1, produced)
    own = Sums(attempt.joules, prompt.prefill_flop * 1e-15, produced, decoded.kv_bytes * 1e-9 if produced else 0.0)
    if not attempt.wasted_j:
        return [(account, own)]
    again = costs.prefill("", attempt.again_tokens)
    return [(account, own), ("scheduler_waste", Sums(attempt.wasted_j, again.prefill_flop * 1e-15))]
