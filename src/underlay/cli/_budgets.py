"""Budgets as people write and read them: ``5usd/month``, ``200000tokens/day``, ``500kJ/day``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from underlay.domain.keys import Budget, Key, Period
    from underlay.live.spent import Use, Used
    from underlay.live.store import Store

#: What 64 bits hold in pico-dollars, roughly.
_USD_MAX = 9_000_000

_FORM = re.compile(r"([0-9]+(?:\.[0-9]{1,12})?)\s*([a-z]+)(?:/|\s+per\s+)(day|week|month|total)", re.IGNORECASE)
_EXAMPLES = "5usd/month, 200000tokens/day, 500kJ/day or 20usd/total"


def budget(value: str) -> Budget:
    """A budget from an amount, a unit and a period; click shows its name as the option's kind."""
    from underlay.domain.keys import Budget
    from underlay.domain.money import PICO_PER_USD

    match = _FORM.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"'{value}' is no budget such as {_EXAMPLES}")
    amount, unit, period = Decimal(match[1]), match[2].lower(), match[3].lower()
    if unit not in ("usd", "tokens"):
        return Budget(period, joules=_joules(value, match[1] + match[2]))  # type: ignore[arg-type]
    if not amount or (unit == "tokens" and amount % 1) or amount > (_USD_MAX if unit == "usd" else 2**63 - 1):
        raise click.BadParameter(f"'{value}': {amount} {unit} is no amount to be spent")
    if unit == "usd":
        return Budget(period, pico_usd=int(amount * PICO_PER_USD))  # type: ignore[arg-type]
    return Budget(period, tokens=int(amount))  # type: ignore[arg-type]


def _joules(value: str, amount: str) -> float:
    from underlay.domain.joules import JOULES_MAX, joules

    try:
        found = joules(amount)
    except ValueError as wrong:
        raise click.BadParameter(f"'{value}' is no budget such as {_EXAMPLES}: {wrong}") from wrong
    if not 0.0 < found <= JOULES_MAX:
        raise click.BadParameter(f"'{value}': {amount} is no amount to be used")
    return found


def use_of(store: Store, at_s: float) -> tuple[Use, dict[str, str]]:
    """What was spent in the current periods by anybody, and for each key the first of its line."""
    from underlay.live import spent

    keys = store.keys()
    periods = {budget.period for key in keys for budget in key.budgets}
    return spent.used(store, keys, periods, at_s), spent.first_of_line(keys)


def fields(key: Key, use: tuple[Use, dict[str, str]], at_s: float) -> list[dict[str, Any]]:
    """A key's budgets for ``--json``: amounts of money are exact decimal strings."""
    from underlay.domain.money import usd

    said = []
    for each, used, resets_at in _state(key, use, at_s):
        money = None if each.pico_usd is None else usd(each.pico_usd)
        bound = {"usd": money, "tokens": each.tokens, "joules": each.joules}
        taken = {"spent_usd": usd(used.pico_usd), "spent_tokens": used.tokens, "spent_joules": used.joules}
        said.append({"per": each.period, **bound, **taken, "resets_at": resets_at})
    return said


def cell(key: Key, use: tuple[Use, dict[str, str]], at_s: float) -> str:
    """A key's budgets in one cell of a table: what is spent, of what."""
    from underlay.domain.joules import written
    from underlay.domain.money import usd

    parts = []
    for each, used, _ in _state(key, use, at_s):
        per = "in total" if each.period == "total" else f"per {each.period}"
        if each.pico_usd is not None:
            parts.append(f"{usd(used.pico_usd)} of {usd(each.pico_usd)} usd {per}")
        if each.tokens is not None:
            parts.append(f"{used.tokens} of {each.tokens} tokens {per}")
        if each.joules is not None:
            parts.append(f"{written(used.joules)} of {written(each.joules)} {per}")
    return ", ".join(parts)


def _state(key: Key, use: tuple[Use, dict[str, str]], at_s: float) -> Sequence[tuple[Budget, Used, str | None]]:
    """Each budget, what is spent of it, and when it begins anew."""
    from underlay.control.budgets import iso, period_end
    from underlay.live.spent import Used

    def resets_at(period: Period) -> str | None:
        return None if period == "total" else iso(period_end(period, at_s))

    spent, firsts = use
    name = firsts.get(key.id, key.id)
    none = Used()
    return [(each, spent.get(("key", name, each.period), none), resets_at(each.period)) for each in key.budgets]
