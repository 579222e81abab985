"""What was computed for each open request since the last look, as steps of the ledger?

An engine's words carry counts, which exchanges keep anyway; looking at them now and then costs a request nothing.
The prompt of an attempt counts from when the engine was asked to its first word, less what it found in its cache;
tokens decoded count from look to look, those of one replica as one coarse step, as they were decoded together.

Not known: what an attempt took that was never heard (a hedge that lost, a caller who left early); engines' own
warming. What the meters say of these is with whoever ran beside them, or unexplained.

Refused here: joules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from underlay.ledger.steps import Counted, Step, TokenCosts, coarse_step, token_costs
from underlay.live.computed import Computed
from underlay.live.driver import Performer
from underlay.physics import catalogue

#: For a model outside the catalogue: a dense one of a thousand million parameters. Assumed; as the step model
#: learns its level from the meter, only how reading a token compares with decoding one hangs on it.
ANY_COSTS = TokenCosts(2e9, 2e5, 5e4, 5e4)


class _Span(NamedTuple):
    begin_s: float
    end_s: float
    counted: Counted


class Work:
    """Looks at exchanges of these models. ``guess`` tells a prompt's tokens where no engine did."""

    def __init__(self, models: Iterable[str], guess: Callable[[str], int], begin_s: float) -> None:
        self._costs = {model: costs_of(model) for model in models}
        self._guess = guess
        self._looked_s = begin_s
        self._steps: list[Step] = []
        self._spans: dict[tuple[str, str], list[_Span]] = {}

    def look(self, exchanges: Iterable[Performer], now_s: float, edge_s: float) -> list[Step]:
        """The steps of everything since the last look, also of what ended meanwhile.

        A look comes a little after the edge of a window; what was decoded in between is put before it, so that
        nothing of a request that ended before the edge lies beyond.
        """
        for exchange in exchanges:
            self.note(exchange, now_s)
        steps, self._steps = self._steps, []
        for (model, _replica), spans in self._spans.items():
            end_s = min(max(span.end_s for span in spans), edge_s)
            begin_s = min(end_s, *(span.begin_s for span in spans))
            step = coarse_step(begin_s, end_s, self._costs[model], [span.counted for span in spans])
            if step is not None:
                steps.append(step)
        self._spans.clear()
        self._looked_s = edge_s
        return steps

    def note(self, exchange: Performer, now_s: float) -> None:
        """Note what is new of one exchange."""
        if not self.counts(exchange):
            return
        for computed in exchange.computed:
            if not computed.told_prompt:
                self._prompt(exchange, computed)
            decoded = computed.decoded_by_now(exchange.produced().completion_tokens)
            new = decoded - computed.told_tokens
            if new > 0:
                context = computed.prompt_tokens + computed.told_tokens
                counted = Counted(attempt_id(exchange.ticket, computed), context, 0, new)
                begin_s = max(computed.heard_at, self._looked_s)
                end_s = now_s if computed.ended_at is None else max(computed.ended_at, begin_s)
                spans = self._spans.setdefault((exchange.model, computed.replica), [])
                spans.append(_Span(begin_s, end_s, counted))
                computed.told_tokens = decoded

    def _prompt(self, exchange: Performer, computed: Computed) -> None:
        computed.told_prompt = True
        computed.prompt_tokens = computed.prompt_tokens or self._guess(exchange.ticket)
        cached = min(computed.cached_tokens, computed.prompt_tokens)
        read = Counted(attempt_id(exchange.ticket, computed), cached, computed.prompt_tokens - cached, 0)
        step = coarse_step(computed.asked_at, computed.heard_at, self._costs[exchange.model], [read])
        if step is not None:
            self._steps.append(step)

    def counts(self, exchange: Performer) -> bool:
        """Whether its model is one of those that run here."""
        return exchange.model in self._costs


def attempt_id(ticket: str, computed: Computed) -> str:
    """What the ledger knows an attempt by."""
    return f"{ticket}#{computed.number}"


def ticket_of(attempt: str) -> str:
    """Whose attempt it is."""
    return attempt.rpartition("#")[0]


def costs_of(model: str) -> TokenCosts:
    """What a model asks for each token, by its name in the catalogue."""
    known: Mapping[str, catalogue.Model] = catalogue.models()
    return token_costs(known[model]) if model in known else ANY_COSTS
