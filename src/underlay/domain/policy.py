"""The settings that decisions are made by: what ``control.desk.assemble`` takes and a journal begins with.

The user's file (cli and live read it) is larger; this is the part that changes what the desk decides.
"""

from __future__ import annotations

from msgspec import Struct

from underlay.domain.keys import Limits
from underlay.domain.money import Price


class ModelPolicy(Struct, frozen=True):
    """A model that callers may name: its context in tokens, its price, and whether it embeds."""

    name: str
    context_tokens: int = 8192
    price: Price = Price()
    operations: tuple[str, ...] = ("chat", "completion", "count")


class DeskSettings(Struct, frozen=True):
    """Everything the desk's decisions depend on besides events.

    ``waiting_max`` bounds the queue, ``wait_max_s`` the time in it; ``attempts_max`` how many replicas one
    request may be given to; ``strikes_max`` how many failures in a row make a replica suspect, and
    ``suspect_s`` for how long it is then left alone.
    """

    models: tuple[ModelPolicy, ...] = ()
    default_limits: Limits = Limits()
    routing: str = "least_loaded"
    waiting_max: int = 1024
    wait_max_s: float = 120.0
    attempts_max: int = 3
    strikes_max: int = 3
    suspect_s: float = 10.0
    strands_max: int = 8
    seed: int = 0
