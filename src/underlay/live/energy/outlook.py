"""What will a request have taken, as far as can be said before its last window is closed?

What windows have booked of it, and for the tokens that are in none of them yet what the step model says: at best
``modelled``. While the model has learnt nothing on this machine nobody can say, and no joules are told.

Accelerator time is not in it: who shares how much of a window is known when that is closed. Refused here: the last
word (``told``).
"""

from __future__ import annotations

from typing import NamedTuple

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
        nothing = RequestEnergy("provisional", unmetered_s=unmetered_s)
        if not self._host.knows or not self._work.counts(counts) or not (counts.computed or counts.unheard):
            return nothing
        booked = self._booked(counts)
        by_account = told.accounts_of(booked)
        known = [it for statement in booked if (it := statement.it_energy) is not None]
        coming = self._coming(counts, known)
        it = total([*known, coming]).times(1.0, boundary=boundary)
        accounts = told.sums(by_account)
        accounts["busy"] = accounts.get("busy", 0.0) + coming.value
        if told.OVERHEAD in accounts and self._site.pue is not None:
            accounts[told.OVERHEAD] += coming.value * (self._site.pue.value - 1.0)
        joule = self._one_joule(hour, boundary)
        return RequestEnergy(
            "provisional",
            it.value,
            it.uncertainty,
            it.method,
            it.meter,
            boundary,
            accounts,
            unmetered_s,
            _scaled(joule.carbon, it),
            _scaled(joule.water, it),
            _scaled(joule.cost, it),
        )

    def _booked(self, counts: Counts) -> list[Statement]:
        names = [ledger_id(counts.ticket, one.number, phase)
                 for one in counts.computed for phase in ("prefill", "decode")]  # fmt: skip
        names += [ledger_id(counts.ticket, one.number, "prefill") for one in counts.unheard]
        return [self._statements.provisional(name) for name in names]

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


def _scaled(joule: dict[str, Figure], it: Figure) -> dict[str, Figure]:
    return {name: figure.times(it.value, method=it.method) for name, figure in joule.items()}
