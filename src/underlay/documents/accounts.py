"""Accounts as documents name them: what the desk makes of them, and what no field can say is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal

from underlay.documents.desk import AccountSettings
from underlay.documents.findings import Mistake, unknown
from underlay.domain.keys import Budget, Limits
from underlay.domain.money import PICO_PER_USD, OwnPrice
from underlay.domain.policy import Account

SCOPES = ("tenant", "user", "model")


def accounts(entries: Iterable[AccountSettings]) -> tuple[Account, ...]:
    """All accounts, for ``DeskSettings``."""
    return tuple(_account(account) for account in entries)


def _account(account: AccountSettings) -> Account:
    scope, name = _names(account)[0]
    return Account(
        scope=scope,  # type: ignore[arg-type]  # one of SCOPES
        name=name,
        limits=Limits(**account.limits.model_dump()),
        budgets=tuple(
            Budget(budget.per, pico_usd(budget.usd), budget.tokens, budget.joules) for budget in account.budgets
        ),
        weight=account.weight,
        band=account.band or "",
        prices=tuple(OwnPrice(**price.model_dump()) for price in account.prices),
    )


def pico_usd(usd: Decimal | None) -> int | None:
    """US dollars in pico-dollars; at most twelve decimals."""
    return None if usd is None else int(usd * PICO_PER_USD)


def mistakes(
    entries: Iterable[AccountSettings], models: Collection[str], bands: Collection[str]
) -> Iterator[Mistake]:
    """What is wrong between accounts that are each valid, and the models and bands that there are."""
    seen: dict[tuple[str, str], int] = {}
    for number, account in enumerate(entries):
        at = (number,)
        names = _names(account)
        if len(names) != 1:
            given = " and ".join(f"a {scope}" for scope, _ in names) or "none"
            yield Mistake(at, f"name one tenant, user or model, not {given}")
            continue
        first = seen.setdefault(names[0], number)
        if first != number:
            yield Mistake((*at, names[0][0]), f"{' '.join(names[0])} stands in accounts.{first} already")
        yield from (mistake._replace(steps=at + mistake.steps) for mistake in _within(account, models, bands))


def _within(account: AccountSettings, models: Collection[str], bands: Collection[str]) -> Iterator[Mistake]:
    if account.model is not None and account.model not in models:
        yield Mistake(("model",), unknown("model", account.model, models))
    if account.band is not None and account.model is not None:
        yield Mistake(("band",), "a model has no band; its callers' keys, users and tenants do")
    elif account.band is not None and account.band not in bands:
        yield Mistake(("band",), unknown("band", account.band, bands))
    if account.tenant is None and "weight" in account.model_fields_set:
        yield Mistake(("weight",), "only tenants are weighed")
    if account.tenant is None and account.prices:
        yield Mistake(("prices",), "only tenants have prices of their own")
    for number, price in enumerate(account.prices):
        if price.model not in models:
            yield Mistake(("prices", number, "model"), unknown("model", price.model, models))
    for number, budget in enumerate(account.budgets):
        if budget.usd is None and budget.tokens is None and budget.joules is None:
            yield Mistake(("budgets", number), "say usd, tokens, joules or several of them")


def _names(account: AccountSettings) -> list[tuple[str, str]]:
    return [(scope, name) for scope in SCOPES if (name := getattr(account, scope)) is not None]
