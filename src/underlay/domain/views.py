"""What people are shown: the same records behind the console's pages, its JSON and the command line."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from underlay.domain.answer import Usage
from underlay.domain.energy import RequestEnergy
from underlay.domain.figures import Figure


class Hop(Struct, frozen=True):
    """One step of a journey. ``start_ms`` counts from the arrival of the request's first byte.

    ``attempt`` is which asking of an engine it was; ``joules`` what engine and host took in it, known once the
    request is settled; ``None`` in hops where nothing is computed, and where nothing is metered.
    """

    name: str
    start_ms: float
    duration_ms: float
    who: str = ""
    why: str = ""
    tokens: int | None = None
    attempt: int | None = None
    joules: float | None = None


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


class EnergyRecord(Struct, frozen=True, tag_field="object", tag="request.energy"):
    """What a caller is told of the energy of its own request; see ``RequestEnergy``.

    ``status`` is ``provisional`` or ``settled``, ``created`` Unix time in whole seconds, ``price_usd`` what the
    caller pays, as an exact decimal string. What it cost us, and so the margin, is nobody's business but ours.
    """

    id: str
    created: int
    model: str
    price_usd: str
    status: str
    joules: float | None
    uncertainty_joules: float | None
    method: str | None
    meter: str | None
    boundary: str | None
    accounts: dict[str, float]
    unmetered_s: float
    carbon: dict[str, Figure]
    water: dict[str, Figure]
    beside: dict[str, Figure]


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


class LedgerEnergy(Struct, frozen=True):
    """What a request or a group of them took, or an account that is nobody's. Joules by the meters, without PUE.

    ``requests`` is how many of a group were metered; ``figures`` what is known for all of these: grams,
    millilitres and joules told beside, by the ledger's columns (``carbon_location_g``, ``overhead_joules``, …);
    ``own_cost_usd`` what they cost us by part, as far as known; ``margin_usd`` what is left of what was charged
    for them, ``None`` unless all of their cost is known. Money is exact decimal text.
    """

    joules: float
    method: str
    requests: int = 0
    accounts: dict[str, float] = {}
    figures: dict[str, float] = {}
    own_cost_usd: dict[str, str] = {}
    margin_usd: str | None = None


class LedgerRow(Struct, frozen=True):
    """One charge, or a sum of charges over a group; with ``account`` what of the energy is nobody's.

    ``energy`` is ``None`` where nothing was metered, or is not settled yet.
    """

    request_id: str
    at_s: float
    tenant: str
    key_id: str
    model: str
    outcome: str
    usage: Usage
    cost_pico_usd: int
    region: str = ""
    day: str = ""
    account: str = ""
    energy: LedgerEnergy | None = None


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
