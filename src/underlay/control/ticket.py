"""One request on the desk, from its admission to its end. It decides nothing; it is what the rooms pass on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from underlay.domain.answer import Usage
from underlay.domain.keys import Key
from underlay.domain.policy import ModelPolicy

from .events import Arrived
from .fleet import Lease, Replica
from .lifecycles import TICKET, step
from .metering import Tariff
from .routing.policy import Ask

if TYPE_CHECKING:
    from .accounts import Holding, Reservation
    from .model_desk import ModelDesk


_NOTHING = Usage()


class Ticket(Ask):
    """A request with everything it holds: a reservation, and a lease for each attempt that runs.

    ``lease`` is of the attempt that counts, ``rival`` of a hedge beside it. ``cost`` is its expected work in
    weighted tokens, ``served_tokens`` the part of its answer that fairness has been told of. ``tried`` names
    replicas that failed it; it is not dispatched before ``not_before``, nor without a part of the retry budget if
    it ``owes_retry``, and waits until ``until``.
    """

    # "prompt_tokens" and "chain" of the base are filled in once its model has sized it up
    held: Reservation  # from its admission on

    __slots__ = (
        "arrived",
        "attempts",
        "band",
        "cost",
        "cut",
        "held",
        "holding",
        "key",
        "lease",
        "model",
        "name",
        "not_before",
        "owes_retry",
        "policy",
        "rival",
        "seen",
        "served_tokens",
        "since",
        "state",
        "tariff",
        "tenant",
        "tried",
        "until",
        "usage",
    )

    def __init__(
        self,
        arrived: Arrived,
        key: Key,
        policy: ModelPolicy,
        tariff: Tariff,
        model: ModelDesk,
        holding: Holding,
        band: int,
    ) -> None:
        self.at = self.since = self.until = arrived.at  # not by the base: a call takes as long as the rest
        self.strands = arrived.strands
        self.session = arrived.session
        self.prompt_tokens = 0
        self.chain = []
        self.arrived = arrived
        self.name = arrived.ticket
        self.key = key
        self.tenant = key.tenant
        self.policy = policy
        self.tariff = tariff
        self.model = model
        self.holding = holding
        self.band = band
        self.cost = 0.0
        self.state = "arrived"
        self.attempts = 0
        self.lease: Lease | None = None
        self.rival: Lease | None = None
        self.tried: set[str] = set()
        self.not_before = 0.0
        self.owes_retry = False
        self.seen = False  # the caller has been sent some of the answer
        self.cut = False
        self.usage = _NOTHING
        self.served_tokens = 0

    def step(self, happening: str) -> None:
        """Take a step of the life-cycle; raises ``AssertionError`` where the table has no such step."""
        self.state = step(TICKET, self.state, happening)

    @property
    def replica(self) -> Replica | None:
        """Whose lease it holds, of the attempt that counts."""
        return self.lease.replica if self.lease is not None else None

    def leases(self) -> list[Lease]:
        """All leases it holds."""
        return [lease for lease in (self.lease, self.rival) if lease is not None]
