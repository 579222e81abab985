"""What one attempt had an engine compute: counters that whoever shares out joules looks at now and then.

An attempt that was never heard is noted when it ends, with that moment for its first word: how far the engine had
read by then nobody told.
"""

from __future__ import annotations


class Computed:
    """One attempt from its first word on. Times are monotonic seconds; tokens by the engine's own count.

    ``decoded_before`` are the tokens that earlier attempts had delivered; ``decoded_tokens``, once it ended, those
    of this one. ``told_prompt`` and ``told_tokens`` are whoever's who looks: what was looked at already.
    """

    __slots__ = ("asked_at", "cached_tokens", "decoded_before", "decoded_tokens", "ended_at", "failed", "heard_at",
                 "number", "prompt_tokens", "replica", "told_prompt", "told_tokens")  # fmt: skip

    def __init__(self, number: int, replica: str, asked_at: float, heard_at: float) -> None:
        self.number = number
        self.replica = replica
        self.asked_at = asked_at
        self.heard_at = heard_at
        self.ended_at: float | None = None
        self.failed = False
        self.prompt_tokens = self.cached_tokens = 0
        self.decoded_before = self.decoded_tokens = 0
        self.told_prompt = False
        self.told_tokens = 0

    def end(self, at: float, produced_tokens: int, *, failed: bool) -> None:
        """Nothing more comes of it; ``produced_tokens`` are those of all attempts. Only the first time counts."""
        if self.ended_at is None:
            self.decoded_tokens = self.decoded_by_now(produced_tokens)
            self.ended_at, self.failed = at, failed

    def decoded_by_now(self, produced_tokens: int) -> int:
        """Tokens decoded in this attempt so far."""
        if self.ended_at is not None:
            return self.decoded_tokens
        return max(0, produced_tokens - self.decoded_before)
