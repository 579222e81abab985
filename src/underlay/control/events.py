"""What may happen to the desk. Every event carries ``at``: seconds that never go back, told by the driver.

The live driver anchors ``at`` to Unix time when it starts and then counts with a monotonic clock, so that
expiry dates can be compared with it; the twin counts from zero.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from underlay.domain.answer import Timings, Usage
from underlay.domain.keys import Key
from underlay.domain.policy import DeskSettings
from underlay.domain.prompt import Operation

Failure = Literal["connect", "reset", "stall", "engine_error", "malformed", "rejected"]


class Event(Struct, frozen=True, tag=True):
    """Base of all events."""

    at: float


class Arrived(Event, frozen=True):
    """A whole, well-formed request is here.

    ``digests`` are the SHA-256 of every distinct well-formed credential it carried. ``prompt_bytes`` is the
    size of its text; ``deadline_s`` how long from ``at`` its caller waits; ``streaming`` whether the caller
    sees tokens as they come (then what was delivered cannot be taken back); ``resumable`` whether another
    engine could go on from the middle.

    ``blocks`` are keyed digests of the prompt's text, block by block from its beginning (64-bit integers; no
    text can be read from them), each of ``block_bytes`` bytes; ``session`` is one of the conversation (0: none
    was named). ``band`` is the class of urgency asked for (empty: the key's). ``idempotency`` are digests of
    the caller's idempotency key and of the whole request, empty where none was sent. ``defer_s`` is how long its
    answer may take where it can wait for a better hour (none: it cannot).
    """

    ticket: str
    digests: tuple[str, ...]
    model: str
    operation: Operation
    prompt_bytes: int
    max_tokens: int | None = None
    strands: int = 1
    streaming: bool = False
    resumable: bool = True
    deadline_s: float | None = None
    blocks: tuple[int, ...] = ()
    session: int = 0
    band: str = ""
    idempotency: tuple[str, str] = ("", "")
    defer_s: float | None = None


class FirstToken(Event, frozen=True):
    """The attempt's engine produced its first token; the prompt's tokens are known from here on."""

    ticket: str
    attempt: int
    prompt_tokens: int
    cached_tokens: int


class Progress(Event, frozen=True):
    """How many tokens all attempts of this ticket have produced together; sent now and then, not per token."""

    ticket: str
    completion_tokens: int


class Finished(Event, frozen=True):
    """Every strand ended because the engine said so. ``usage`` covers all attempts, the prompt once."""

    ticket: str
    attempt: int
    usage: Usage
    timings: Timings = Timings()


class AttemptFailed(Event, frozen=True):
    """The attempt's exchange with its engine broke, in the way ``failure`` says.

    ``rejected`` means that the engine refused the request as the caller's fault (``detail`` says why); the
    others are the engine's.
    """

    ticket: str
    attempt: int
    failure: Failure
    completion_tokens: int = 0
    detail: str = ""


class ClientGone(Event, frozen=True):
    """Nobody reads the answer any more: the caller left, or the driver had to cut it off.

    ``usage`` is what the engines produced by their own counters.
    """

    ticket: str
    usage: Usage


class ReplicaSeen(Event, frozen=True):
    """A replica is ready. ``generation`` rises with every start; ``slots`` is how many strands it works on.

    ``cache_tokens`` is how many tokens its prefix cache holds (0: unknown).
    """

    replica: str
    model: str
    slots: int
    generation: int = 0
    cache_tokens: int = 0


class ReplicaLost(Event, frozen=True):
    """A replica is gone, silent or without progress; ``cause`` is for people."""

    replica: str
    cause: str


class ReplicaDraining(Event, frozen=True):
    """A replica is to be taken out of service (``drain``), or is wanted after all.

    It gets nothing new; what runs on it may finish until the desk's ``drain_s`` is over, then it moves on.
    """

    replica: str
    drain: bool = True


class Probed(Event, frozen=True):
    """A replica answered a ``Probe``: strands it works on and strands it lets wait, by its own count."""

    replica: str
    running: int
    waiting: int


class BudgetSpent(Event, frozen=True):
    """What an account used before this run began, in the period that began at ``since``. Told once each."""

    scope: str
    name: str
    period: str
    since: float
    pico_usd: int
    tokens: int
    joules: float = 0.0


class EnergySettled(Event, frozen=True):
    """What a request took by the meters, all its attempts together; told once, when it has been over for a while.

    ``joules`` and ``accounts`` are those of ``RequestEnergy``; ``usage`` is what its engines counted. The desk has
    mostly forgotten the ticket by then, so the event says whose it was.
    """

    ticket: str
    key_id: str
    tenant: str
    model: str
    joules: float
    accounts: dict[str, float] = {}
    usage: Usage = Usage()


class GridSeen(Event, frozen=True):
    """What electricity emits (grams of CO2e per kWh) and costs (USD per kWh) here, in each hour of the day, UTC.

    Empty where nobody knows; the last one told holds.
    """

    carbon_g_kwh: tuple[float, ...] = ()
    usd_kwh: tuple[float, ...] = ()


class KeyChanged(Event, frozen=True):
    """A key was made, changed or revoked."""

    key: Key


class SettingsChanged(Event, frozen=True):
    """New settings hold from now on."""

    settings: DeskSettings


class Tick(Event, frozen=True):
    """Time passed: look at what has expired."""


AnyEvent = (
    Arrived
    | FirstToken
    | Progress
    | Finished
    | AttemptFailed
    | ClientGone
    | ReplicaSeen
    | ReplicaLost
    | ReplicaDraining
    | Probed
    | BudgetSpent
    | EnergySettled
    | GridSeen
    | KeyChanged
    | SettingsChanged
    | Tick
)
