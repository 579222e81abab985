"""What has become of all metered joules since the platform began, and since the store was last told?

For Prometheus: joules by account and method, and grams, millilitres and US dollars by model, those that are no
request's under the empty name. For the store: ``Booked``, whose accounts are what the meters counted in the windows
since the last one; joules of requests that are not settled yet are ``open`` there.

Refused here: which request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from underlay.domain.energy import Booked, RequestEnergy
from underlay.domain.figures import Figure, Method, total, weakest
from underlay.domain.money import PICO_PER_USD
from underlay.ledger.node import NodeAccounts
from underlay.ledger.statements import Statement
from underlay.live.energy import told
from underlay.live.energy.bills import Bill
from underlay.live.energy.site import Site

OPEN = "open"
#: Windows in which no request was settled are told together, so many seconds of them.
BOOK_S = 10.0


class Totals:
    """Sums. Changed under the lock of whoever has them; ``begin_s`` is Unix time."""

    def __init__(self, site: Site, begin_s: float) -> None:
        self._site = site
        self.by_account: dict[tuple[str, Method], float] = {}
        self.grams: dict[str, float] = {}
        self.millilitres: dict[tuple[str, str], float] = {}
        self.usd: dict[tuple[str, str], float] = {}
        self.open_j = self.overhead_j = self.metered_j = 0.0
        self.rescale: float | None = None
        self._begin_s = self._end_s = begin_s
        self._booked: dict[str, float] = {}
        self._booked_j = 0.0
        self._meter = ""
        self._method: Method = "assumed"
        self._methods: list[Method] = []

    def window(self, accounts: NodeAccounts, nobodys: Bill) -> None:
        """Add a window that closed; of requests it is not known yet on which account it ends."""
        self.metered_j += accounts.it.value
        self._booked_j += accounts.it.value
        self._meter = accounts.it.meter
        self._methods.append(accounts.it.method)
        (device,) = accounts.devices
        if device.rescale is not None:
            self.rescale = device.rescale
        unused: list[Figure] = []
        for entry in (*device.entries, *accounts.entries):
            if entry.account == told.OVERHEAD:
                self.overhead_j += entry.joules
            elif entry.request:
                self.open_j += entry.joules
                self._book(OPEN, entry.joules)
            else:
                self._count(entry.account, entry.method, entry.joules)
                unused.append(entry.figure(accounts.it.meter, accounts.it.boundary))
        carbon, water = told.environment(total(unused), nobodys.hours, self._site)
        self._add("", carbon, water, _usd(nobodys))

    def settled(self, model: str, statements: Iterable[Statement], energy: RequestEnergy) -> None:
        """Add a request that is settled: its joules are open no more."""
        for account, figures in told.accounts_of(statements).items():
            for figure in figures:
                if account != told.OVERHEAD:
                    self.open_j -= figure.value
                    self._book(OPEN, -figure.value)
                    self._count(account, figure.method, figure.value)
        self._add(model, energy.carbon, energy.water, {part: cost.value for part, cost in energy.cost.items()})

    def due(self, end_s: float) -> bool:
        """Whether what was booked since the last time is worth telling, at the end of a window."""
        self._end_s = end_s
        return bool(self._booked) and end_s - self._begin_s >= BOOK_S

    def booked(self) -> Booked:
        """All since the last time; by the method of its windows, or where there was none, of those before."""
        if self._methods:
            self._method = weakest(self._methods)
        found = Booked(
            begin_s=self._begin_s,
            end_s=self._end_s,
            region=self._site.name,
            meter=self._meter,
            method=self._method,
            metered_joules=self._booked_j,
            accounts=self._booked,
        )
        self._begin_s, self._booked, self._booked_j, self._methods = self._end_s, {}, 0.0, []
        return found

    def _add(
        self, model: str, carbon: Mapping[str, Figure], water: Mapping[str, Figure], usd: Mapping[str, float]
    ) -> None:
        location = carbon.get("location")
        if location is not None:
            self.grams[model] = self.grams.get(model, 0.0) + location.value
        for place, figure in water.items():
            self.millilitres[model, place] = self.millilitres.get((model, place), 0.0) + figure.value
        for part, amount in usd.items():
            self.usd[model, part] = self.usd.get((model, part), 0.0) + amount

    def _count(self, account: str, method: Method, joules: float) -> None:
        self.by_account[account, method] = self.by_account.get((account, method), 0.0) + joules
        self._book(account, joules)

    def _book(self, account: str, joules: float) -> None:
        if joules:
            self._booked[account] = self._booked.get(account, 0.0) + joules


def _usd(bill: Bill) -> dict[str, float]:
    amounts = {
        "accelerator": bill.accelerator_pico_usd,
        "electricity": bill.electricity_pico_usd,
        "overhead": bill.overhead_pico_usd,
    }
    return {part: pico_usd / PICO_PER_USD for part, pico_usd in amounts.items() if pico_usd is not None}
