"""One replica of an engine: what it computes in each step, and when the step is over.

Between two changes of the batch (somebody joins, ends, is preempted or goes) every step only decodes; together they
cost an arithmetic series: such a *stretch* is reckoned at once, however long. Steps with prompt tokens are taken
one by one, a few for each request. The rules are vLLM's (version 1), in its order:

1. everybody who decodes gets one token and, where its last block is full, a new one; if blocks run out, whoever
   came last loses all of its and waits again, before everybody else. In such a step nobody is let in;
2. a prompt begun before gets what is left of the step's tokens;
3. then waiting requests, in order, while there is room for their prompts and for sequences.

With slots (llama.cpp) all slots are filled first, and the step's tokens go to the prompts in the slots' order.

A stretch is a promise: an arrival or a cancellation ends it at the boundary of the step that was running then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop
from math import inf
from operator import attrgetter

from underlay.physics.step_time import StepCoefficients, Stretch

from .batch import Batch
from .blocks import BlockMemory
from .fast_forward import steps_to, stretch_s
from .request import Request
from .rules import PagedRules, SlotRules
from .slots import SlotMemory

#: What was computed: when it began, its steps, the time of the first and how much longer each next one takes,
#: the decoding sequences and the prompt tokens in it.
Watcher = Callable[[float, int, float, float, int, int], None]


class ModelledEngine:
    """An engine by its rules and its step times.

    A driver tells it what happens (``arrive``, ``cancel``, ``retime``; their times never go back) and calls
    ``advance``; what came of it lies in ``started`` (first tokens) and ``ended`` (last tokens, cancelled ones too),
    in order of time, for the driver to take out. ``next_at`` is when there is something to advance to.
    """

    __slots__ = (
        "_begun_at",
        "_chunks",
        "_first_s",
        "_gone",
        "_growth_s",
        "_leaving",
        "_partial",
        "_prefill_tokens",
        "_ranks",
        "_retimed",
        "_running",
        "_slotted",
        "_steps",
        "_tokens_max",
        "_watcher",
        "batch",
        "context_max",
        "ended",
        "max_sequences",
        "memory",
        "next_at",
        "preemptions",
        "started",
        "times",
        "waiting",
    )

    def __init__(
        self, rules: PagedRules | SlotRules, times: StepCoefficients, watcher: Watcher | None = None
    ) -> None:
        self.memory: BlockMemory | SlotMemory
        if isinstance(rules, PagedRules):
            self.batch = Batch(rules.block_tokens)
            self.memory = BlockMemory(rules, self.batch)
            self.max_sequences = rules.max_sequences
            self.context_max = rules.context_tokens
        else:
            self.batch = Batch()
            self.memory = SlotMemory(rules)
            self.max_sequences = rules.slots
            self.context_max = rules.slot_tokens
        self._slotted = isinstance(rules, SlotRules)
        self._tokens_max = rules.step_tokens
        self._watcher = watcher
        self.times = times
        self._retimed: StepCoefficients | None = None
        self.started: list[Request] = []
        self.ended: list[Request] = []
        self.waiting: deque[Request] = deque()
        self._gone = 0  # cancelled ones among those who wait
        self._running: dict[Request, None] = {}  # in the order they were let in
        self._partial: list[Request] = []  # prompts begun, in the order they are served
        self._ranks = 0
        self._leaving: list[Request] = []
        self.preemptions = 0
        self.next_at = inf
        # The promise: steps begun when, how many, how long the first and how much longer each next.
        self._begun_at = 0.0
        self._steps = 0
        self._first_s = self._growth_s = 0.0
        self._prefill_tokens = 0
        self._chunks: list[Request] = []

    @property
    def waiting_count(self) -> int:
        """How many wait to be let in."""
        return len(self.waiting) - self._gone

    @property
    def running_count(self) -> int:
        """How many decode or have their prompts computed."""
        return len(self._running)

    def arrive(self, at: float, request: Request) -> bool:
        """Take a request; ``False`` if it could never be computed, as real engines refuse at the door."""
        if self.next_at < at:
            self._catch_up(at)
        room = self.context_max - request.prompt_tokens
        request.goal = min(request.goal, room)  # the answer ends where the context does
        if request.goal < 1 or request.prompt_tokens < 1 or not self.memory.fits(request):
            return False
        request.arrived_at = at
        if self.next_at == inf:
            self._wake(at)
        elif self._steps > 1 and not self.waiting and len(self._running) < self.max_sequences:
            self._cut(at)
        self.waiting.append(request)
        return True

    def cancel(self, at: float, request: Request) -> None:
        """Nobody wants the answer any more: a waiting request goes at once, a running one after the step."""
        if self.next_at < at:
            self._catch_up(at)
        if request.left:
            return
        request.left = True
        if request in self._running:
            self._leaving.append(request)
            self._cut(at)
        else:
            self._gone += 1
            self.ended.append(request)
            self._forget_gone(at)

    def retime(self, at: float, times: StepCoefficients) -> None:
        """From the next step on, steps take other times (a throttled clock, a repaired link)."""
        if self.next_at < at:
            self._catch_up(at)
        if self.next_at == inf:
            self.times = times
        else:
            self._retimed = times
            self._cut(at)

    def advance(self, until: float) -> None:
        """Do all that is over by ``until``. What happens at ``until`` itself must have been told before."""
        while self.next_at <= until:
            self._boundary(self.next_at)

    def produced(self, request: Request, at: float) -> int:
        """How many tokens a request has produced by ``at``, which lies between the last event and ``next_at``."""
        if request.joined_step < 0:
            return request.produced
        done = self.batch.step - request.joined_step
        if self._steps:
            done += min(Stretch(self._first_s, self._growth_s).steps_within(at - self._begun_at), self._steps)
        return request.produced + done

    def _catch_up(self, at: float) -> None:
        """Do all that was over before ``at``; a boundary at ``at`` itself waits for what else happens then."""
        while self.next_at < at:
            self._boundary(self.next_at)

    def _wake(self, at: float) -> None:
        """There is nothing to compute yet, but at ``at`` there will be."""
        self.next_at = self._begun_at = at
        self._steps = 0

    def _cut(self, at: float) -> None:
        """End a stretch with the step that is running at ``at``."""
        if self._steps <= 1:
            return
        steps = steps_to(self._first_s, self._growth_s, at - self._begun_at)
        if steps < self._steps:
            self._steps = steps
            self.next_at = self._begun_at + stretch_s(self._first_s, self._growth_s, steps)

    def _boundary(self, at: float) -> None:
        """The promised steps are done: who is finished, and what comes next?"""
        steps = self._steps
        if steps:
            batch = self.batch
            if self._watcher is not None:
                self._watcher(
                    self._begun_at, steps, self._first_s, self._growth_s, batch.sequences, self._prefill_tokens
                )
            batch.step = step = batch.step + steps
            batch.context_tokens += steps * batch.sequences
            if self._chunks:
                self._prompts_done(at)
            if self._leaving:
                self._let_go()
            ends = batch.ends
            if ends and ends[0][0] <= step:
                self._finish(at)
        if self._retimed is not None:
            self.times, self._retimed = self._retimed, None
        self._plan(at)

    def _prompts_done(self, at: float) -> None:
        """Whoever's prompt was computed to its end has its first token, or the next one after a preemption."""
        for request in self._chunks:
            produced = request.produced
            if request.computed < request.prompt_tokens + produced:
                continue
            self.memory.joins(request)
            self._partial.remove(request)
            request.produced = produced + 1
            if request.first_token_at is None:
                request.first_token_at = at
                self.started.append(request)
            self.batch.join(request)
        self._chunks.clear()

    def _finish(self, at: float) -> None:
        """Let those go who have all their tokens."""
        batch = self.batch
        ends = batch.ends
        step = batch.step
        while ends and ends[0][0] <= step:
            ends_step, _, request = heappop(ends)
            if request.ends_step != ends_step:
                continue
            batch.leave(request)
            self.memory.leaves(request)
            del self._running[request]
            request.left = True
            request.finished_at = at
            self.ended.append(request)

    def _let_go(self) -> None:
        """Let cancelled ones go, finished or not."""
        for request in self._leaving:
            self._take_out(request, preempted=False)
            del self._running[request]
            self.ended.append(request)
        self._leaving.clear()

    def _take_out(self, request: Request, *, preempted: bool) -> None:
        """Take a running request out of wherever it is."""
        if request.joined_step < 0:
            self._partial.remove(request)
            self.memory.abandons(request, preempted)
        else:
            self.batch.leave(request)
            self.memory.leaves(request, preempted)

    def _plan(self, at: float) -> None:
        """Decide the next steps, and promise when they are over."""
        batch = self.batch
        self._begun_at = at
        sequences = batch.sequences
        preempts = False
        steps = 0
        if sequences:
            steps = batch.steps_to_end()
            memory = self.memory
            # No sequence can take more than that: most often nothing has to be counted.
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
        if self._partial or (self.waiting and len(self._running) < self.max_sequences):
            preemptions = self.preemptions
            if self._form_chunks(sequences, admits=not preempts):
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
        times = self.times
        self._first_s = first_s = times.decode_step_s(sequences, self.batch.context_tokens + sequences)
        self._growth_s = growth_s = times.decode_kv_token_s * sequences
        self._prefill_tokens = 0
        self._steps = steps
        self.next_at = self._begun_at + steps * (first_s + growth_s * 0.5 * (steps - 1))

    def _promise_mixed(self, sequences: int, tokens: int, pairs: float) -> None:
        """One step with prompt tokens in it."""
        self._first_s = first_s = self.times.step_s(tokens, sequences, self.batch.context_tokens + sequences, pairs)
        self._growth_s = 0.0
        self._prefill_tokens = tokens
        self._steps = 1
        self.next_at = self._begun_at + first_s

    def _form_chunks(self, sequences: int, *, admits: bool) -> bool:
        """Choose the prompt tokens of the next step; is there a promise now?"""
        left = budget = self._tokens_max - sequences
        pairs = 0.0
        memory = self.memory
        if self._slotted:
            self._fill_slots()
        for request in self._partial:
            before = request.computed
            chunk = min(left, request.prompt_tokens + request.produced - before)
            if chunk == 0:
                break
            if not memory.extend(request, chunk):
                self._preempt_last()
                admits = False
                break
            self._chunks.append(request)
            left -= chunk
            pairs += chunk * (before + 0.5 * chunk)
        waiting = self.waiting
        while admits and left and waiting and len(self._running) < self.max_sequences:
            request = waiting[0]
            if not memory.admit(request, left):
                break
            self._let_in(request)
            before = request.computed
            chunk = min(left, request.prompt_tokens + request.produced - before)
            memory.take(request, chunk)
            self._chunks.append(request)
            left -= chunk
            pairs += chunk * (before + 0.5 * chunk)
        if left == budget:
            return False
        self._promise_mixed(sequences, budget - left, pairs)
        return True

    def _fill_slots(self) -> None:
        """Give every idle slot a request; prompts are computed in the order of the slots."""
        while self.waiting and self.memory.admit(self.waiting[0], 0):
            self._let_in(self.waiting[0])
        self._partial.sort(key=attrgetter("slot"))

    def _let_in(self, request: Request) -> None:
        """A waiting request runs from here on."""
        self.waiting.popleft()
        if self._gone:
            self._forget_gone(self._begun_at)
        request.rank = self._ranks
        self._ranks += 1
        self._running[request] = None
        self._partial.append(request)

    def _forget_gone(self, at: float) -> None:
        """Let nobody who has gone stand before those who wait; the next one may find room at the next boundary."""
        waiting = self.waiting
        if not self._gone or not waiting or not waiting[0].left:
            return
        while waiting and waiting[0].left:
            waiting.popleft()
            self._gone -= 1
        if waiting:
            self._cut(at)

    def _preempt(self) -> None:
        """Take the blocks of whoever came last, until everybody else who decodes can take a step."""
        self.memory.exhausted()
        while self.memory.steps(1) == 0:
            self._preempt_last()

    def _preempt_last(self) -> None:
        """Who came last loses what was computed, and waits before everybody else."""
        request, _ = self._running.popitem()
        self._take_out(request, preempted=True)
        request.computed = 0
        request.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(request)
