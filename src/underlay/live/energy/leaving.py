"""A request that is over and waits for its last window: what of it must outlive its exchange?

Its phases, by which the ledger knows it, each with how it ended; the counts that no window may have yet; and how
many bytes went to and fro. Refused here: joules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf

from msgspec import structs

from underlay.domain.answer import Usage
from underlay.domain.energy import RequestEnergy
from underlay.domain.views import Hop, Journey
from underlay.ledger.statements import Ending, Statement
from underlay.live.driver import Performer
from underlay.live.energy.told import OVERHEAD
from underlay.live.energy.work import ledger_id

_ENDINGS: Mapping[str, Ending] = {"finished": "answered", "client_gone": "abandoned"}
#: The phase of the ledger that a hop of a journey shows.
_PHASES: Mapping[str, str] = {"prefill": "prefill", "decode": "decode", "engine": "prefill"}


class Left:
    """What is left of an exchange that was over at ``at_s``; nothing was computed for it after ``last_s``."""

    __slots__ = (
        "_produced",
        "at_s",
        "carried_bytes",
        "computed",
        "guessed_tokens",
        "journey",
        "last_s",
        "model",
        "ticket",
        "unheard",
    )

    def __init__(self, exchange: Performer, at_s: float) -> None:
        self.ticket = exchange.ticket
        self.model = exchange.model
        self.computed = exchange.computed
        self.unheard = exchange.unheard
        self.guessed_tokens = exchange.guessed_tokens
        self.carried_bytes = exchange.carried_bytes()
        self.at_s = at_s
        self.last_s = inf  # until that has been looked at
        self.journey: Journey | None = None
        self._produced = exchange.produced()

    def produced(self) -> Usage:
        """What engines produced in all."""
        return self._produced

    def phases(self) -> Iterator[tuple[str, Ending]]:
        """Its ids in the ledger, and how each ended."""
        for computed in self.computed:
            for phase in ("prefill", "decode"):
                yield ledger_id(self.ticket, computed.number, phase), self._ending(failed=computed.failed)
        for unheard in self.unheard:
            ending = self._ending(failed=unheard.failed)  # one that was not needed as another was heard: failed
            yield ledger_id(self.ticket, unheard.number, "prefill"), "failed" if ending == "answered" else ending

    def _ending(self, *, failed: bool) -> Ending:
        if failed or self.journey is None:
            return "failed"
        return _ENDINGS.get(self.journey.outcome, "failed")


def settled_journey(journey: Journey, energy: RequestEnergy, statements: Sequence[Statement]) -> Journey:
    """The journey with its joules, as a whole and by hop."""
    joules = {
        statement.request: sum(figure.value for name, figure in statement.accounts.items() if name != OVERHEAD)
        for statement in statements
        if statement.accounts
    }
    hops = tuple(_with_joules(hop, journey.id, joules) for hop in journey.hops)
    return structs.replace(journey, energy=energy, hops=hops)


def _with_joules(hop: Hop, ticket: str, joules: Mapping[str, float]) -> Hop:
    phase = _PHASES.get(hop.name)
    if phase is None or hop.attempt is None:
        return hop
    took_j = joules.get(ledger_id(ticket, hop.attempt, phase))
    return hop if took_j is None else structs.replace(hop, joules=took_j)
