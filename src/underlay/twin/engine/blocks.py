"""KV memory in blocks, and the prefixes that stay in it until somebody needs the room (vLLM's block pool).

A block is held by sequences or free. Free blocks keep what was computed in them and are taken from the head of
one queue; what is given up goes to its tail, the end of a sequence before its beginning. So the queue is the order
of eviction, and a prompt that begins like something in it takes it back. The queue is brought up to date only when
somebody looks: as blocks are always taken from its head and given to its tail, it is enough to know *how many* are
held.

A prefix is known by links (see ``Request``), held, found and evicted whole: finer links make it exact to the block.
Two requests that compute the same prefix at the same time share one copy here; vLLM keeps both until one ends.
"""

from __future__ import annotations

from collections import OrderedDict

from .batch import Batch
from .request import Request
from .rules import PagedRules


class _Gone:
    """Marks free blocks with nothing in them that anybody could find again."""

    __slots__ = ()


class BlockMemory:
    """The blocks of one replica. ``batch`` tells what the decoding sequences hold; the rest is reckoned here."""

    __slots__ = ("_batch", "_block", "_caching", "_link", "_link_blocks", "_pins", "_queue",
                 "_queued", "_reserves", "_total", "capacity_tokens", "findable", "room_blocks",
                 "tries_again")  # fmt: skip

    def __init__(self, rules: PagedRules, batch: Batch) -> None:
        self._batch = batch
        self._total = rules.blocks
        self._block = rules.block_tokens
        self._link = rules.link_tokens
        self._link_blocks = rules.link_tokens // rules.block_tokens
        self._caching = rules.prefix_caching
        self._reserves = rules.reserves_prompt
        #: Blocks for the decoding sequences: all but those of prompts being computed, and as links that several
        #: hold are one copy, one more for each further holder.
        self.room_blocks = rules.blocks
        #: May who was not let in find room before anybody ends? Who loses a cached beginning asks for less.
        self.tries_again = False
        #: Could anything free be found again? Until somebody comes with links, what is given up is not counted.
        self.findable = False
        #: Whoever needs more could never be computed, even alone.
        self.capacity_tokens = rules.blocks * rules.block_tokens
        self._pins: dict[int, int] = {}
        #: Free blocks that hold something, next to be taken first: by link, by preempted request, or gone for good.
        self._queue: OrderedDict[object, int] = OrderedDict()
        self._queue[_Gone()] = self._queued = rules.blocks

    @property
    def held_blocks(self) -> int:
        """How many blocks are in use now."""
        return self._batch.blocks() + self._total - self.room_blocks

    def steps(self, wanted: int) -> int:
        """How many steps, up to ``wanted``, the decoding sequences can take before blocks run out."""
        batch = self._batch
        size = self._block
        most = batch.context_tokens + (wanted + size - 1) * batch.sequences
        if most <= (self.room_blocks) * size:
            return wanted
        return min(wanted, batch.steps_within(self.room_blocks - batch.blocks()))

    def admit(self, request: Request, left_tokens: int) -> int:
        """Let a request in if there is room for its prompt, beside one step of everybody who decodes.

        Without a reserve for the whole prompt, room for a first chunk of ``left_tokens`` is enough. Returns how
        many tokens the first chunk has, for which blocks are taken; 0 if there is no room.
        """
        tokens = request.prompt_tokens + request.produced
        if self._caching and (request.links or request.preemptions):
            return self._admit_with_prefix(request, tokens, left_tokens)
        size = self._block
        chunk = min(tokens, left_tokens)
        batch = self._batch
        free = self.room_blocks + -(tokens if self._reserves else chunk) // size
        if batch.context_tokens + size * batch.sequences > free * size and batch.blocks(1) > free:
            return 0
        request.computed = chunk
        self.room_blocks += -chunk // size
        return chunk

    def extend(self, request: Request, tokens: int) -> bool:
        """Take blocks for the next ``tokens`` of a prompt begun before, if there are enough."""
        size = self._block
        before = request.computed
        free = self.room_blocks - (-(-(before + tokens) // size) - -(-before // size))
        batch = self._batch
        if batch.context_tokens + size * batch.sequences > free * size and batch.blocks(1) > free:
            return False
        request.computed = after = before + tokens
        if self._caching and request.links:
            self._name(request, after // self._link, self._batch.blocks(1))
        self.room_blocks += -(-before // size) + -after // size
        return True

    def joins(self, request: Request) -> None:
        """A prompt is computed: from here on the batch counts its blocks."""
        self.room_blocks += -(-request.computed // self._block)

    def leaves(self, request: Request, preempted: bool = False) -> None:
        """Give up what a request holds (the batch counts it no more), its end first."""
        if preempted and self._caching:
            self._start_finding()
        if not self.findable:
            return
        computed = request.computed
        if request.links:
            # What it computed since its prompt, for whoever goes on from there. Who is preempted leaves when those
            # who decode have taken their blocks for the next step.
            upto = computed // self._link
            if upto > request.held_links < len(request.links):
                self._name(request, upto, self._batch.blocks(int(preempted)) + -(-computed // self._block))
        own = -(-computed // self._block) - request.held_links * self._link_blocks
        if own:
            self._give_up_own(request, own, preempted)
        if request.held_links:
            self._give_up_links(request)

    def abandons(self, request: Request, preempted: bool = False) -> None:
        """Give up the blocks of a prompt that was still being computed."""
        self.room_blocks += -(-request.computed // self._block)
        self.leaves(request, preempted)

    def exhausted(self) -> None:
        """Those who decode took every free block, and some still need one: nothing free can be found again."""
        if self.findable:
            self._queue.clear()
            if self._queued > 0:
                self._queue[_Gone()] = self._queued

    def check(self) -> None:
        """Verify what must hold at any boundary; raises ``AssertionError``."""
        held = self.held_blocks
        assert 0 <= held <= self._total, f"{held} of {self._total} blocks held"
        assert self._queued == sum(self._queue.values()), "the queue of free blocks holds what it says"
        assert all(holders > 0 for holders in self._pins.values()), "whatever is held has a holder"
        assert not any(link in self._queue for link in self._pins), "nothing is both held and free"
        assert len(self._pins) * self._link_blocks <= held, "held links lie in held blocks"

    def _admit_with_prefix(self, request: Request, tokens: int, left_tokens: int) -> int:
        """The same for one that may find its beginning in the cache. At least its last token is always computed."""
        if not self.findable:
            self._start_finding()
        used = self._batch.blocks(1)
        if self._queued > self.room_blocks - used:
            self._settle(used)
        size = self._block
        links = request.links
        found, asleep = self._found_links(links, min((tokens - 1) // self._link, len(links)))
        own = self._found_own(request, found, tokens) if request.preemptions else 0
        cached = found * self._link_blocks + own
        wanted = tokens if self._reserves else min(tokens, cached * size + left_tokens)
        self.tries_again = cached > 0 and not self._reserves
        if used + own + asleep * self._link_blocks - cached > self.room_blocks + -wanted // size:
            return 0
        if not request.preemptions:
            request.cached_tokens = cached * size
        elif request in self._queue:
            self._wake_own(request, own)
        chunk = min(left_tokens, tokens - cached * size)
        request.computed = computed = cached * size + chunk
        self._hold_links(request, computed // self._link)
        self.room_blocks += -computed // size
        return chunk

    def _start_finding(self) -> None:
        """From here on free blocks are counted by what is in them; in those there are now nothing can be found."""
        if not self.findable:
            self.findable = True
            self._queued = self._total
            self._queue[next(iter(self._queue))] = self._total

    def _found_links(self, links: tuple[int, ...], at_most: int) -> tuple[int, int]:
        """How many links from the beginning are in memory, and how many of them are not in use."""
        pins = self._pins
        queue = self._queue
        asleep = 0
        for found in range(at_most):
            link = links[found]
            if link in queue:
                asleep += 1
            elif link not in pins:
                return found, asleep
        return at_most, asleep

    def _found_own(self, request: Request, found: int, tokens: int) -> int:
        """How many blocks of its own, after its links, a preempted request finds again."""
        if request not in self._queue or found < min(len(request.links), (tokens - 1) // self._link):
            return 0
        return min(self._queue[request], (tokens - 1) // self._block - found * self._link_blocks)

    def _wake_own(self, request: Request, own: int) -> None:
        """Take a preempted request's blocks out of the queue; what it cannot use is the first to be taken."""
        rest = self._queue.pop(request) - own
        self._queued -= own
        if rest:
            self._put_first(_Gone(), rest)

    def _name(self, request: Request, upto: int, used: int) -> None:
        """Hold the links of what was computed now, with ``used`` blocks filled by the sequences."""
        pins = self._pins
        queue = self._queue
        for link in request.links[request.held_links : upto]:
            if link in pins or link in queue:  # there is a copy of it, if it was not taken since anybody looked
                self._settle(used)
                break
        self._hold_links(request, upto)

    def _hold_links(self, request: Request, upto: int) -> None:
        """Hold a request's links before ``upto``: what lies free is taken back, what others hold is shared."""
        pins = self._pins
        queue = self._queue
        new = request.links[request.held_links : upto]
        request.held_links += len(new)
        for link in new:
            if link in pins:
                pins[link] += 1
                self.room_blocks += self._link_blocks
            else:
                pins[link] = 1
                if link in queue:
                    del queue[link]
                    self._queued -= self._link_blocks

    def _give_up_links(self, request: Request) -> None:
        """Hold a request's links no more, from its end to its beginning."""
        pins = self._pins
        blocks = self._link_blocks
        for link in request.links[request.held_links - 1 :: -1]:
            holders = pins[link]
            if holders > 1:
                pins[link] = holders - 1
                self.room_blocks -= blocks
            else:
                del pins[link]
                self._queue[link] = blocks
                self._queued += blocks
        request.held_links = 0

    def _give_up_own(self, request: Request, blocks: int, preempted: bool) -> None:
        """Free the blocks that no link stands for. Only one who was preempted will find them again."""
        queue = self._queue
        self._queued += blocks
        if preempted:
            queue[request] = blocks
            return
        last = next(reversed(queue), None)
        if type(last) is _Gone:
            queue[last] += blocks
        else:
            queue[_Gone()] = blocks

    def _settle(self, used: int) -> None:
        """Take out of the queue what went to the sequences since anybody looked: ``used`` is what they fill."""
        excess = min(self._queued - (self.room_blocks - used), self._queued)
        if excess <= 0:
            return
        self._queued -= excess
        queue = self._queue
        while excess > 0:
            holding, blocks = queue.popitem(last=False)
            excess -= blocks
        if excess < 0:  # a link is lost as a whole, other blocks one by one
            self._put_first(_Gone() if isinstance(holding, int) else holding, -excess)

    def _put_first(self, holding: object, blocks: int) -> None:
        """Put blocks where they are taken next."""
        self._queue[holding] = blocks
        self._queue.move_to_end(holding, last=False)
