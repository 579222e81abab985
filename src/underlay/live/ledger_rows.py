"""The ledger as the console shows it: requests one by one, or sums of charges and energy, and what is nobody's.

Refused here: sums (``live.store_sums``, ``live.store_energy_sums``).
"""

from __future__ import annotations

from msgspec.structs import replace

from underlay.domain.answer import Usage
from underlay.domain.money import usd
from underlay.domain.views import LedgerEnergy, LedgerRow
from underlay.live.store import Store
from underlay.live.store_energy_sums import EnergySum, NobodysSum
from underlay.live.store_schema import MICRO
from underlay.live.store_sums import Group, LedgerSum

_FIELD: dict[str, str] = {"tenant": "tenant", "key": "key_id", "model": "model", "region": "region", "day": "day"}
_GROUPS: dict[str, Group] = {"tenant": "tenant", "key": "key", "model": "model", "region": "region", "day": "day"}
#: A charge has its time from the desk, its energy from the gateway: they differ by milliseconds.
_APART_S = 60.0
_NONE = LedgerRow("", 0.0, "", "", "", "", Usage(), 0)


def ledger_rows(store: Store, group: str, *, latest: int = 200) -> list[LedgerRow]:
    """By ``request``, its latest; else the sums of all by group. Joules of all sums are what the meters counted."""
    with store.snapshot():
        return _requests(store, latest) if group == "request" else _sums(store, group)


def _requests(store: Store, latest: int) -> list[LedgerRow]:
    rows = store.ledger(limit=latest)
    if not rows:
        return []
    energy = store.energy_by_request(min(row.at_s for row in rows) - _APART_S)
    return [replace(row, energy=_energy(energy.get(row.request_id))) for row in rows]


def _sums(store: Store, group: str) -> list[LedgerRow]:
    charged = {one.group: one for one in store.ledger_sums(_GROUPS[group])}
    energy = store.energy_ledger(_GROUPS[group])
    metered = {one.group: one for one in energy.groups}
    groups = [
        _sum(group, charged.get(name, LedgerSum(name, 0, Usage(), 0)), metered.get(name))
        for name in sorted({*charged, *metered})
    ]
    return [*groups, *(_nobodys(group, one) for one in energy.nobodys)]


def _sum(group: str, charge: LedgerSum, energy: EnergySum | None) -> LedgerRow:
    sums = replace(_NONE, usage=charge.usage, cost_pico_usd=charge.cost_pico_usd, energy=_energy(energy))
    return replace(sums, **{_FIELD[group]: charge.group})


def _nobodys(group: str, one: NobodysSum) -> LedgerRow:
    energy = LedgerEnergy(one.microjoules / MICRO, one.method)
    return replace(_NONE, account=one.account, energy=energy, **{_FIELD[group]: one.group})


def _energy(energy: EnergySum | None) -> LedgerEnergy | None:
    if energy is None:
        return None
    own = sum(energy.cost_pico_usd.values())
    return LedgerEnergy(
        joules=energy.microjoules / MICRO,
        method=energy.method,
        requests=energy.requests,
        accounts={account: micro / MICRO for account, micro in energy.accounts.items()},
        figures=energy.figures,
        own_cost_usd={part: usd(amount) for part, amount in energy.cost_pico_usd.items()},
        margin_usd=None if energy.cost_lacks else usd(energy.charged_pico_usd - own),
    )
