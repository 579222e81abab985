"""Who may ask: keys as the platform remembers them. The secret itself is never in here."""

from __future__ import annotations

from msgspec import Struct


class Limits(Struct, frozen=True):
    """What a key may use. ``None`` means unlimited; rates are per minute, ``concurrent`` counts open requests."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


class Key(Struct, frozen=True):
    """A key by the SHA-256 of its secret.

    ``id`` is public (``key_…``) and names it in lists and logs; ``tenant`` is who pays; ``models`` is what it
    may use (empty: all). Times are Unix seconds; ``expires_s`` and ``revoked_s`` are ``None`` while they have
    not been set, and a key is refused from that second on.
    """

    id: str
    digest: str
    tenant: str
    name: str = ""
    prefix: str = ""
    models: tuple[str, ...] = ()
    limits: Limits = Limits()
    created_s: float = 0.0
    expires_s: float | None = None
    revoked_s: float | None = None
    replaced_by: str | None = None
