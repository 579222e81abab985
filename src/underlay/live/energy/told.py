"""The joules of a request as it is told of them: with grams, millilitres, money, and what stands beside.

Every term follows from the joules by the rates of the site at the hours in which they fell, so each is known no
better than they are. Power and cooling are an account on top of the joules and are in the grams, the off-site water
and the costs exactly once (``ledger.footprint`` multiplies by PUE, ``ledger.node`` adds the account).

Refused here: windows, and what is still to come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from underlay.domain.energy import RequestEnergy
from underlay.domain.figures import Figure, Method, total, weakest
from underlay.domain.money import PICO_PER_USD
from underlay.ledger.footprint import Footprint, footprint
from underlay.ledger.modelled import network
from underlay.ledger.statements import Statement
from underlay.live.energy.bills import Bill
from underlay.live.energy.site import Site

OVERHEAD = "overhead"
_CARBON = {"location": "carbon_location", "market": "carbon_market", "marginal": "carbon_marginal"}
_WATER = {"on_site": "water_on_site", "off_site": "water_off_site"}
_SCOPES = {"accelerator": "accelerators and host, by the time used",
           "electricity": "electricity of the servers",
           "overhead": "electricity of power and cooling"}  # fmt: skip


class Reckoned(NamedTuple):
    """What is known of a request: its accounts by phase, its bill, and the bytes that its caller sent and got."""

    statements: tuple[Statement, ...]
    bill: Bill
    carried_bytes: int
    unmetered_s: float
    boundary: str


def settled(of: Reckoned, site: Site, money_usd: str) -> RequestEnergy:
    """The last word on a request that was charged so much."""
    by_account = accounts_of(of.statements)
    metered = [it for statement in of.statements if (it := statement.it_energy) is not None]
    beside = _beside(of)
    if not metered:
        return RequestEnergy("settled", unmetered_s=of.unmetered_s, beside=beside)
    it = total(metered).times(1.0, boundary=of.boundary)
    carbon, water = environment(it, of.bill.hours, site)
    embodied = site.embodied(of.bill.accelerator_hours)
    if embodied is not None:
        carbon["embodied"] = embodied
    costs = _costs(of.bill, by_account, it, site)
    return RequestEnergy(
        "settled",
        it.value,
        it.uncertainty,
        it.method,
        it.meter,
        of.boundary,
        sums(by_account),
        of.unmetered_s,
        carbon,
        water,
        costs,
        beside,
        _margin(money_usd, costs),
    )


def accounts_of(statements: Iterable[Statement]) -> dict[str, list[Figure]]:
    """The figures of all phases by account."""
    found: dict[str, list[Figure]] = {}
    for statement in statements:
        for account, figure in statement.accounts.items():
            found.setdefault(account, []).append(figure)
    return found


def sums(by_account: Mapping[str, list[Figure]]) -> dict[str, float]:
    """The joules of each account."""
    return {account: sum(figure.value for figure in figures) for account, figures in by_account.items()}


def environment(it: Figure, hours: Mapping[int, float], site: Site) -> tuple[dict[str, Figure], dict[str, Figure]]:
    """Carbon by view and water by place, of servers' joules that fell so into the hours of the day."""
    fell = sum(hours.values())
    shares = {hour: joules / fell if fell else 1.0 / len(hours) for hour, joules in hours.items()}
    whole = len(shares) == 1  # mostly
    parts = [footprint(it if whole else it.times(share), site.rates(hour)) for hour, share in shares.items()]
    return _views(parts, _CARBON), _views(parts, _WATER)


def _views(parts: list[Footprint], names: Mapping[str, str]) -> dict[str, Figure]:
    found = {}
    for view, name in names.items():
        figures = [figure for part in parts if (figure := getattr(part, name)) is not None]
        if figures and len(figures) == len(parts):  # a view that is unknown at one hour is unknown
            found[view] = figures[0] if len(figures) == 1 else total(figures)
    return found


def _costs(bill: Bill, by_account: Mapping[str, list[Figure]], it: Figure, site: Site) -> dict[str, Figure]:
    hour = max(bill.hours, key=lambda known: bill.hours[known], default=0)
    rates = site.costs(hour)
    overhead = by_account.get(OVERHEAD)
    of_overhead = it if overhead is None else total(overhead)
    amounts = (
        ("accelerator", bill.accelerator_pico_usd, rates.accelerator_hour, it),
        ("electricity", bill.electricity_pico_usd, rates.electricity_kwh, it),
        ("overhead", bill.overhead_pico_usd, rates.electricity_kwh, of_overhead),
    )
    return {
        name: _cost(name, amount, rate, energy)
        for name, amount, rate, energy in amounts
        if amount is not None and rate is not None
    }


def _cost(name: str, pico_usd: int, rate: Figure, energy: Figure) -> Figure:
    """An amount, off by as much of itself as the joules that it was divided by and the rate together."""
    usd = pico_usd / PICO_PER_USD
    off = None
    if energy.uncertainty is not None and rate.uncertainty is not None and energy.value > 0.0 and rate.value > 0.0:
        of_energy, of_rate = energy.uncertainty / energy.value, rate.uncertainty / rate.value
        off = usd * (of_energy + of_rate + of_energy * of_rate)
    method: Method = weakest((energy.method, rate.method))
    return Figure(usd, "USD", method, energy.meter, _SCOPES[name], off, rate.source, rate.version)


def _margin(money_usd: str, costs: Mapping[str, Figure]) -> Figure | None:
    if len(costs) < len(_SCOPES):
        return None
    cost = total(list(costs.values()))
    left = float(money_usd) - cost.value
    return Figure(left, "USD", cost.method, cost.meter, "price charged, less all costs", cost.uncertainty)


def _beside(of: Reckoned) -> dict[str, Figure]:
    found = {}
    carried = network(of.carried_bytes)
    if carried is not None and of.carried_bytes:
        found["network"] = carried
    idle = [statement.idle_beside for statement in of.statements if statement.idle_beside.value > 0.0]
    if idle:  # a meter that does not see idle power says nothing of it
        found["idle_provisioned"] = total(idle)
    return found
