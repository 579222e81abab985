"""What the desk asks its driver to do, in this order, after the journal holds event and effects."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from underlay.domain.answer import Usage

Outcome = Literal["finished", "client_gone", "failed"]


class Effect(Struct, frozen=True, tag=True):
    """Base of all effects. Each is performed once; none may be skipped."""


class Admitted(Effect, frozen=True):
    """The ticket is let in under this key, in this band. Comes before its ``Dispatch`` or ``Hold``."""

    ticket: str
    key_id: str
    tenant: str
    why: str
    band: str = ""


class Dispatch(Effect, frozen=True):
    """Give the ticket to a replica, as attempt number ``attempt`` (from 1).

    With ``resume`` the engine goes on after what was delivered; without it the strands start afresh (then
    nothing of them had been delivered). The replica's lease is held from this moment. With ``beside`` it is a
    hedge: the attempt before it goes on, and the first to produce a token wins (the other gets a ``Cancel``).
    """

    ticket: str
    replica: str
    attempt: int
    resume: bool
    why: str
    beside: bool = False


class Hold(Effect, frozen=True):
    """The ticket waits at ``place`` (from 1) in its model's queue, at the longest until ``until``."""

    ticket: str
    place: int
    until: float
    why: str


class Replay(Effect, frozen=True):
    """Answer with what ``original`` was answered: the same request under the same idempotency key.

    Nothing is charged. Where the answer is not kept any more the driver says so (``conflict``).
    """

    ticket: str
    original: str
    why: str


class Refuse(Effect, frozen=True):
    """Answer with the error of this ``reason`` (``domain.errors``). The ticket is gone; nothing was charged."""

    ticket: str
    reason: str
    message: str
    why: str
    param: str | None = None
    retry_after_s: float | None = None


class Cancel(Effect, frozen=True):
    """Stop the attempt: destroy its connection so that the engine frees the slot. Its lease is released."""

    ticket: str
    replica: str
    attempt: int


class Cut(Effect, frozen=True):
    """End the caller's stream with this error, then report ``ClientGone`` with what was produced."""

    ticket: str
    reason: str
    message: str


class Charge(Effect, frozen=True):
    """Book this usage once under the ticket's id. It must be durable before ``Close`` is performed."""

    ticket: str
    key_id: str
    tenant: str
    model: str
    usage: Usage
    cost_pico_usd: int
    outcome: Outcome


class Close(Effect, frozen=True):
    """The ticket's life is over. On ``failed`` the caller gets the error of ``reason``, in-band if needed."""

    ticket: str
    outcome: Outcome
    why: str
    reason: str = ""
    message: str = ""


class Eject(Effect, frozen=True):
    """Leave this replica alone until then; it failed too often in a row."""

    replica: str
    until: float
    why: str


class Drained(Effect, frozen=True):
    """Nothing runs on this replica any more, and nothing new will: it may be stopped."""

    replica: str
    why: str


class Probe(Effect, frozen=True):
    """Ask this replica how busy it is, and report ``Probed``; no answer needs no report."""

    replica: str


class WakeAt(Effect, frozen=True):
    """Send a ``Tick`` at this time, or earlier."""

    at: float


AnyEffect = (
    Admitted | Dispatch | Hold | Replay | Refuse | Cancel | Cut | Charge | Close | Eject | Drained | Probe | WakeAt
)

Effects = list[AnyEffect]
