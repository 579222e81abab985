"""A request as the modelled world knows it, truths included that no decision may see."""

from __future__ import annotations

from typing import Any


class Request:
    """One generation, and what became of it.

    ``name`` is the driver's own handle. ``output_tokens`` is how long the answer would become, which only the twin
    knows. ``links`` are what prefix caches tell prompts apart by: a 64-bit integer for each ``link_tokens`` tokens
    (see the rules), standing for everything up to it; they may go on beyond the prompt, into the answer, for
    whoever asks next with both. A prompt that nobody shares needs none.

    Outcomes, in seconds of the engine's clock: ``first_token_at``, ``finished_at`` (``None`` until then),
    ``cached_tokens`` found when it was first let in, ``preemptions``, ``produced`` tokens when it left;
    where joules are divided (``shares``), its ``joules``, and those ``wasted_j`` on computing anew what was lost.
    """

    __slots__ = (
        "again_tokens",
        "arrived_at",
        "cached_tokens",
        "chunk",
        "computed",
        "finished_at",
        "first_token_at",
        "goal",
        "growth_j",
        "held_j",
        "held_links",
        "joined_step",
        "joules",
        "left",
        "links",
        "mark_j",
        "name",
        "output_tokens",
        "preemptions",
        "produced",
        "prompt_tokens",
        "rank",
        "slot",
        "wasted_j",
    )

    #: Set before they are read: prompt tokens in the promised step, and what ``shares`` keeps while it decodes.
    chunk: int
    held_j: float
    growth_j: float
    mark_j: float

    def __init__(self, name: Any, prompt_tokens: int, output_tokens: int, links: tuple[int, ...] = ()) -> None:
        self.name = name
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.links = links
        self.arrived_at = 0.0
        self.first_token_at: float | None = None
        self.finished_at: float | None = None
        self.cached_tokens = 0
        self.preemptions = 0
        # The engine's own: ``computed`` tokens lie in the KV cache and ``produced`` are out, both as of when it
        # joined the decoding batch (at ``joined_step``, -1 outside it); it ends with ``goal``.
        self.goal = output_tokens
        self.computed = 0
        self.produced = 0
        self.joined_step = -1
        self.held_links = 0
        self.rank = -1  # the order of letting in
        self.slot = -1
        self.left = False
        self.joules = self.wasted_j = 0.0
        self.again_tokens = 0  # that were computed before a preemption

    @property
    def prefill_tokens(self) -> int:
        """What must be computed before its next token: the prompt, and what a preemption threw away."""
        return self.prompt_tokens + self.produced

    def __repr__(self) -> str:
        return f"Request({self.name!r}, {self.prompt_tokens}+{self.output_tokens} tokens)"
