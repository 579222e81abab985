"""Who may ask: keys as the platform remembers them. The secret itself is never in here."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Period = Literal["day", "week", "month", "total"]


class Budget(Struct, frozen=True):
    """What may be used in each period, in money (pico-dollars), in tokens and in joules; ``None`` is no bound.

    Joules are those that meters said requests took. Periods are those of the calendar in UTC, weeks begin on
    Mondays, ``total`` never ends.
    """

    period: Period
    pico_usd: int | None = None
    tokens: int | None = None
    joules: float | None = None


class Limits(Struct, frozen=True):
    """What a key may use. ``None`` means unlimited; rates are per minute, ``concurrent`` counts open requests."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


class Key(Struct, frozen=True):
    """A key by the SHA-256 of its secret.

    ``id`` is public (``key_…``) and names it in lists and logs; ``tenant`` is who pays (a team), ``user`` whose
    key it is (may be empty); ``models`` is what it may use (empty: all); ``band`` the highest class of urgency
    it may ask for (empty: the usual one). Times are Unix seconds; ``expires_s`` and ``revoked_s`` are ``None``
    while they have not been set, and a key is refused from that second on. ``replaced_by`` is the key that a
    rotation made in its place; the two share what they have spent.
    """

    id: str
    digest: str
    tenant: str
    name: str = ""
    prefix: str = ""
    models: tuple[str, ...] = ()
    limits: Limits = Limits()
    budgets: tuple[Budget, ...] = ()
    user: str = ""
    band: str = ""
    created_s: float = 0.0
    expires_s: float | None = None
    revoked_s: float | None = None
    replaced_by: str | None = None
