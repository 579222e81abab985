"""What can be done to replicas and sites from outside: the verbs that failures and faults act through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Target(Protocol):
    """Whoever has the replicas. All happens at ``at``, which is now; a replica it does not know is a KeyError.

    What is set by ``slow``, ``stick`` and ``fail_share`` holds until it is set again, also over a restart.
    """

    def replicas(self) -> Sequence[str]:
        """The names of all replicas there are, in a fixed order, whatever their state."""
        ...

    def kill(self, replica: str, at: float, cause: str) -> None:
        """It is gone with all that runs on it; one that is down already stays so. It may be starting: end that."""
        ...

    def restart(self, replica: str, at: float) -> None:
        """Its hardware is there: start it (cold); it is ready later. One that is up or starting is left alone."""
        ...

    def slow(self, replica: str, factor: float, at: float) -> None:
        """Its steps take ``factor`` times as long as they would (1: as they would); apart from any throttling."""
        ...

    def stick(self, replica: str, at: float, *, stuck: bool) -> None:
        """It takes requests and looks alive, but nothing comes of them; or it goes on where it was."""
        ...

    def fail_share(self, replica: str, share: float, at: float) -> None:
        """That share of the requests it takes from now on fails in it (0: none)."""
        ...

    def power(self, path: str, share: float, at: float) -> None:
        """That share of the power feeding a place is left (1: all of it)."""
        ...

    def cooling(self, path: str, share: float, at: float) -> None:
        """That share of the cooling of a place is left (1: all of it)."""
        ...

    def happened(self, at: float, text: str) -> None:
        """Something befell the world, for the report."""
        ...
