"""What the platform must offer for the console to have something to show."""

from __future__ import annotations

from typing import Literal, Protocol

from underlay.domain.answer import ModelCard
from underlay.domain.views import Journey, LedgerRow, PlatformRow, ReplicaRow

LedgerGroup = Literal["request", "tenant", "key", "model", "region", "day"]


class Views(Protocol):
    """The platform as the console sees it.

    Every method is an ordinary function that returns finished records quickly and may be called from any
    thread at any time, also while the platform starts, drains or has every budget spent.
    """

    def platform(self) -> PlatformRow:
        """Describe the platform in one line."""

    def replicas(self) -> list[ReplicaRow]:
        """List every replica, in a stable order, also those that are starting or lost."""

    def drain(self, replica: str, *, drain: bool) -> ReplicaRow:
        """Take a replica out of service, or put it back; returns what became of it so far.

        It gets nothing new, and what runs on it finishes or moves on. Raises ``NotFound``.
        """

    def journey(self, request_id: str) -> Journey | None:
        """Find the journey of one request, running or over; ``None`` if unknown."""

    def journeys(self, limit: int, before: float | None) -> list[Journey]:
        """List at most ``limit`` journeys, latest first; with ``before`` only those with ``at_s < before``."""

    def ledger(self, group: LedgerGroup) -> list[LedgerRow]:
        """List charges and energy: each request's own (latest first), or sums by tenant, key, model, region or day.

        In a sum the fields that differ within the group are empty strings. Sums are followed by what of the energy
        is nobody's, by ``account``, so that all joules together are what the meters counted.
        """

    def ready(self) -> tuple[bool, list[str]]:
        """Tell whether a prompt would be let in now, and in words what stands in its way."""

    def metrics(self) -> tuple[bytes, str]:
        """Render the metrics in Prometheus text, and their content type."""

    def models(self) -> list[ModelCard]:
        """List the models that callers can name."""

    def public_url(self) -> str:
        """Tell where the generation APIs listen: scheme, host and port, without a path."""

    def authorised(self, secret: str) -> str | None:
        """Find the id of the key with this secret if it may use the console, else ``None``."""

    def session_key(self) -> str:
        """Give a short-lived secret that may generate.

        For the chat page, which asks at every load and again after a 401. Asking often must be cheap: the
        same one may be given until it is about to expire.
        """
