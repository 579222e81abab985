"""What did the windows of a request cost, and at which hours of the day did its joules fall?

Kept of a request until it is settled: joules by the hour, so that each hour's grid and tariff is taken for what
fell in it; accelerator-hours; and whole pico-dollars, as ``ledger.costs`` divides a window's. What is nobody's is
added up beside the requests, under no ticket.

Refused here: figures and their uncertainties (``told``).
"""

from __future__ import annotations

from underlay.ledger.costs import Cost, accelerator_hours, window_costs
from underlay.ledger.node import NodeAccounts
from underlay.live.energy.site import Site
from underlay.live.energy.work import ticket_of


class Bill:
    """Of one request, or of nobody. An amount of which a part is unknown is ``None``."""

    __slots__ = ("accelerator_hours", "accelerator_pico_usd", "electricity_pico_usd", "hours", "overhead_pico_usd")

    def __init__(self) -> None:
        self.hours: dict[int, float] = {}
        self.accelerator_hours = 0.0
        self.accelerator_pico_usd: int | None = 0
        self.electricity_pico_usd: int | None = 0
        self.overhead_pico_usd: int | None = 0

    def add(self, cost: Cost) -> None:
        """Add an entry's cost."""
        self.accelerator_pico_usd = _sum(self.accelerator_pico_usd, cost.accelerator_pico_usd)
        self.electricity_pico_usd = _sum(self.electricity_pico_usd, cost.electricity_pico_usd)
        self.overhead_pico_usd = _sum(self.overhead_pico_usd, cost.overhead_pico_usd)


class Bills:
    """The bills of requests that are not settled."""

    __slots__ = ("_open", "_site")

    def __init__(self, site: Site) -> None:
        self._site = site
        self._open: dict[str, Bill] = {}

    def add(self, accounts: NodeAccounts, hour: int) -> Bill:
        """Add a window that closed at this hour; returns what of it is nobody's."""
        nobodys = Bill()
        for cost in window_costs(accounts, self._site.accelerators, self._site.costs(hour)):
            self._of(cost.request, nobodys).add(cost)
        for device in accounts.devices:
            spent = accelerator_hours(device, self._site.accelerators)
            for entry, hours in zip(device.entries, spent, strict=True):
                self._of(entry.request, nobodys).accelerator_hours += hours
        for entry in (*accounts.entries, *(entry for device in accounts.devices for entry in device.entries)):
            if entry.account != "overhead":
                by_hour = self._of(entry.request, nobodys).hours
                by_hour[hour] = by_hour.get(hour, 0.0) + entry.joules
        return nobodys

    def seen(self, ticket: str) -> Bill:
        """The bill so far."""
        return self._open.get(ticket) or Bill()

    def take(self, ticket: str) -> Bill:
        """The whole bill of a request that is settled."""
        return self._open.pop(ticket, None) or Bill()

    @property
    def kept(self) -> int:
        """How many bills are open."""
        return len(self._open)

    def _of(self, request: str, nobodys: Bill) -> Bill:
        return self._open.setdefault(ticket_of(request), Bill()) if request else nobodys


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
