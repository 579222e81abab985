"""Something broke: who is sick, and what becomes of the request?

Decided from how an attempt failed, what its caller has already seen, and how often was tried. A request whose
delivered part can be continued is; one of which nothing was seen starts afresh; one that is neither ends in a
visible error, never in a clean end. A replica that fails several times in a row is left alone for a while. It
refuses to know why a process died: the fleet finds out and restarts it.
"""

from __future__ import annotations

from typing import Literal

from underlay.domain.policy import DeskSettings

from .routing import Replica

Verdict = Literal["resume", "restart", "give_up"]

#: For people: what each failure means.
MEANING = {
    "connect": "refused the connection",
    "reset": "broke the connection",
    "stall": "produced nothing for too long",
    "engine_error": "answered with an error",
    "malformed": "sent something unreadable",
    "rejected": "rejected the request",
    "lost": "was lost",
}


def verdict(*, attempts: int, settings: DeskSettings, seen: bool, resumable: bool) -> tuple[Verdict, str]:
    """Say what becomes of a request whose attempt failed, and why.

    ``seen`` tells whether its caller has already been sent some of the answer.
    """
    if attempts >= settings.attempts_max:
        return "give_up", f"{attempts} replicas were tried, the most allowed"
    if not seen:
        return "restart", "nothing had been delivered, so it starts afresh"
    if resumable:
        return "resume", "it goes on from exactly what was delivered"
    return "give_up", "its constrained output cannot be continued from the middle"


def strike(replica: Replica, settings: DeskSettings, at: float) -> bool:
    """Count a failure against a replica; True if it must now be left alone until ``suspect_until``."""
    replica.strikes += 1
    if replica.strikes < settings.strikes_max or replica.state != "ready":
        return False
    replica.suspect_until = at + settings.suspect_s
    return True
