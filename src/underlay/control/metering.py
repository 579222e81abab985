"""What did it use, and what does that cost?

Decided from the engine's own counters, which arrive with events, and the model's price or the tenant's own. Prompt
tokens are counted once however many attempts a request took; a request that failed costs its caller nothing; one
whose caller left costs what the engines produced. It refuses to know exchange rates and invoices.
"""

from __future__ import annotations

from underlay.domain.answer import Usage
from underlay.domain.keys import Key
from underlay.domain.money import PICO_PER_USD, Price
from underlay.domain.policy import DeskSettings

from .effects import Charge, Outcome


class Tariff:
    """A model's price, made quick: whole pico-dollars per token, where it is a whole number of them."""

    __slots__ = ("_cached", "_completion", "_prompt", "_whole", "price")

    def __init__(self, price: Price) -> None:
        self.price = price
        million = (price.prompt_usd_per_mtok, price.cached_usd_per_mtok, price.completion_usd_per_mtok)
        each = [usd * (PICO_PER_USD // 1_000_000) for usd in million]
        self._whole = all(pico == pico.to_integral_value() for pico in each)
        self._prompt, self._cached, self._completion = (int(pico) for pico in each)

    def cost_pico_usd(self, usage: Usage) -> int:
        """What ``usage`` costs, in pico-dollars; exact."""
        if not self._whole:
            return self.price.cost_pico_usd(usage)
        cached = usage.cached_tokens
        prompt = (usage.prompt_tokens - cached) * self._prompt + cached * self._cached
        return prompt + usage.completion_tokens * self._completion


def own_tariffs(settings: DeskSettings) -> dict[tuple[str, str], Tariff]:
    """The tariffs of tenants that pay other prices than everybody, by tenant and model."""
    usual = {policy.name: policy.price for policy in settings.models}
    return {
        (account.name, own.model): Tariff(own.instead_of(usual[own.model]))
        for account in settings.accounts
        if account.scope == "tenant"
        for own in account.prices
        if own.model in usual
    }


def charge(ticket: str, key: Key, model: str, tariff: Tariff, usage: Usage, outcome: Outcome) -> Charge:
    """Make the one charge of a ticket."""
    cost = 0 if outcome == "failed" else tariff.cost_pico_usd(usage)
    return Charge(ticket, key.id, key.tenant, model, usage, cost, outcome)
