"""The sequences that decode together, kept as sums: nothing here is touched once per token or per sequence.

A step of the batch makes every sequence one token longer, so the number of steps says how long each is now. Where a
sequence stands within its last KV block, relative to the number of steps, never changes while it decodes: counts by
that *phase* tell how many blocks are held at any step without a look at any sequence.
"""

from __future__ import annotations

from heapq import heappop, heappush

from .request import Request


class Batch:
    """``sequences`` decoding together, with ``context_tokens`` in the KV cache, after ``step`` steps."""

    __slots__ = ("block_tokens", "context_tokens", "ends", "phases", "sequences", "step")

    def __init__(self, block_tokens: int = 1) -> None:
        self.block_tokens = block_tokens
        self.sequences = 0
        self.context_tokens = 0
        self.step = 0
        self.phases = [0] * block_tokens
        #: When who ends; an entry counts only while the request still names its step.
        self.ends: list[tuple[int, int, Request]] = []

    def join(self, request: Request) -> None:
        """A prompt is computed and its first token out: it decodes from the next step on."""
        step = self.step
        tokens = request.computed
        self.sequences += 1
        self.context_tokens += tokens
        self.phases[(tokens - step) % self.block_tokens] += 1
        request.joined_step = step
        request.ends_step = ends_step = step + request.goal - request.produced
        heappush(self.ends, (ends_step, request.rank, request))

    def leave(self, request: Request) -> None:
        """A sequence ends, is cancelled or preempted; its counts are brought up to now."""
        joined = request.joined_step
        steps = self.step - joined
        self.phases[(request.computed - joined) % self.block_tokens] -= 1
        request.computed = tokens = request.computed + steps
        request.produced += steps
        request.joined_step = request.ends_step = -1
        self.sequences -= 1
        self.context_tokens -= tokens

    def steps_to_end(self) -> int:
        """How many steps until the next sequence has all its tokens; there must be one."""
        ends = self.ends
        while ends[0][2].ends_step != ends[0][0]:
            heappop(ends)
        return ends[0][0] - self.step

    def blocks(self, further_steps: int = 0) -> int:
        """How many KV blocks the sequences fill that many steps from now, each its own."""
        size = self.block_tokens
        step = self.step + further_steps
        short = sum(count * (-(phase + step) % size) for phase, count in enumerate(self.phases) if count)
        return (self.context_tokens + further_steps * self.sequences + short) // size

    def steps_within(self, free_blocks: int) -> int:
        """How many steps the sequences can take with that many blocks more."""
        size = self.block_tokens
        rounds, left = divmod(free_blocks, self.sequences)  # in as many steps as a block has, everybody takes one
        steps = rounds * size
        while True:  # at most one round, as all together would take more than what is left
            left -= self.phases[-(self.step + steps) % size]
            if left < 0:
                return steps
            steps += 1
