"""Memory in slots: each holds one request at a time and keeps its tokens for whoever begins alike (llama.cpp).

There is nothing to run out of, so nobody is preempted: whoever has a slot has all of its context. Not modelled: a
context that slots share, and the store of prompts beside them in the host's memory (cache-ram).
"""

from __future__ import annotations

from .request import Request
from .rules import SlotRules


class SlotMemory:
    """The slots of one replica."""

    __slots__ = (
        "_contents",
        "_idle",
        "_link",
        "_opened",
        "_opening",
        "_similarity",
        "capacity_tokens",
        "findable",
        "room_blocks",
        "tries_again",
    )

    def __init__(self, rules: SlotRules) -> None:
        self.room_blocks = 1 << 60  # who has a slot has room
        self.tries_again = False
        self.findable = True  # a slot keeps what was in it
        self.capacity_tokens = 1 << 60  # whatever a slot cannot hold the engine has cut before
        self._link = rules.link_tokens
        self._opening = rules.opening_tokens
        self._opened = [0] * rules.slots  # what a slot holds of the opening
        self._similarity = rules.similarity
        self._contents: list[tuple[int, ...]] = [()] * rules.slots
        #: Idle slots, the one that was idle longest first.
        self._idle: dict[int, None] = dict.fromkeys(range(rules.slots))

    def steps(self, wanted: int) -> int:
        """How many steps, up to ``wanted``, the decoding sequences can take."""
        return wanted

    def admit(self, request: Request, left_tokens: int) -> int:  # noqa: ARG002 -- as memory in blocks is asked
        """Nobody beyond those who were given a slot."""
        return 0

    def assign(self, request: Request) -> bool:
        """Give a request the slot that suits it best, if any is idle."""
        idle = self._idle
        if not idle:
            return False
        slot, common = next(iter(idle)), 0
        if request.links:
            for other in idle:
                shared = _common_links(self._contents[other], request.links)
                if shared > common:
                    slot, common = other, shared
            if common * self._link <= self._similarity * request.prompt_tokens:
                slot = next(iter(idle))
                common = _common_links(self._contents[slot], request.links)
        del idle[slot]
        request.slot = slot
        known = max(common * self._link, self._opened[slot])
        request.computed = request.cached_tokens = min(known, request.prompt_tokens - 1)
        return True

    def exhausted(self) -> None:
        """Never: there is nothing to run out of."""
        raise AssertionError("a slot has room for all that it was given to")

    def extend(self, request: Request, tokens: int) -> bool:
        """Compute the next ``tokens`` of a prompt."""
        request.computed += tokens
        return True

    def joins(self, request: Request) -> None:
        """A prompt is computed; its slot is its own as before."""

    def leaves(self, request: Request, preempted: bool = False) -> None:
        """Leave a slot, and in it what was computed."""
        assert not preempted, "a slot is never taken away"
        self._opened[request.slot] = min(request.computed, self._opening)
        self._contents[request.slot] = request.links[: request.computed // self._link]
        self._idle[request.slot] = None

    def abandons(self, request: Request, preempted: bool = False) -> None:
        """Leave a slot before the prompt is computed."""
        self.leaves(request, preempted)


def _common_links(held: tuple[int, ...], links: tuple[int, ...]) -> int:
    """How many links two chains begin with; as each stands for all before it, halving finds the last one."""
    low, high = 0, min(len(held), len(links))
    while low < high:
        middle = (low + high + 1) // 2
        if held[middle - 1] == links[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low
