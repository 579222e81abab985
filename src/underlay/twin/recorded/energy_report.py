"""What is told of a recorded hour's joules: live beside the twin, by account and by request (``energy``)."""

from __future__ import annotations

from msgspec import Struct

from underlay.domain.figures import Method


class AccountDifference(Struct, frozen=True):
    """An account's joules of all requests that were compared; ``twin_joules`` None where nothing models it."""

    account: str
    live_joules: float
    twin_joules: float | None

    @property
    def share(self) -> float | None:
        """How far the twin is off, relative to live."""
        if self.twin_joules is None or not self.live_joules:
            return None
        return self.twin_joules / self.live_joules - 1.0


class RequestJoules(Struct, frozen=True):
    """One request: what it took live, and in the twin by coefficients that have not seen it."""

    ticket: str
    model: str
    live_joules: float
    twin_joules: float

    @property
    def off(self) -> float:
        """The relative error, without sign."""
        return abs(self.twin_joules / self.live_joules - 1.0)


class ModelJoules(Struct, frozen=True):
    """Joules by what a step holds (``ledger.step_energy``), for a model of the journal, and where they are from."""

    model: str
    step_j: float
    pflop_j: float
    token_j: float
    kv_gb_j: float
    method: Method
    source: str


class EnergyReport(Struct, frozen=True):
    """Live beside the twin. ``median_off`` and ``p90_off`` are relative errors of single requests, without sign.

    They and ``accounts`` are of the ``compared`` requests, each told by coefficients that were fitted without it;
    ``coefficients`` are of all of them. ``unsettled`` requests have no joules in the journal, ``unmatched`` ones
    took nothing in the twin or live.

    ``begin_s`` and ``end_s`` are the journal's, in Unix seconds. ``idle_joules`` are what its replicas drew in that
    time while they computed nothing, by the twin; None where no profile says what they draw idle.
    """

    path: str
    begin_s: float
    end_s: float
    idle_joules: float | None
    compared: int
    median_off: float
    p90_off: float
    accounts: tuple[AccountDifference, ...]
    coefficients: tuple[ModelJoules, ...]
    unsettled: int
    unmatched: int
    warnings: tuple[str, ...]
    requests: tuple[RequestJoules, ...]
