"""Money without rounding: whole pico-dollars (1e-12 US dollars) in ordinary integers.

A price of 0.15 US dollars per million tokens is 150,000 pico-dollars per token, so every price with up to
six decimals per million tokens multiplies exactly.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from underlay.domain.answer import Usage

PICO_PER_USD = 10**12


class Price(Struct, frozen=True):
    """US dollars per million tokens, by kind of token; ``cached`` is for prompt tokens found in a cache."""

    prompt_usd_per_mtok: Decimal = Decimal(0)
    cached_usd_per_mtok: Decimal = Decimal(0)
    completion_usd_per_mtok: Decimal = Decimal(0)

    def cost_pico_usd(self, usage: Usage) -> int:
        """What ``usage`` costs, in pico-dollars; exact."""
        fresh = usage.prompt_tokens - usage.cached_tokens
        million_usd = (
            self.prompt_usd_per_mtok * fresh
            + self.cached_usd_per_mtok * usage.cached_tokens
            + self.completion_usd_per_mtok * usage.completion_tokens
        )
        return int(million_usd * (PICO_PER_USD // 1_000_000))


class OwnPrice(Struct, frozen=True):
    """What somebody pays for a model instead of what everybody does; ``None``: as everybody."""

    model: str
    prompt_usd_per_mtok: Decimal | None = None
    cached_usd_per_mtok: Decimal | None = None
    completion_usd_per_mtok: Decimal | None = None

    def instead_of(self, usual: Price) -> Price:
        """The whole price, from the usual one."""
        own = (self.prompt_usd_per_mtok, self.cached_usd_per_mtok, self.completion_usd_per_mtok)
        of_all = (usual.prompt_usd_per_mtok, usual.cached_usd_per_mtok, usual.completion_usd_per_mtok)
        return Price(*(theirs if mine is None else mine for mine, theirs in zip(own, of_all, strict=True)))


def usd(pico_usd: int) -> str:
    """An amount in pico-dollars as an exact decimal string in dollars, without an exponent."""
    text = f"{Decimal(pico_usd).scaleb(-12):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
