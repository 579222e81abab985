"""What did a window, and each request in it, cost us?

    accelerator   price of an accelerator-hour times accelerators times the window, used or not
    electricity   joules of the server at the tariff
    overhead      joules of power and cooling, (PUE - 1) of the server's, at the same tariff

Accelerator time goes where it was spent: time without a step to ``idle_provisioned``, the rest to the busy entries
as their joules, as a request that makes a step long makes it dear. All amounts are whole pico-dollars
(``domain/money.py``). An amount is divided by largest remainders, so parts are its sum exactly. A rate that nobody
knows makes its amount None, and so the sum.

Refused here: prices (``domain/money.py`` has tariffs, ``physics/prices.py`` list prices), invoices, taxes.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from underlay.domain.figures import JOULES_KWH, Figure
from underlay.domain.money import PICO_PER_USD
from underlay.ledger.attribution import ACCOUNT_OF, Entry, WindowAccounts
from underlay.ledger.node import NodeAccounts
from underlay.physics.prices import hour_prices

HOURS_A_MONTH = 8766 / 12
_FINE = 1 << 60


class CostRates(Struct, frozen=True, omit_defaults=True):
    """US dollars for an accelerator and hour, and for a kWh; None: nobody said."""

    accelerator_hour: Figure | None = None
    electricity_kwh: Figure | None = None


class Cost(Struct, frozen=True, omit_defaults=True):
    """What an account cost, for a request or for nobody (empty), in pico-dollars."""

    account: str
    request: str
    accelerator_pico_usd: int | None = None
    electricity_pico_usd: int | None = None
    overhead_pico_usd: int | None = None


def listed(accelerator: str) -> Figure | None:
    """The middle of the list prices of an accelerator-hour, off by as far as they lie apart; None without any."""
    price = hour_prices().get(accelerator)
    if price is None:
        return None
    off = max(price.most_usd - price.usd, price.usd - price.least_usd)
    return Figure(price.usd, "USD/h", "assumed", "", "accelerator, host and site, as hired", off)


def amortised(purchase_usd: float, life_months: float) -> Figure:
    """The hour of an accelerator that was bought, over its life, whether it works or not."""
    hour_usd = purchase_usd / (life_months * HOURS_A_MONTH)
    return Figure(hour_usd, "USD/h", "modelled", "", "purchase of accelerator and host, written off evenly")


def window_costs(window: WindowAccounts | NodeAccounts, accelerators: int, rates: CostRates) -> list[Cost]:
    """The costs of a window, one for each entry; ``accelerators`` are those of each device group in it.

    Without a PUE there are no overhead entries and no such cost: it is None, not 0.
    """
    devices = window.devices if isinstance(window, NodeAccounts) else (window,)
    told = window.entries if isinstance(window, NodeAccounts) else ()
    has_overhead = isinstance(window, NodeAccounts) and window.facility is not None
    costs = []
    for device in devices:
        hours = accelerators * (device.end_s - device.begin_s) / 3600.0
        hire = _amount(rates.accelerator_hour, hours)
        hired = [None] * len(device.entries) if hire is None else split(hire, _time_weights(device))
        drawn = _electricity(device.entries, rates)
        costs += [
            Cost(entry.account, entry.request, hour, energy, 0 if has_overhead else None)
            for entry, hour, energy in zip(device.entries, hired, drawn, strict=True)
        ]
    for entry, energy in zip(told, _electricity(told, rates), strict=True):
        over = entry.account == "overhead"
        costs.append(Cost(entry.account, entry.request, 0, 0 if over else energy,
                          energy if over else (0 if has_overhead else None)))  # fmt: skip
    return costs


def accelerator_hours(device: WindowAccounts, accelerators: int) -> list[float]:
    """Hours of accelerators by entry, as their hire is divided: a window's are theirs times its length."""
    weights = _time_weights(device)
    weighed = sum(weights)
    hours = accelerators * (device.end_s - device.begin_s) / 3600.0
    return [hours * (weight / weighed) if weighed > 0.0 else 0.0 for weight in weights]


def split(amount: int, weights: Sequence[float]) -> list[int]:
    """Whole parts of an amount by weights, by largest remainders; all to the first where no weight is above 0."""
    weighed = sum(weights)
    if weighed <= 0.0:
        return [amount, *(0 for _ in weights[1:])]
    fine = [int(weight / weighed * _FINE) for weight in weights]
    of = sum(fine)
    parts = [divmod(amount * weight, of) for weight in fine]
    left = amount - sum(whole for whole, _ in parts)
    first = sorted(range(len(parts)), key=lambda place: -parts[place][1])[:left]
    found = [whole for whole, _ in parts]
    for place in first:
        found[place] += 1
    return found


def _amount(rate: Figure | None, count: float) -> int | None:
    return None if rate is None else round(rate.value * count * PICO_PER_USD)


def _electricity(entries: Sequence[Entry], rates: CostRates) -> list[int | None]:
    """The entries' joules at the tariff. Each is rounded by itself where one is below 0 (a residual)."""
    joules = [entry.joules for entry in entries]
    amount = _amount(rates.electricity_kwh, sum(joules) / JOULES_KWH)
    if amount is None:
        return [None] * len(entries)
    if any(part < 0.0 for part in joules):
        return [_amount(rates.electricity_kwh, part / JOULES_KWH) for part in joules]
    return list(split(amount, joules)) if joules else []


def _time_weights(device: WindowAccounts) -> list[float]:
    """Seconds of the window by entry: idle time, and busy time as the busy joules."""
    worked = [entry.account in ACCOUNT_OF.values() for entry in device.entries]
    busy = [entry.joules if works else 0.0 for entry, works in zip(device.entries, worked, strict=True)]
    if sum(busy) <= 0.0:
        busy = [float(works) for works in worked]
    busy_j = sum(busy)
    idle_s = device.end_s - device.begin_s - device.busy_s
    return [
        idle_s if entry.account == "idle_provisioned" else (device.busy_s * part / busy_j if busy_j > 0.0 else 0.0)
        for entry, part in zip(device.entries, busy, strict=True)
    ]
