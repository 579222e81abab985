"""What was computed for each open request since the last look, as steps of the ledger?

An engine's words carry counts, which exchanges keep anyway; looking at them now and then costs a request nothing.
The prompt of an attempt counts from when the engine was asked to its first word, less what it found in its cache;
tokens decoded count from look to look, those of one replica as one coarse step, as they were decoded together.

Of an attempt that was never heard (a hedge that lost, a caller who left early) no engine says how far it got: its
prompt is taken to be read as fast as that replica read the last ones, and wholly where it has read none yet. That
is modelled, as every share is; the warming of a cache is nobody's request, and its engine tells its tokens.

Refused here: joules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from underlay.domain.answer import Usage
from underlay.ledger.step_energy import Sums, sums_of
from underlay.ledger.steps import Counted, Purpose, Step, coarse_step, costs_of
from underlay.live.computed import Computed
from underlay.live.driver import Performer

#: How much the last prompt that a replica read says of its speed; the ones before it say the rest.
_LATEST = 0.3

_Place = tuple[str, str]  # a model and its replica


class _Span(NamedTuple):
    begin_s: float
    end_s: float
    counted: Counted


class Counts(Protocol):
    """An exchange, or what is left of one."""

    @property
    def ticket(self) -> str:
        """Its request."""

    @property
    def model(self) -> str:
        """The model that computed it."""

    @property
    def computed(self) -> list[Computed]:
        """Attempts that were heard."""

    @property
    def unheard(self) -> list[Computed]:
        """Attempts that were not."""

    @property
    def guessed_tokens(self) -> int:
        """Its prompt's tokens, where no engine told them."""

    def produced(self) -> Usage:
        """Tell what engines have produced so far."""


class Work:
    """Looks at exchanges of these models."""

    def __init__(self, models: Iterable[str], begin_s: float) -> None:
        self._costs = {model: costs_of(model) for model in models}
        self._looked_s = begin_s
        self._steps: list[Step] = []
        self._spans: dict[_Place, list[_Span]] = {}
        self._beside: dict[_Place, int] = {}  # decoded together at the last look
        self._read_s: dict[_Place, float] = {}  # seconds for a token of a prompt
        self._warming: dict[_Place, float] = {}  # since when

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
        self._beside = {place: len(spans) for place, spans in self._spans.items()}
        self._spans.clear()
        self._looked_s = edge_s
        return steps

    def note(self, exchange: Performer, now_s: float) -> None:
        """Note what is new of one exchange."""
        if not self.counts(exchange):
            return
        for unheard in exchange.unheard:
            if not unheard.told_prompt:
                self._unheard(exchange, unheard)
        for computed in exchange.computed:
            if not computed.told_prompt:
                self._prompt(exchange, computed)
            decoded = computed.decoded_by_now(exchange.produced().completion_tokens)
            new = decoded - computed.told_tokens
            if new > 0:
                context = computed.prompt_tokens + computed.told_tokens
                counted = Counted(ledger_id(exchange.ticket, computed.number, "decode"), context, 0, new)
                begin_s = max(computed.heard_at, self._looked_s)
                end_s = now_s if computed.ended_at is None else max(computed.ended_at, begin_s)
                spans = self._spans.setdefault((exchange.model, computed.replica), [])
                spans.append(_Span(begin_s, end_s, counted))
                computed.told_tokens = decoded

    def _prompt(self, exchange: Performer, computed: Computed) -> None:
        computed.told_prompt = True
        computed.prompt_tokens = computed.prompt_tokens or exchange.guessed_tokens
        cached = min(computed.cached_tokens, computed.prompt_tokens)
        read = computed.prompt_tokens - cached
        place = (exchange.model, computed.replica)
        self._read(place, computed, exchange.ticket, cached, read)
        if read:
            token_s = max(computed.heard_at - computed.asked_at, 0.0) / read
            before_s = self._read_s.get(place, token_s)
            self._read_s[place] = before_s + (token_s - before_s) * _LATEST

    def _unheard(self, exchange: Performer, unheard: Computed) -> None:
        """An attempt that said nothing: as much of its prompt as would have been read by then."""
        unheard.told_prompt = True
        known = next((one.prompt_tokens for one in exchange.computed if one.prompt_tokens), 0)
        unheard.prompt_tokens = known or exchange.guessed_tokens
        place = (exchange.model, unheard.replica)
        token_s = self._read_s.get(place, 0.0)
        took_s = unheard.heard_at - unheard.asked_at
        read = min(unheard.prompt_tokens, int(took_s / token_s)) if token_s > 0.0 else unheard.prompt_tokens
        self._read(place, unheard, exchange.ticket, 0, read)

    def _read(self, place: _Place, computed: Computed, ticket: str, cached: int, tokens: int) -> None:
        counted = Counted(ledger_id(ticket, computed.number, "prefill"), cached, tokens, 0)
        self._add(place[0], computed.asked_at, computed.heard_at, counted)

    def _add(self, model: str, begin_s: float, end_s: float, counted: Counted) -> None:
        step = coarse_step(begin_s, end_s, self._costs[model], [counted])
        if step is not None:
            self._steps.append(step)

    # Caches that are filled for nobody's request.

    def warms(self, model: str, replica: str, now_s: float) -> None:
        """A replica begins to fill a cache."""
        if model in self._costs:
            self._warming[model, replica] = now_s

    def warmed(self, model: str, replica: str, tokens: int, now_s: float) -> None:
        """It has read so many tokens for that; 0 if it came to nothing."""
        since_s = self._warming.pop((model, replica), None)
        if since_s is not None:
            purpose: Purpose = "warming"
            self._add(model, since_s, now_s, Counted("", 0, tokens, 0, purpose))

    @property
    def warming_since(self) -> float | None:
        """Since when a cache is being filled, of which nothing is known until it is over."""
        return min(self._warming.values(), default=None)

    # What no window has yet.

    def outstanding(self, exchange: Counts, booked_tokens: Callable[[str], float]) -> Sums:
        """What was computed for it and is in no closed window: all but the tokens that are booked.

        Its own part of the steps, where it was decoded together with as many as at the last look.
        """
        costs, steps = self._costs[exchange.model], []
        produced = exchange.produced().completion_tokens
        for computed in exchange.computed:
            prompt = computed.prompt_tokens or exchange.guessed_tokens
            cached = min(computed.cached_tokens, prompt)
            booked = round(booked_tokens(ledger_id(exchange.ticket, computed.number, "prefill")))
            left = prompt - cached - booked
            if left > 0:
                part = left / (prompt - cached)
                steps.append(Step(0.0, 1.0, (costs.prefill("", left, cached + booked),), steps=part))
            decoded = computed.decoded_by_now(produced)
            left = decoded - round(booked_tokens(ledger_id(exchange.ticket, computed.number, "decode")))
            if left > 0:
                beside = max(1, self._beside.get((exchange.model, computed.replica), 1))
                work = costs.decode("", prompt + decoded - left, left)
                steps.append(Step(0.0, 1.0, (work,), steps=left / beside))
        return sums_of(steps)

    def counts(self, exchange: Counts) -> bool:
        """Whether its model is one of those that run here."""
        return exchange.model in self._costs


def ledger_id(ticket: str, attempt: int, phase: str) -> str:
    """What the ledger knows a phase (``prefill``, ``decode``) of an attempt by."""
    return f"{ticket}#{attempt}/{phase}"


def ticket_of(request: str) -> str:
    """Whose it is, by its id in the ledger."""
    return request.rpartition("#")[0]
