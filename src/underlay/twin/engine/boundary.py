"""What changes between two steps, and when is the next change?

At a *boundary* the promised steps are done: prompts are computed, sequences end, requests that were cancelled go.
Then the next steps are promised: one step, if it has prompt tokens in it, or a stretch of steps that only decode,
up to the next end of a sequence or of the memory. Which boundary is due is for ``engine`` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop
from math import inf
from typing import Protocol

from .batch import RANK_BITS, RANK_MASK
from .request import Request
from .rules import PagedRules, SlotRules
from .schedule import Schedule
from .shares import ShareWeights

#: What was computed: when it began, its steps, the time of the first and how much longer each next one takes,
#: the decoding sequences and the prompt tokens in it. It says how many joules that took.
Watcher = Callable[[float, int, float, float, int, int], float]


class StepTimes(Protocol):
    """What must be known of the time of steps: ``physics.step_time.StepCoefficients`` says what is meant by each.

    Whatever grows straight with the tokens in the KV cache will do: that is what makes a stretch a series.
    """

    def batches_s(self, sequences: int, /) -> Sequence[float]:
        """The part of a decode-only step that depends on the batch alone, for each batch up to that many."""
        ...

    def kv_tokens_s(self, sequences: int, /) -> Sequence[float]:
        """What each token in the KV cache costs in a decode-only step, for each batch up to that many."""
        ...

    def mixed_step_s(self, prefill_tokens: int, decode_sequences: int, kv_tokens: int, pairs: float, /) -> float:
        """The time of a step with prompt tokens."""
        ...


class Boundaries(Schedule):
    """A schedule in time: ``next_at`` is when the promised steps are done."""

    __slots__ = (
        "_batches_s",
        "_begun_at",
        "_calm",
        "_first_s",
        "_growth_s",
        "_kv_tokens_s",
        "_leaving",
        "_prefill_tokens",
        "_retimed",
        "_steps",
        "_watcher",
        "ended",
        "next_at",
        "started",
        "times",
    )

    def __init__(
        self,
        rules: PagedRules | SlotRules,
        times: StepTimes,
        watcher: Watcher | None,
        weights: ShareWeights | None,
    ) -> None:
        super().__init__(rules, weights)
        self._watcher = watcher
        self._use(times)
        self._retimed: StepTimes | None = None
        self.started: list[Request] = []
        self.ended: list[Request] = []
        self._leaving: list[Request] = []
        #: Nobody leaves, nothing is retimed, no prompt is begun: the next boundary is of the usual kind.
        self._calm = self._slots is None
        self.next_at = inf
        # The promise: steps begun when, how many, how long the first and how much longer each next.
        self._begun_at = 0.0
        self._steps = 0
        self._first_s = self._growth_s = 0.0
        self._prefill_tokens = 0

    def _use(self, times: StepTimes) -> None:
        """From now on steps take these times."""
        self.times = times
        self._batches_s = times.batches_s(self.max_sequences)
        self._kv_tokens_s = times.kv_tokens_s(self.max_sequences)

    def _boundary(self, at: float) -> None:
        """The promised steps are done: who is finished, and what comes next?"""
        steps = self._steps
        if steps:
            batch = self.batch
            if self._watcher is not None:
                joules = self._watcher(
                    self._begun_at, steps, self._first_s, self._growth_s, batch.sequences, self._prefill_tokens
                )
                if self.shares is not None:
                    self.shares.stretch(joules, batch.step, steps, batch.sequences, self._chunks)
            batch.step += steps
            batch.context_tokens += steps * batch.sequences
            if self._chunks:
                self._prompts_done(at)
            if self._leaving:
                self._let_go()
            self._finish(at)
        if self._retimed is not None:
            self._use(self._retimed)
            self._retimed = None
        self._begun_at = at
        self._plan()

    def _prompts_done(self, at: float) -> None:
        """Whoever's prompt was computed to its end has its first token, or the next one after a preemption."""
        for request in self._chunks:
            if request.computed < request.prompt_tokens + request.produced:
                continue
            self.memory.joins(request)
            request.produced += 1
            if request.first_token_at is None:
                request.first_token_at = at
                self.started.append(request)
            self.batch.join(request)
            if self.shares is not None:
                self.shares.joins(request, self.batch.step)
        self._chunks.clear()

    def _finish(self, at: float) -> None:
        """Let those go who have all their tokens."""
        batch = self.batch
        ends = batch.ends
        step = batch.step
        limit = (step + 1) << RANK_BITS
        running = self._running
        findable = self.memory.findable
        while ends[0] < limit:
            rank = heappop(ends) & RANK_MASK
            if rank not in running:  # it was cancelled or preempted
                continue
            request = running.pop(rank)
            if self.shares is not None:
                self.shares.leaves(request)
            batch.leave(request)
            if findable:
                self.memory.leaves(request)
            request.left = True
            request.finished_at = at
            self.ended.append(request)

    def _let_go(self) -> None:
        """Let cancelled ones go, finished or not."""
        for request in self._leaving:
            del self._running[request.rank]
            self._take_out(request, preempted=False)
            self.ended.append(request)
        self._leaving.clear()

    def _plan(self) -> None:
        """Decide the next steps, and promise when they are over."""
        batch = self.batch
        sequences = batch.sequences
        preempts = False
        steps = 0
        self._calm = self._slots is None
        if sequences:
            steps = (batch.ends[0] >> RANK_BITS) - batch.step
            memory = self.memory
            if (
                batch.context_tokens + (steps + batch.block_tokens) * sequences
                > memory.room_blocks * batch.block_tokens
            ):
                steps = memory.steps(steps)
                if steps == 0:
                    self._preempt()
                    preempts = True
                    steps = 1  # who was preempted tries again after that
                    sequences = batch.sequences
        if self._begun or (self.waiting and len(self._running) < self.max_sequences):
            preemptions = self.preemptions
            tokens = self._form_chunks(self._tokens_max - sequences, admits=not preempts)
            self._calm = not self._begun and self._slots is None
            if tokens:
                self._promise_mixed(sequences, tokens)
                return
            if self.preemptions != preemptions or self.memory.tries_again:
                steps = 1
        if sequences:
            self._promise_stretch(steps, sequences)
        else:
            assert not self.waiting, "an idle engine has room for any request that it took"
            self._steps = 0
            self.next_at = inf

    def _promise_stretch(self, steps: int, sequences: int) -> None:
        """Only decoding, for that many steps."""
        kv_token_s = self._kv_tokens_s[sequences]
        self._first_s = first_s = self._batches_s[sequences] + kv_token_s * (self.batch.context_tokens + sequences)
        self._growth_s = growth_s = kv_token_s * sequences
        self._prefill_tokens = 0
        self._steps = steps
        self.next_at = self._begun_at + steps * (first_s + growth_s * 0.5 * (steps - 1))

    def _promise_mixed(self, sequences: int, tokens: int) -> None:
        """One step with prompt tokens in it."""
        kv_tokens = self.batch.context_tokens + sequences
        self._first_s = first_s = self.times.mixed_step_s(tokens, sequences, kv_tokens, self._pairs)
        self._growth_s = 0.0
        self._prefill_tokens = tokens
        self._steps = 1
        self.next_at = self._begun_at + first_s
