"""Who is asking, and may they use this model?

Decided from the digests of the credentials that a request carried and the keys the desk was told of. It
refuses to know secrets: only their SHA-256 comes this far, and a 256-bit random secret cannot be found from
it. Looking a digest up in a table leaks nothing that helps to guess one, but the last word is compared in
constant time all the same.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from math import inf

from underlay.domain.errors import Forbidden, Unauthenticated
from underlay.domain.keys import Key

_WHERE = "send it as 'Authorization: Bearer ul_…' (or x-api-key, x-goog-api-key)"


def identify(keys: Mapping[str, Key], digests: tuple[str, ...], at: float) -> Key:
    """Return the one valid key among the offered ones.

    Several credentials may be present, often a dummy beside the real one, so all are looked at. Two different
    valid keys are refused: we will not choose who pays. Raises ``Unauthenticated``.
    """
    if len(digests) == 1:  # nearly always
        one = keys.get(digests[0])
        if one is not None and hmac.compare_digest(one.digest, digests[0]) and _expired(one, at) is None:
            return one
    known = [key for digest in digests if (key := keys.get(digest)) and hmac.compare_digest(key.digest, digest)]
    valid = [key for key in known if _expired(key, at) is None]
    if len(valid) == 1:
        return valid[0]
    if valid:
        raise Unauthenticated("two different valid keys were sent; send one")
    if known:
        raise Unauthenticated(f"this key {_expired(known[0], at)}; make or rotate one with 'underlay keys'")
    raise Unauthenticated(f"no valid API key was sent; {_WHERE}")


def _expired(key: Key, at: float) -> str | None:
    if key.revoked_s is not None and at >= key.revoked_s:
        return "was revoked"
    if key.expires_s is not None and at >= key.expires_s:
        return "has expired"
    return None


def ends_at(key: Key) -> float:
    """From when on a key will be refused; infinite if nothing is planned."""
    return min(inf if end is None else end for end in (key.revoked_s, key.expires_s))


def permit(key: Key, model: str) -> None:
    """Raise ``Forbidden`` if the key may not use this model."""
    if key.models and model not in key.models:
        allowed = ", ".join(key.models)
        raise Forbidden(f"this key may not use model '{model}'; it may use: {allowed}", param="model")
