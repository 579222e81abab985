"""Keys for a platform that runs: put into its store, as the command line does it from another process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from underlay.domain.keys import Key
from underlay.live import keyring
from underlay.live.store import Store


class Made(NamedTuple):
    """A key and its secret."""

    id: str
    tenant: str
    secret: str


def make_key(data_dir: Path, tenant: str, **more: Any) -> Made:
    """Make a key with any limits, budgets, user or band. A running platform knows it within half a second."""
    secret = keyring.mint()
    key = Key(
        id=f"key_{keyring.digest(secret)[:12]}",
        digest=keyring.digest(secret),
        tenant=tenant,
        prefix=keyring.prefix(secret),
        created_s=time.time(),
        **more,
    )
    with Store(data_dir) as store:
        store.put_key(key)
    return Made(key.id, tenant, secret)


def wait_known(platform: Any, *keys: Made, limit_s: float = 5.0) -> None:
    """Wait until the platform lets these keys in."""
    until = time.monotonic() + limit_s
    for key in keys:
        while platform.ask("GET", "/v1/models", key=key.secret).status != 200:
            assert time.monotonic() < until, f"{key.id} is not known"
            time.sleep(0.05)
