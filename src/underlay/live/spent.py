"""What accounts and keys had used of their budgets before this run, read from the ledger.

The desk keeps what is spent in memory; a start tells it the sums of each current period, one query per period.
A key and those it was rotated from spend out of one budget, so they are told as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from underlay.control.budgets import period_start
from underlay.control.events import BudgetSpent
from underlay.domain.keys import Budget, Key, Period
from underlay.domain.policy import DeskSettings
from underlay.live.store import Spent, Store

#: What an event can carry; more is beyond any budget.
_MOST = 2**63 - 1


class Used(Struct):
    """What was used in one period: pico-dollars, tokens, and joules as far as meters told."""

    pico_usd: int = 0
    tokens: int = 0
    joules: float = 0.0


#: By scope (key, user, tenant, model), name and period; who used nothing has no entry.
Use = Mapping[tuple[str, str, Period], Used]


def spent(store: Store, keys: Iterable[Key], settings: DeskSettings, at: float) -> list[BudgetSpent]:
    """What each account and key with a budget used before ``at``, in the periods that are current then.

    ``keys`` are all there ever were. To be told after the keys are, and after earlier runs are settled.
    """
    keys = list(keys)
    firsts = first_of_line(keys)
    budgets: dict[tuple[str, str], tuple[Budget, ...]] = {("key", firsts[key.id]): key.budgets for key in keys}
    budgets |= {(account.scope, account.name): account.budgets for account in settings.accounts}
    wanted = [(scope, name, budget.period) for (scope, name), of in budgets.items() for budget in of]
    use = used(store, keys, {period for _, _, period in wanted}, at)
    return [
        BudgetSpent(
            at,
            scope,
            name,
            period,
            period_start(period, at),
            min(_MOST, found.pico_usd),
            min(_MOST, found.tokens),
            found.joules,
        )
        for scope, name, period in dict.fromkeys(wanted)
        if (found := use.get((scope, name, period))) is not None
    ]


def used(store: Store, keys: Iterable[Key], periods: Iterable[Period], at: float) -> Use:
    """What everybody used in these periods, as they are at ``at``; a line of rotated keys under its first."""
    keys = list(keys)
    firsts, users = first_of_line(keys), {key.id: key.user for key in keys}
    use: dict[tuple[str, str, Period], Used] = {}
    for period in sorted(set(periods)):
        for row in store.spent_since(period_start(period, at)):
            for scope, name in _accounts(row, firsts, users):
                found = use.setdefault((scope, name, period), Used())
                found.pico_usd += row.pico_usd
                found.tokens += row.tokens
                found.joules += row.joules
    return use


def _accounts(row: Spent, firsts: Mapping[str, str], users: Mapping[str, str]) -> list[tuple[str, str]]:
    key = ("key", firsts.get(row.key_id, row.key_id))
    return [key, ("user", users.get(row.key_id, "")), ("tenant", row.tenant), ("model", row.model)]


def first_of_line(keys: Iterable[Key]) -> dict[str, str]:
    """For each key the id of the first one in its line of rotations; its own if it replaced none."""
    keys = list(keys)
    before = {key.replaced_by: key.id for key in keys if key.replaced_by is not None}
    firsts: dict[str, str] = {}
    for key in keys:
        line = [key.id]
        while line[-1] in before and line[-1] not in firsts and before[line[-1]] not in line:
            line.append(before[line[-1]])
        first = firsts.get(line[-1], line[-1])
        firsts.update(dict.fromkeys(line, first))
    return firsts
