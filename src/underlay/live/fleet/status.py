"""A replica as its fleet sees it, and the states it goes through."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

State = Literal["starting", "ready", "draining", "drained", "lost", "stopped"]
Happening = Literal["answered", "failed", "restarted", "drain", "restored", "retired", "stopped"]

#: state -> what happens -> next state; anything else is a defect of the fleet.
LIFE: dict[State, dict[Happening, State]] = {
    "starting": {"answered": "ready", "failed": "lost", "retired": "drained", "stopped": "stopped"},
    "ready": {"failed": "lost", "drain": "draining", "stopped": "stopped"},
    "draining": {"failed": "lost", "restored": "ready", "retired": "drained", "stopped": "stopped"},
    "drained": {"restarted": "starting", "stopped": "stopped"},
    "lost": {"restarted": "starting", "retired": "drained", "stopped": "stopped"},
    "stopped": {"stopped": "stopped"},
}


class ReplicaStatus(Struct):
    """One replica. ``name`` is ``model/number``; ``address`` is empty until it is known.

    ``generation`` rises with every start (of a server that is not ours: every time it comes back), so that a
    late word about an earlier life is not mistaken for one about this. ``why`` is the reason of the last loss.
    ``cache_tokens`` is how many tokens its prefix cache holds (0: unknown).
    ``started_at`` is a monotonic time in seconds; gauges are the engine's own, by their own names.
    """

    name: str
    model: str
    engine: str
    slots: int
    address: tuple[str, int] = ("", 0)
    pid: int | None = None
    state: State = "starting"
    generation: int = 0
    restarts: int = 0
    resident_mb: float | None = None
    started_at: float = 0.0
    why: str = ""
    gauges: dict[str, float] = {}
    cache_tokens: int = 0

    def step(self, happening: Happening) -> None:
        """Go to the next state."""
        self.state = LIFE[self.state][happening]
