"""Accounts as the settings name them: what the desk makes of them, and what no field can say is wrong with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

from underlay.domain.keys import Budget, Limits
from underlay.domain.money import PICO_PER_USD
from underlay.domain.policy import Account
from underlay.live.settings import AccountSettings, Settings

SCOPES = ("tenant", "user", "model")


class Mistake(NamedTuple):
    """What is wrong, and with which setting."""

    steps: tuple[str | int, ...]
    message: str


def accounts(settings: Settings) -> tuple[Account, ...]:
    """All accounts, for ``DeskSettings``."""
    return tuple(_account(account) for account in settings.accounts)


def _account(account: AccountSettings) -> Account:
    scope, name = _names(account)[0]
    return Account(
        scope=scope,  # type: ignore[arg-type]  # one of SCOPES
        name=name,
        limits=Limits(**account.limits.model_dump()),
        budgets=tuple(Budget(budget.per, pico_usd(budget.usd), budget.tokens) for budget in account.budgets),
        weight=account.weight,
        band=account.band or "",
    )


def pico_usd(usd: Decimal | None) -> int | None:
    """US dollars in pico-dollars; at most twelve decimals."""
    return None if usd is None else int(usd * PICO_PER_USD)


def mistakes(settings: Settings) -> Iterator[Mistake]:
    """What is wrong between settings that are each valid."""
    seen: dict[tuple[str, str], int] = {}
    for number, account in enumerate(settings.accounts):
        at = ("accounts", number)
        names = _names(account)
        if len(names) != 1:
            given = " and ".join(f"a {scope}" for scope, _ in names) or "none"
            yield Mistake(at, f"name one tenant, user or model, not {given}")
            continue
        first = seen.setdefault(names[0], number)
        if first != number:
            yield Mistake((*at, names[0][0]), f"{' '.join(names[0])} stands in accounts.{first} already")
        yield from (mistake._replace(steps=at + mistake.steps) for mistake in _within(account, settings))


def _within(account: AccountSettings, settings: Settings) -> Iterator[Mistake]:
    models = [model.name for model in settings.models]
    if account.model is not None and account.model not in models:
        yield Mistake(("model",), _unknown("model", account.model, models))
    if account.band is not None and account.model is not None:
        yield Mistake(("band",), "a model has no band; its callers' keys, users and tenants do")
    elif account.band is not None and (wrong := unknown_band(account.band, settings)):
        yield Mistake(("band",), wrong)
    if account.tenant is None and "weight" in account.model_fields_set:
        yield Mistake(("weight",), "only tenants are weighed")
    for number, budget in enumerate(account.budgets):
        if budget.usd is None and budget.tokens is None:
            yield Mistake(("budgets", number), "say usd, tokens or both")


def unknown_band(band: str, settings: Settings) -> str:
    """What is wrong with the name of a band; empty if nothing is."""
    bands = [known.name for known in settings.desk.bands]
    return "" if band in bands else _unknown("band", band, bands)


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'?" if near else f"there is: {', '.join(known)}"
    return f"no {kind} is called '{name}'; {hint}"


def _names(account: AccountSettings) -> list[tuple[str, str]]:
    return [(scope, name) for scope in SCOPES if (name := getattr(account, scope)) is not None]
