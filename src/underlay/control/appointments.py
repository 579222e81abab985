"""Does an appointment still stand when its time has come?

Decided from the state of what it was made for: a ticket that has gone on, a replica that is well again, a model
whose line is empty were overtaken. Functions, not methods, as copies of a desk share them. Refused here: what is
done then.
"""

from __future__ import annotations

from .agenda import Holds
from .fleet import Replica
from .holding import Unsettled
from .model_desk import ModelDesk
from .ticket import Ticket


def _expires(ticket: Ticket, at: float) -> bool:
    return ticket.state == "waiting" and ticket.until == at


def _tries_again(ticket: Ticket, at: float) -> bool:
    return ticket.state == "waiting" and ticket.not_before == at


def _is_forgiven(replica: Replica, at: float) -> bool:
    return replica.state == "suspect" and replica.suspect_until == at


def _ramps(replica: Replica, _at: float) -> bool:
    return replica.state == "ready" and replica.ramp_from is not None


def _drains(replica: Replica, at: float) -> bool:
    return replica.state == "draining" and replica.drain_until == at


def _has_deadline(ticket: Ticket, _at: float) -> bool:
    return ticket.state == "running" and not ticket.seen


def _keeps_a_place(model: ModelDesk, at: float) -> bool:
    return model.line.size > 0 and model.kept_until == at


def _hedges(model: ModelDesk, at: float) -> bool:
    next_at = model.hedger.next_at()
    return next_at is not None and next_at <= at


def _waits_for_its_meter(kept: Unsettled, _at: float) -> bool:
    return kept.stands()


#: By kind; ``revoke`` is for whoever keeps the keys to say.
STAND: dict[str, Holds] = {
    "expire": _expires,
    "retry": _tries_again,
    "forgive": _is_forgiven,
    "ramp": _ramps,
    "drain": _drains,
    "deadline": _has_deadline,
    "guest": _keeps_a_place,
    "hedge": _hedges,
    "meter": _waits_for_its_meter,
}
