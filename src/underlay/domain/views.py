"""What people are shown: the same records behind the console's pages, its JSON and the command line."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from underlay.domain.answer import Usage
from underlay.domain.energy import RequestEnergy


class Hop(Struct, frozen=True):
    """One step of a journey. ``start_ms`` counts from the arrival of the request's first byte."""

    name: str
    start_ms: float
    duration_ms: float
    who: str = ""
    why: str = ""
    tokens: int | None = None


class Journey(Struct, frozen=True):
    """The biography of a request, without a word of its text.

    ``outcome`` is ``finished``, ``client_gone``, ``refused`` or ``failed``; ``status`` the HTTP status;
    ``at_s`` Unix time; ``money_usd`` an exact decimal string; ``attempts`` how many engines were asked;
    ``energy`` is ``None`` where nothing was computed, or nothing is metered.
    """

    id: str
    at_s: float
    dialect: str
    operation: str
    model: str
    tenant: str
    key_id: str
    outcome: str
    status: int
    usage: Usage
    money_usd: str
    duration_ms: float
    ttft_ms: float | None
    attempts: int
    hops: tuple[Hop, ...]
    trace_id: str = ""
    reason: str = ""
    ignored: tuple[str, ...] = ()
    energy: RequestEnergy | None = None


class ReplicaRow(Struct, frozen=True):
    """A replica as ``underlay ps`` shows it. Tokens per second is the engine's own last figure."""

    name: str
    model: str
    state: str
    engine: str
    address: str
    pid: int | None
    slots: int
    load: int
    restarts: int
    served: int
    resident_mb: float | None
    uptime_s: float
    why: str = ""
    gauges: dict[str, float] = {}


class LedgerRow(Struct, frozen=True):
    """One charge, or a sum of charges over a group."""

    request_id: str
    at_s: float
    tenant: str
    key_id: str
    model: str
    outcome: str
    usage: Usage
    cost_pico_usd: int


class PlatformRow(Struct, frozen=True):
    """The platform in one line: where it listens and what it has done since it started."""

    version: str
    pid: int
    public_url: str
    console_url: str
    uptime_s: float
    open_requests: int
    waiting: int
    ready: bool
    models: tuple[str, ...]
    totals: dict[str, Any] = {}
