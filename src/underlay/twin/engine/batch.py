"""The sequences that decode together, kept as sums: nothing here is touched once per token or per sequence.

A step of the batch makes every sequence one token longer, so the number of steps says how long each is now. Where a
sequence stands within its last KV block, relative to the number of steps, never changes while it decodes: counts by
that *phase* tell how many blocks are held at any step without a look at any sequence. They are kept from when they
are first asked for: while there is room for everybody nobody asks.
"""

from __future__ import annotations

from heapq import heappush
from operator import mul

from .request import Request

#: An end is one whole number, its step above and the rank of the request below: of all that a heap can hold, whole
#: numbers compare quickest (with tuples a request took 5 % longer).
RANK_BITS = 32
RANK_MASK = (1 << RANK_BITS) - 1
_NEVER = 1 << 2 * RANK_BITS


class Batch:
    """``sequences`` decoding together, with ``context_tokens`` in the KV cache, after ``step`` steps."""

    __slots__ = ("_running", "_short", "block_tokens", "context_tokens", "ends", "phases", "sequences", "step")

    def __init__(self, running: dict[int, Request], block_tokens: int = 1) -> None:
        self._running = running
        self.block_tokens = block_tokens
        self.sequences = 0
        self.context_tokens = 0
        self.step = 0
        #: How many sequences of each phase; empty before anybody asked.
        self.phases: list[int] = []
        #: By how much a sequence of each phase is short of a full block, at each step.
        self._short = [[-(phase + step) % block_tokens for phase in range(block_tokens)]
                       for step in range(block_tokens)]  # fmt: skip
        #: When who ends, and at the bottom nobody ever. Who was cancelled or preempted stays in it, but nobody runs
        #: by that rank any more.
        self.ends = [_NEVER]

    def join(self, request: Request) -> None:
        """A prompt is computed and its first token out: it decodes from the next step on."""
        step = self.step
        tokens = request.computed
        self.sequences += 1
        self.context_tokens += tokens
        if self.phases:
            self.phases[(tokens - step) % self.block_tokens] += 1
        request.joined_step = step
        heappush(self.ends, (step + request.goal - request.produced) << RANK_BITS | request.rank)

    def leave(self, request: Request) -> None:
        """A sequence ends, is cancelled or preempted; its counts are brought up to now."""
        steps = self.step - request.joined_step
        request.computed = tokens = request.computed + steps
        request.produced += steps
        request.joined_step = -1
        if self.phases:
            self.phases[(tokens - self.step) % self.block_tokens] -= 1
        self.sequences -= 1
        self.context_tokens -= tokens

    def blocks(self, further_steps: int = 0) -> int:
        """How many KV blocks the sequences fill that many steps from now, each its own."""
        if not self.phases:
            self._count()
        size = self.block_tokens
        short: int = sum(map(mul, self.phases, self._short[(self.step + further_steps) % size]))
        return (self.context_tokens + further_steps * self.sequences + short) // size

    def steps_within(self, free_blocks: int) -> int:
        """How many steps the sequences can take with that many blocks more, counted by ``blocks`` before."""
        size = self.block_tokens
        rounds, left = divmod(free_blocks, self.sequences)  # in as many steps as a block has, everybody takes one
        steps = rounds * size
        while True:  # at most one round, as all together would take more than what is left
            left -= self.phases[-(self.step + steps) % size]
            if left < 0:
                return steps
            steps += 1

    def _count(self) -> None:
        """From here on the phases are kept."""
        self.phases += [0] * self.block_tokens
        for request in self._running.values():
            if request.joined_step >= 0:
                self.phases[(request.computed - request.joined_step) % self.block_tokens] += 1
