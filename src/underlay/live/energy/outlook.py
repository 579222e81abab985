"""What will a request have taken, as far as can be said before its last window is closed?

What windows have booked of it, and for the tokens that are in none of them yet what the step model says: at best
``modelled``. While the model has learnt nothing on this machine nobody can say, and no joules are told.

Accelerator time is not in it: who shares how much of a window is known when that is closed. Refused here: the last
word (``told``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

from msgspec import structs

from underlay.domain.energy import RequestEnergy
from underlay.domain.figures import JOULES_KWH, Figure, Method, total, weakest
from underlay.ledger.statements import Statement, Statements
from underlay.live.energy import told
from underlay.live.energy.metered import MeteredHost
from underlay.live.energy.site import Site
from underlay.live.energy.work import Counts, Work, ledger_id


class _Joule(NamedTuple):
    carbon: dict[str, Figure]
    water: dict[str, Figure]
    cost: dict[str, Figure]


class Outlook:
    """Says what is known of requests that are not settled."""

    def __init__(self, host: MeteredHost, work: Work, site: Site, statements: Statements) -> None:
        self._host = host
        self._work = work
        self._site = site
        self._statements = statements
        self._joule: dict[tuple[int, str], _Joule] = {}  # at the hours and within the boundaries there were

    def of(self, counts: Counts, hour: int, boundary: str, unmetered_s: float = 0.0) -> RequestEnergy:
        """What is known of one now."""
        known = self.joules(counts, boundary, unmetered_s)
        if known.joules is None:
            return known
        it, joule = known.joules, self._one_joule(hour, boundary)
        carbon, water, cost = (_scaled(each, it, known.method) for each in joule)
        return structs.replace(known, carbon=carbon, water=water, cost=cost)

    def joules(self, counts: Counts, boundary: str, unmetered_s: float = 0.0) -> RequestEnergy:
        """Its joules alone, as replies tell them."""
        nothing = RequestEnergy("provisional", unmetered_s=unmetered_s)
        if not self._host.knows or not self._work.counts(counts) or not (counts.computed or counts.unheard):
            return nothing
        booked = self._booked(counts)
        by_account = told.accounts_of(booked)
        known = [it for statement in booked if (it := statement.it_energy) is not None]
        coming = self._coming(counts, known)
        it = total([*known, coming])
        accounts = told.sums(by_account)
        accounts["busy"] = accounts.get("busy", 0.0) + coming.value
        if told.OVERHEAD in accounts and self._site.pue is not None:
            accounts[told.OVERHEAD] += coming.value * (self._site.pue.value - 1.0)
        return RequestEnergy(
            "provisional", it.value, it.uncertainty, it.method, it.meter, boundary, accounts, unmetered_s
        )

    def _booked(self, counts: Counts) -> list[Statement]:
        names = [ledger_id(counts.ticket, one.number, phase)
                 for one in counts.computed for phase in ("prefill", "decode")]  # fmt: skip
        names += [ledger_id(counts.ticket, one.number, "prefill") for one in counts.unheard]
        return [self._statements.provisional(name) for name in names if self._statements.has_booked(name)]

    def _coming(self, counts: Counts, known: list[Figure]) -> Figure:
        model = self._host.model
        joules = model.coefficients.joules(self._work.outstanding(counts, self._statements.booked_tokens))
        method: Method = weakest((model.method, self._host.method, "modelled"))
        meter = known[0].meter if known else ""
        return Figure(joules, "J", method, meter, "", joules * model.error)

    def _one_joule(self, hour: int, boundary: str) -> _Joule:
        """What a joule makes: reckoned once, as a reply waits for it. How far off is left to the last word."""
        found = self._joule.get((hour, boundary))
        if found is None:
            joule = Figure(1.0, "J", "measured", "", boundary)
            rate = self._site.costs(hour).electricity_kwh
            cost = {} if rate is None else {"electricity": joule.by(rate, unit="USD", scale=1.0 / JOULES_KWH)}
            found = self._joule[hour, boundary] = _Joule(*told.environment(joule, {hour: 1.0}, self._site), cost)
        return found


def _scaled(joule: Mapping[str, Figure], joules: float, method: str) -> dict[str, Figure]:
    return {name: figure.times(joules, method=cast("Method", method)) for name, figure in joule.items()}
