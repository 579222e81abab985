"""Keys: made here, shown once, remembered only as a SHA-256 digest.

A secret is ``ul_``, then 256 random bits in base62 (43 characters), then six characters of checksum. The fixed
prefix and the checksum let secret scanners find leaked keys with next to no false alarms, and let the gateway
turn away typos and guesses without looking anything up. A secret with this much chance in it needs no slow
hash: there is nothing to guess at.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from underlay.domain.errors import Conflict, NotFound
from underlay.domain.keys import Budget, Key, Limits
from underlay.live import locate
from underlay.live.store import Store

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY_CHARS = 43
CHECKSUM_CHARS = 6
PREFIX_CHARS = 8
LOCAL_NAME = "local"
LOCAL_TENANT = "local"
LOCAL_FILE = "local.key"

_SHAPE = re.compile(rf"ul_([0-9A-Za-z]{{{BODY_CHARS}}})([0-9A-Za-z]{{{CHECKSUM_CHARS}}})", re.ASCII)

State = Literal["live", "expired", "revoked"]


class Minted(Struct, frozen=True):
    """A new key and its secret, which exists nowhere else and is to be shown once."""

    key: Key
    secret: str


def mint() -> str:
    """A new secret."""
    body = _base62(secrets.randbits(256), BODY_CHARS)
    return f"ul_{body}{_checksum(body)}"


def well_formed(secret: str) -> bool:
    """Whether this could be a secret of ours: characters, length and checksum, with no lookup."""
    match = _SHAPE.fullmatch(secret)
    return match is not None and _checksum(match[1]) == match[2]


def digest(secret: str) -> str:
    """What is remembered of a secret: its SHA-256, in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def prefix(secret: str) -> str:
    """The beginning of a secret, by which its owner recognises it in a list."""
    return secret[:PREFIX_CHARS]


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("ascii")), CHECKSUM_CHARS)


def _base62(number: int, chars: int) -> str:
    digits = []
    for _ in range(chars):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def state(key: Key, at_s: float) -> State:
    """Whether a key opens anything at Unix time ``at_s``; it is refused from the second it ends."""
    if key.revoked_s is not None and at_s >= key.revoked_s:
        return "revoked"
    if key.expires_s is not None and at_s >= key.expires_s:
        return "expired"
    return "live"


def create(
    store: Store,
    *,
    tenant: str,
    at_s: float,
    name: str = "",
    models: Sequence[str] = (),
    limits: Limits | None = None,
    budgets: Sequence[Budget] = (),
    user: str = "",
    band: str = "",
    expires_s: float | None = None,
) -> Minted:
    """Make a key for ``tenant`` and remember it. No ``models`` means all; ``expires_s`` is Unix time."""
    minted = _minted(
        Key(
            id="",
            digest="",
            tenant=tenant,
            name=name,
            models=tuple(models),
            limits=limits or Limits(),
            budgets=tuple(budgets),
            user=user,
            band=band,
            created_s=at_s,
            expires_s=expires_s,
        )
    )
    store.put_key(minted.key)
    return minted


def _minted(like: Key) -> Minted:
    """A key with a secret of its own, in all else like this one."""
    secret = mint()
    made = {
        "id": f"key_{_base62(secrets.randbits(71), 12)}",
        "digest": digest(secret),
        "prefix": prefix(secret),
    }
    return Minted(msgspec.structs.replace(like, **made), secret)


def revoke(store: Store, key_id: str, at_s: float) -> Key:
    """End a key now. Revoking it again changes nothing: the first time counts."""
    with store.transaction():
        key = _existing(store, key_id)
        if key.revoked_s is None:
            key = msgspec.structs.replace(key, revoked_s=at_s)
            store.put_key(key)
    return key


def rotate(store: Store, key_id: str, overlap_s: float, at_s: float) -> Minted:
    """Replace a key by a new one that may do the same for as long.

    The old one goes on for ``overlap_s`` seconds (never longer than it would have), for its users to change over;
    both spend out of the same budgets.
    """
    with store.transaction():
        old = _existing(store, key_id)
        if state(old, at_s) != "live":
            raise Conflict(f"{old.id} is {state(old, at_s)}; create a new key instead", reason="key_not_live")
        if old.replaced_by is not None:
            raise Conflict(f"{old.id} was already rotated; rotate {old.replaced_by}", reason="key_rotated")
        lifetime_s = None if old.expires_s is None else old.expires_s - old.created_s
        expires_s = None if lifetime_s is None else at_s + lifetime_s
        new = _minted(msgspec.structs.replace(old, created_s=at_s, expires_s=expires_s))
        ends_s = at_s + overlap_s
        if old.expires_s is not None:
            ends_s = min(ends_s, old.expires_s)
        store.put_key(new.key)
        store.put_key(msgspec.structs.replace(old, expires_s=ends_s, replaced_by=new.key.id))
    return new


def _existing(store: Store, key_id: str) -> Key:
    key = store.key(key_id)
    if key is None:
        raise NotFound(f"no key {key_id}", reason="key_not_found")
    return key


def find(store: Store, called: str, at_s: float) -> Key:
    """The key that a person means: by id, by the beginning of its id or secret, or by name of a live one."""
    keys = store.keys()
    exact = [key for key in keys if key.id == called]
    if exact:
        return exact[0]
    named = [key for key in keys if key.name == called and state(key, at_s) == "live" and not key.replaced_by]
    begun = [key for key in keys if len(called) > 4 and (key.id.startswith(called) or key.prefix == called[:8])]
    meant = named or begun
    if not meant:
        raise NotFound(f"no key is called {called!r}", reason="key_not_found")
    if len(meant) > 1:
        raise Conflict(f"{called!r} could be any of {', '.join(key.id for key in meant)}", reason="key_ambiguous")
    return meant[0]


def local_secret(store: Store, data_dir: Path, at_s: float) -> str:
    """The secret of the key by which this machine's user speaks to the platform; made where there is none.

    It is kept in ``local.key``, readable by its owner only, so that ``underlay ask`` works without a word about
    keys. A new one is made if the file is gone or its key no longer lives.
    """
    kept = read_local(data_dir)
    if kept is not None:
        key = store.key_of_digest(digest(kept))
        if key is not None and state(key, at_s) == "live":
            return kept
    secret = create(store, tenant=LOCAL_TENANT, name=LOCAL_NAME, at_s=at_s).secret
    keep_local(data_dir, secret)
    return secret


def read_local(data_dir: Path) -> str | None:
    """The secret in ``local.key``, if there is one and it is whole."""
    try:
        kept = (data_dir / LOCAL_FILE).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return kept if well_formed(kept) else None


def keep_local(data_dir: Path, secret: str) -> None:
    """Make ``secret`` the local key's."""
    locate.write_private(locate.prepare(data_dir) / LOCAL_FILE, f"{secret}\n")


def is_local(data_dir: Path, secret: str) -> bool:
    """Whether ``secret`` is what ``local.key`` holds now, compared in constant time.

    Read anew at each question, so that a rotated local key is known at once; whether it still lives is for
    the caller to check, as with any key.
    """
    kept = read_local(data_dir)
    return kept is not None and hmac.compare_digest(digest(kept), digest(secret))
