"""Who computes what in the next step? Tokens and memory only: how long it takes is not known here.

The rules are vLLM's (version 1), in its order:

1. everybody who decodes gets one token and, where its last block is full, a new one; if blocks run out, whoever
   came last loses all of its and waits again, before everybody else. In such a step nobody is let in;
2. prompts begun before get what is left of the step's tokens;
3. then waiting requests, in order, while there is room for their prompts and for sequences.

With slots (llama.cpp) all slots are filled first, and the step's tokens go to the prompts in the slots' order.

Nearly every prompt fits whole into the step that lets it in, so only prompts that do not are kept as begun.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter

from .batch import Batch
from .blocks import BlockMemory
from .request import Request
from .rules import PagedRules, SlotRules
from .shares import Shares, ShareWeights
from .slots import SlotMemory

_BY_SLOT = attrgetter("slot")


class Schedule:
    """The requests of one replica: who waits, who runs, whose prompts are begun, what the next step computes."""

    __slots__ = (
        "_begun",
        "_caching",
        "_chunks",
        "_gone",
        "_pairs",
        "_ranks",
        "_running",
        "_slots",
        "_tokens_max",
        "batch",
        "context_max",
        "max_sequences",
        "memory",
        "preemptions",
        "shares",
        "waiting",
    )

    def __init__(self, rules: PagedRules | SlotRules, weights: ShareWeights | None) -> None:
        self._running: dict[int, Request] = {}  # by rank, which is the order they were let in
        #: Whose joules those were, if anybody wants to know.
        self.shares = None if weights is None else Shares(weights, self._running)
        self.memory: BlockMemory | SlotMemory
        self._slots: SlotMemory | None = None
        if isinstance(rules, PagedRules):
            self.batch = Batch(self._running, rules.block_tokens)
            self.memory = BlockMemory(rules, self.batch)
            self.max_sequences = rules.max_sequences
            self.context_max = rules.context_tokens
        else:
            self.batch = Batch(self._running)
            self.memory = self._slots = SlotMemory(rules)
            self.max_sequences = rules.slots
            self.context_max = rules.slot_tokens
        self._caching = isinstance(rules, PagedRules) and rules.prefix_caching
        self._tokens_max = rules.step_tokens
        self.waiting: deque[Request] = deque()
        self._gone = 0  # cancelled ones among those who wait
        self._begun: list[Request] = []  # prompts that need further steps, in the order they are served
        self._chunks: list[Request] = []  # whose prompts the promised step computes, wholly or in part
        self._pairs = 0.0  # what the attention of these chunks looks at
        self._ranks = 0
        self.preemptions = 0

    @property
    def waiting_count(self) -> int:
        """How many wait to be let in."""
        return len(self.waiting) - self._gone

    @property
    def running_count(self) -> int:
        """How many decode or have their prompts computed."""
        return len(self._running)

    def _form_chunks(self, left: int, *, admits: bool) -> int:
        """Choose whose prompts the next step computes, with that many tokens left for them; returns how many."""
        if self._slots is not None:
            self._fill_slots(self._slots)
        budget = left
        self._pairs = 0.0
        if self._begun:
            left, whole = self._continue_begun(left)
            admits = admits and whole
        if not admits:
            return budget - left
        memory = self.memory
        waiting = self.waiting
        while left and waiting and len(self._running) < self.max_sequences:
            request = waiting[0]
            chunk = memory.admit(request, left)
            if chunk == 0:
                break
            self._let_in(request)
            request.chunk = chunk
            self._chunks.append(request)
            computed = request.computed
            if computed < request.prompt_tokens + request.produced:
                self._begun.append(request)
            left -= chunk
            self._pairs += chunk * (computed - 0.5 * chunk)
        return budget - left

    def _continue_begun(self, left: int) -> tuple[int, bool]:
        """Go on with prompts begun before: how many tokens are left, and was there room for all of them?"""
        begun = self._begun
        memory = self.memory
        whole = True
        for request in begun:
            before = request.computed
            chunk = min(left, request.prompt_tokens + request.produced - before)
            if chunk == 0:
                break
            if not memory.extend(request, chunk):
                self._preempt_last()
                whole = False
                break
            request.chunk = chunk
            self._chunks.append(request)
            left -= chunk
            self._pairs += chunk * (before + 0.5 * chunk)
        self._begun = [request for request in begun if request.computed < request.prompt_tokens + request.produced]
        return left, whole

    def _fill_slots(self, slots: SlotMemory) -> None:
        """Give every idle slot a request; prompts are computed in the order of the slots."""
        while self.waiting and slots.assign(self.waiting[0]):
            self._begun.append(self.waiting[0])
            self._let_in(self.waiting[0])
        self._begun.sort(key=_BY_SLOT)

    def _let_in(self, request: Request) -> None:
        """A waiting request runs from here on."""
        self.waiting.popleft()
        if self._gone:
            self._forget_gone()
        request.rank = rank = self._ranks
        self._ranks = rank + 1
        self._running[rank] = request

    def _forget_gone(self) -> bool:
        """Let nobody who has gone stand before those who wait; did somebody else come to the front?"""
        waiting = self.waiting
        if not waiting or not waiting[0].left:
            return False
        while waiting and waiting[0].left:
            waiting.popleft()
            self._gone -= 1
        return bool(waiting)

    def _take_out(self, request: Request, *, preempted: bool) -> None:
        """Take a running request out of wherever it is."""
        request.rank = -1
        if request.joined_step < 0:
            self._begun.remove(request)
            self.memory.abandons(request, preempted)
        else:
            if self.shares is not None:
                self.shares.leaves(request)
            self.batch.leave(request)
            self.memory.leaves(request, preempted)

    def _preempt(self) -> None:
        """Take the blocks of whoever came last, until everybody else who decodes can take a step."""
        self.memory.exhausted()
        while self.memory.steps(1) == 0:
            self._preempt_last()

    def _preempt_last(self) -> None:
        """Who came last loses what was computed, and waits before everybody else."""
        _, request = self._running.popitem()
        self._take_out(request, preempted=True)
        request.again_tokens = max(request.again_tokens, request.computed)
        request.computed = 0
        request.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(request)
