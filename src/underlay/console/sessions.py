"""Browser sessions: a random cookie stands for a key, so that the page need not keep the key."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from threading import Lock

SESSION_S = 12 * 3600.0
SESSIONS_MAX = 256


class Sessions:
    """Sessions in memory: bounded in number and in time, gone when the process ends.

    A session remembers the key's secret and not its id, so that each use asks the platform again and a
    revoked key ends its sessions at once. Cookies are kept as digests, so looking one up compares nothing
    that an attacker could learn from by timing.
    """

    def __init__(
        self, clock: Callable[[], float], *, seconds: float = SESSION_S, count: int = SESSIONS_MAX
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._count = count
        self._open: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._open)

    def start(self, secret: str) -> str:
        """Open a session for the key with this secret; returns the cookie. The oldest makes room."""
        cookie = secrets.token_urlsafe(32)
        with self._lock:
            self._open[_digest(cookie)] = (secret, self._clock() + self._seconds)
            while len(self._open) > self._count:
                self._open.popitem(last=False)
        return cookie

    def secret(self, cookie: str) -> str | None:
        """Look up the secret behind a cookie while its session lasts."""
        with self._lock:
            secret, expires = self._open.get(_digest(cookie), ("", 0.0))
            if secret and expires <= self._clock():
                del self._open[_digest(cookie)]
                return None
        return secret or None

    def end(self, cookie: str) -> None:
        """Close a session; closing an unknown one is no error."""
        with self._lock:
            self._open.pop(_digest(cookie), None)


def _digest(cookie: str) -> bytes:
    return sha256(cookie.encode("utf-8", "surrogateescape")).digest()
