"""One request on the desk, from its admission to its end, and what it has in common with others of its caller.

It decides nothing; it is what the rooms pass on.
"""

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
_NOBODY: frozenset[str] = frozenset()


class Standing:
    """How a caller stands with a model: what all requests of one key to one model, in one band, have in common.

    Kept, as asking identity, accounts and the callers' desk anew took a fifth of a request's time; it holds until
    a key or the settings change, or until its key ends by itself (``until``). ``band`` is an index into the
    settings' bands, ``why`` says why it is let in, ``root`` is where its prompts' chains start (``prefixes``).
    """

    __slots__ = ("band", "band_name", "holding", "key", "model", "policy", "root", "tariff", "until", "why")

    def __init__(
        self,
        key: Key,
        until: float,
        policy: ModelPolicy,
        tariff: Tariff,
        model: ModelDesk,
        holding: Holding,
        band: tuple[int, str],
    ) -> None:
        self.key = key
        self.until = until
        self.policy = policy
        self.tariff = tariff
        self.model = model
        self.holding = holding
        self.band, self.band_name = band
        self.root = model.root_of(key.tenant, policy.template)
        self.why = f"key {key.id} of {key.tenant}, within its limits; band {self.band_name}"


class Ticket(Ask):
    """A request with everything it holds: a reservation, and a lease for each attempt that runs.

    ``lease`` is of the attempt that counts, ``rival`` of a hedge beside it. ``cost`` is its expected work in
    weighted tokens, ``served_tokens`` the part of its answer that fairness has been told of. ``tried`` names
    replicas that failed it; it is not dispatched before ``not_before``, nor without a part of the retry budget if
    it ``owes_retry``, and waits until ``until``. One that can wait for a better hour begins at ``latest_at`` at the
    latest, and is given up at ``given_up_at`` (0: it cannot wait).
    """

    # "prompt_tokens" and "chain" of the base, and "cost", are filled in once its model has sized it up
    cost: float
    held: Reservation  # from its admission on

    __slots__ = (
        "arrived",
        "attempts",
        "band",
        "cost",
        "cut",
        "given_up_at",
        "held",
        "holding",
        "key",
        "latest_at",
        "lease",
        "model",
        "name",
        "not_before",
        "owes_retry",
        "rival",
        "seen",
        "served_tokens",
        "since",
        "standing",
        "state",
        "tenant",
        "tried",
        "until",
        "usage",
    )

    def __init__(self, arrived: Arrived, standing: Standing) -> None:
        self.at = self.since = self.until = arrived.at  # not by the base: a call takes as long as the rest
        self.strands = arrived.strands
        self.session = arrived.session
        self.arrived = arrived
        self.name = arrived.ticket
        self.standing = standing
        self.key = key = standing.key
        self.tenant = key.tenant
        self.model = standing.model
        self.holding = standing.holding
        self.band = standing.band
        self.state = "arrived"
        self.lease: Lease | None = None
        self.rival: Lease | None = None
        self.attempts = self.served_tokens = 0
        self.tried = _NOBODY
        self.not_before = self.latest_at = self.given_up_at = 0.0
        self.owes_retry = self.cut = False
        self.seen = False  # the caller has been sent some of the answer
        self.usage = _NOTHING

    def lease_of(self, attempt: int) -> Lease | None:
        """The lease of an attempt, if that still counts; late words of dead attempts do not."""
        lease = self.lease
        if lease is None or lease.attempt == attempt:
            return lease
        rival = self.rival
        return rival if rival is not None and rival.attempt == attempt else None

    def step(self, happening: str) -> None:
        """Take a step of the life-cycle; raises ``AssertionError`` where the table has no such step."""
        try:
            self.state = TICKET[self.state][happening]
        except KeyError:
            step(TICKET, self.state, happening)  # says what is wrong

    @property
    def put_off(self) -> bool:
        """Whether it stands aside for a better hour."""
        return self.latest_at > 0.0 and self.not_before > 0.0 and not self.attempts and self.state == "waiting"

    @property
    def replica(self) -> Replica | None:
        """Whose lease it holds, of the attempt that counts."""
        return self.lease.replica if self.lease is not None else None

    def leases(self) -> list[Lease]:
        """All leases it holds."""
        return [lease for lease in (self.lease, self.rival) if lease is not None]
