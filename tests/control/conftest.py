"""The core is told the time and handed its dice: whoever asks the world for them from inside it is caught."""

from __future__ import annotations

import builtins
import io
import os
import random
import secrets
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

CORE = ("underlay.control", "underlay.domain")
CLOCKS = [
    *((time, name) for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")),
    *((time, name) for name in ("process_time", "thread_time", "gmtime", "localtime", "sleep")),
]
DICE = [
    *((random, name) for name in ("random", "randint", "randrange", "choice", "shuffle", "uniform", "getrandbits")),
    *((secrets, name) for name in ("token_bytes", "token_hex", "token_urlsafe", "randbits", "choice")),
    *((uuid, name) for name in ("uuid1", "uuid4")),
    (os, "urandom"),
]
DOORS = [(builtins, "open"), (io, "open"), (os, "open"), (socket.socket, "__init__"), (socket, "create_connection")]


class TouchedTheWorldError(AssertionError):
    """Code of the core asked for a clock, dice, a file or a socket."""


def _in_the_core() -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(CORE):
            return True
        frame = frame.f_back
    return False


def _guarded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def guard(*args: Any, **kwargs: Any) -> Any:
        if _in_the_core():
            raise TouchedTheWorldError(f"{name} was called while a decision was made")
        return real(*args, **kwargs)

    return guard


@pytest.fixture(autouse=True, scope="package")
def _no_world() -> Iterator[None]:
    """Contracts see imports and ruff sees calls; this sees what a dependency does behind both."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in CLOCKS + DICE + DOORS:
            real = getattr(owner, name)
            patch.setattr(owner, name, _guarded(f"{owner.__name__}.{name}", real))
        yield
