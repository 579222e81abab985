"""One replica of an engine: when is what computed?

Between two changes of the batch (somebody joins, ends, is preempted or goes) every step only decodes; together they
cost an arithmetic series: such a *stretch* is reckoned at once, however long. Steps with prompt tokens are taken
one by one, a few for each request. Who computes what in a step is for ``schedule`` to say.

A stretch is a promise: an arrival or a cancellation ends it at the boundary of the step that was running then.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf, nextafter, sqrt

from .batch import RANK_BITS, RANK_MASK
from .boundary import Boundaries, StepTimes, Watcher
from .fast_forward import steps_to, steps_within
from .request import Request
from .rules import PagedRules, SlotRules
from .shares import ShareWeights


class ModelledEngine(Boundaries):
    """An engine by its rules and its step times.

    A driver tells it what happens (``arrive``, ``cancel``, ``retime``; their times never go back) and calls
    ``advance``; what came of it lies in ``started`` (first tokens) and ``ended`` (last tokens, cancelled ones too),
    in order of time, for the driver to take out. ``next_at`` is when there is something to advance to.
    """

    __slots__ = ("_fitting_tokens", "_parts")

    def __init__(
        self,
        rules: PagedRules | SlotRules,
        times: StepTimes,
        watcher: Watcher | None = None,
        weights: ShareWeights | None = None,
    ) -> None:
        super().__init__(rules, times, watcher, weights)
        self._fitting_tokens = min(self.context_max, self.memory.capacity_tokens)
        #: What is looked at for each request, in one piece: taken apart it is at hand in a third of the time.
        self._parts = (self.batch, self.memory, self.batch.ends, self.batch.phases, self.batch.block_tokens,
                       self.waiting, self._running, self._chunks, watcher, self.shares)  # fmt: skip

    def arrive(self, at: float, request: Request) -> bool:
        """Take a request; ``False`` if it could never be computed, as real engines refuse at the door."""
        if self.next_at < at:
            self._catch_up(at)
        prompt = request.prompt_tokens
        if not (prompt > 0 < request.goal <= self._fitting_tokens - prompt or self._is_made_fit(request)):
            return False
        request.arrived_at = at
        if self._steps > 1:
            if not self.waiting and len(self._running) < self.max_sequences:
                self._cut(at)
        elif self.next_at == inf:
            self.next_at = self._begun_at = at  # a boundary after no steps
        self.waiting.append(request)
        return True

    def cancel(self, at: float, request: Request) -> None:
        """Nobody wants the answer any more: a waiting request goes at once, a running one after the step."""
        if self.next_at < at:
            self._catch_up(at)
        if request.left:
            return
        request.left = True
        if request.rank in self._running:
            self._leaving.append(request)
            self._calm = False
            self._cut(at)
        else:
            self._gone += 1
            self.ended.append(request)
            if self._forget_gone():  # who is at the front now may find room at the next boundary
                self._cut(at)

    def retime(self, at: float, times: StepTimes) -> None:
        """From the next step on, steps take other times (a throttled clock, a repaired link)."""
        if self.next_at < at:
            self._catch_up(at)
        if self.next_at == inf:
            self._use(times)
        else:
            self._retimed = times
            self._calm = False
            self._cut(at)

    def advance(self, until: float) -> None:
        """Do all that is over by ``until``. What happens at ``until`` itself must have been told before."""
        self._catch_up(nextafter(until, inf))

    def produced(self, request: Request, at: float) -> int:
        """How many tokens a request has produced by ``at``, which lies between the last event and ``next_at``."""
        if request.joined_step < 0 or request.rank not in self._running:
            return request.produced
        done = self.batch.step - request.joined_step
        if self._steps:
            done += min(steps_within(self._first_s, self._growth_s, at - self._begun_at), self._steps)
        return request.produced + done

    def under_way(self, at: float) -> tuple[float, int, int]:
        """What its watcher has not been told yet: seconds of it by ``at``, its sequences and prompt tokens."""
        if not self._steps:
            return 0.0, 0, 0
        return min(at, self.next_at) - self._begun_at, self.batch.sequences, self._prefill_tokens

    def break_off(self, at: float, joules: float) -> list[Request]:
        """Nothing more is computed: who runs has its part of the ``joules`` drawn since the last end of steps.

        Returns all who ran, in the order they were let in; the step that is cut counts as a whole one.
        """
        running = list(self._running.values())
        shares, batch = self.shares, self.batch
        if shares is not None:
            if self._steps:
                whole = steps_within(self._first_s, self._growth_s, at - self._begun_at)
                steps = min(whole + 1, self._steps)
                shares.stretch(joules, batch.step, steps, batch.sequences, self._chunks)
            for request in running:
                if request.joined_step >= 0:
                    shares.leaves(request)
        self._steps = 0
        self.next_at = inf
        return running

    def _is_made_fit(self, request: Request) -> bool:
        """Let an answer end where the context does; could the request be computed then, alone?"""
        prompt = request.prompt_tokens
        request.goal = goal = min(request.goal, self.context_max - prompt)
        return goal > 0 < prompt and prompt + goal <= self.memory.capacity_tokens

    def _cut(self, at: float) -> None:
        """End a stretch with the step that is running at ``at``."""
        if self._steps > 1:
            first_s, growth_s, begun_at = self._first_s, self._growth_s, self._begun_at
            # The first root of the arithmetic series; written out, as ``steps_to`` says, unless rounding matters.
            linear_s, elapsed_s = first_s - 0.5 * growth_s, at - begun_at
            root = 2.0 * elapsed_s / (linear_s + sqrt(linear_s * linear_s + 2.0 * growth_s * elapsed_s))
            steps = int(root) + 1
            if not 1e-6 < steps - root < 1.0 - 1e-6:
                steps = steps_to(first_s, growth_s, elapsed_s)
            if steps < self._steps:
                self._steps = steps
                self.next_at = begun_at + steps * (first_s + growth_s * 0.5 * (steps - 1))

    def _catch_up(self, at: float) -> None:  # noqa: C901, PLR0912, PLR0915 -- called for each request, see below
        """Do all that was over before ``at``; a boundary at ``at`` itself waits for what else happens then.

        While nothing rare comes up (nobody is cancelled, no clock throttled, no prompt computed in parts, no memory
        scarce) this is ``_boundary`` with all that it calls written out and its sums in local names: 715 bytecodes
        and 4 calls for each request in place of 1,180 and 17, half the time. What it cannot do it leaves to
        ``_boundary`` or ``_plan``, with everything as those would find it.
        """
        while self.next_at < at:
            if not self._calm:
                self._boundary(self.next_at)
                continue
            batch, memory, ends, phases, size, waiting, running, chunks, watcher, shares = self._parts
            step, sequences, context = batch.step, batch.sequences, batch.context_tokens
            room = memory.room_blocks
            begun_at, steps, now = self._begun_at, self._steps, self.next_at
            first_s, growth_s, prefill = self._first_s, self._growth_s, self._prefill_tokens
            ends_step = ends[0] >> RANK_BITS
            stuck = False
            while now < at:
                if watcher is not None and steps:
                    joules = watcher(begun_at, steps, first_s, growth_s, sequences, prefill)
                    if shares is not None:
                        shares.stretch(joules, step, steps, sequences, chunks)
                step += steps
                context += steps * sequences
                if chunks:
                    for request in chunks:
                        tokens = request.computed
                        room -= -tokens // size
                        request.produced = produced = request.produced + 1
                        request.joined_step = step
                        if produced == 1:
                            request.first_token_at = now
                            self.started.append(request)
                        sequences += 1
                        context += tokens
                        if phases:
                            phases[(tokens - step) % size] += 1
                        heappush(ends, step + request.goal - produced << RANK_BITS | request.rank)
                        if shares is not None:
                            shares.joins(request, step)
                    chunks.clear()
                    ends_step = ends[0] >> RANK_BITS
                while ends_step <= step:
                    rank = heappop(ends) & RANK_MASK
                    ends_step = ends[0] >> RANK_BITS
                    if rank not in running:  # it was cancelled or preempted
                        continue
                    request = running.pop(rank)
                    if shares is not None:
                        shares.leaves(request)
                    request.produced = goal = request.goal
                    tokens = request.prompt_tokens + goal - 1
                    if phases:
                        phases[(tokens - step) % size] -= 1
                    sequences -= 1
                    context -= tokens
                    if memory.findable:
                        batch.step, batch.sequences, batch.context_tokens = step, sequences, context
                        memory.room_blocks = room
                        request.computed = tokens
                        memory.leaves(request)
                        room = memory.room_blocks
                    request.left = True
                    request.finished_at = now
                    self.ended.append(request)
                begun_at = now
                if waiting:
                    request = waiting[0]
                    tokens = request.prompt_tokens + request.produced
                    if (
                        len(waiting) > 1
                        or context + size * (sequences + 1) + tokens > room * size
                        or len(running) >= self.max_sequences
                    ):
                        stuck = True
                        break
                    chunk = self._tokens_max - sequences
                    if self._caching and (request.links or request.preemptions):
                        batch.step, batch.sequences, batch.context_tokens = step, sequences, context
                        memory.room_blocks = room
                        chunk = memory.admit(request, chunk)
                        room = memory.room_blocks
                        if not chunk:
                            stuck = True
                            break
                        computed = request.computed
                        pairs = chunk * (computed - 0.5 * chunk)
                    else:
                        computed = chunk = min(chunk, tokens)
                        request.computed = chunk
                        room += -chunk // size
                        pairs = 0.5 * chunk * chunk
                    waiting.popleft()
                    request.rank = rank = self._ranks
                    self._ranks = rank + 1
                    running[rank] = request
                    request.chunk = chunk
                    chunks.append(request)
                    first_s = self.times.mixed_step_s(chunk, sequences, context + sequences, pairs)
                    growth_s = 0.0
                    prefill = chunk
                    steps = 1
                    now += first_s
                    if computed < tokens:  # further steps are needed for the rest
                        self._begun.append(request)
                        self._calm = False
                        break
                elif sequences:
                    steps = ends_step - step
                    # No sequence can take more than that: nothing has to be counted.
                    if context + (steps + size) * sequences > room * size:
                        stuck = True
                        break
                    kv_token_s = self._kv_tokens_s[sequences]
                    first_s = self._batches_s[sequences] + kv_token_s * (context + sequences)
                    growth_s = kv_token_s * sequences
                    prefill = 0
                    now += steps * (first_s + growth_s * 0.5 * (steps - 1))
                else:
                    steps = 0
                    now = inf
            batch.step, batch.sequences, batch.context_tokens = step, sequences, context
            memory.room_blocks = room
            self._begun_at, self._steps, self.next_at = begun_at, steps, now
            self._first_s, self._growth_s, self._prefill_tokens = first_s, growth_s, prefill
            if stuck:
                self._plan()
