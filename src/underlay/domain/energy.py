"""What a request took, and what a host's meters counted, as journeys, replies and stores are told it."""

from __future__ import annotations

from msgspec import Struct

from underlay.domain.figures import Figure


class RequestEnergy(Struct, frozen=True):
    """The joules of a request, all its attempts together, and what they make in grams, millilitres and money.

    ``joules`` is ``None`` while nothing of it is known; ``provisional`` until the window of its end is closed.
    ``uncertainty_joules`` is to either side, ``None`` if nobody knows; ``method`` measured, calibrated, modelled
    or assumed; ``accounts`` what of it was on which account; ``unmetered_s`` how long it ran while a meter was
    silent, which is in no joules.

    Joules are those of the servers' meters, so that the ledger adds up to these. What feeds and cools the servers
    is the account ``overhead``, on top: ``joules`` is the sum of all other accounts, and without a PUE there is no
    such account. Grams, millilitres and money have it in them once, where it is known.

    ``carbon`` has ``location``, ``market`` and ``marginal``, of joules and of what cools and feeds them, and
    ``embodied`` apart from these; ``water`` has ``on_site`` and ``off_site``; ``cost`` what it cost us, in USD:
    ``accelerator``, ``electricity``, ``overhead``; ``margin`` is the price charged less all three, ``None`` unless
    all are known; ``beside`` joules that no meter here counted or that are nobody's (``network``,
    ``idle_provisioned``): told beside the sum, never in it. What nobody published or stated is not there.
    """

    status: str
    joules: float | None = None
    uncertainty_joules: float | None = None
    method: str = ""
    meter: str = ""
    boundary: str = ""
    accounts: dict[str, float] = {}
    unmetered_s: float = 0.0
    carbon: dict[str, Figure] = {}
    water: dict[str, Figure] = {}
    cost: dict[str, Figure] = {}
    beside: dict[str, Figure] = {}
    margin: Figure | None = None


class Booked(Struct, frozen=True):
    """What a host's meters counted in windows closed since the last ``Booked``, by account. Unix seconds, joules.

    ``metered_joules`` is the sum of ``accounts``, where ``open`` has what became of requests that are not settled
    yet: more by what they took, less by what is settled. ``overhead`` is on top of the meters, so not in here.
    """

    begin_s: float
    end_s: float
    region: str
    meter: str
    method: str
    metered_joules: float
    accounts: dict[str, float]
