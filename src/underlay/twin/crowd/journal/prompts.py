"""What do recorded prompts have in common? Links for modelled caches, from the digests of a journal.

A journal has a digest for each 128 bytes of a prompt's beginning; caches count in tokens. How many tokens a byte
is, and how many a template puts before everything, comes from the model's own prompts (``survey.Words``). A link
stands for tokens that lie wholly within equal digests, so prompts share no more than they did. What answers say is
in no journal: the next turn finds in a cache what was asked before, and not what was answered.
"""

from __future__ import annotations

from math import ceil

from underlay.twin.crowd.links import after, chain, mix, start_of

from .survey import Words

#: As ``live.gateway.blocks`` has it; journals of one format have one size.
BLOCK_BYTES = 128


class Linker:
    """Links of a model's prompts, each for ``link_tokens``."""

    __slots__ = ("_link_tokens", "_model", "_opening", "_ratio", "_starts")

    def __init__(self, model: str, words: Words, link_tokens: int) -> None:
        self._model = model
        self._link_tokens = link_tokens
        self._opening = words.opening_tokens
        self._ratio = words.tokens_per_byte * BLOCK_BYTES  # tokens of a block
        self._starts: dict[tuple[str, int], tuple[tuple[int, ...], int]] = {}

    def links(self, blocks: tuple[int, ...], prompt_tokens: int, tenant: str, copy: int = 0) -> tuple[int, ...]:
        """The links of a prompt. Tenants share none, nor do copies of a call; the template's all share."""
        opening, start = self._start(tenant, copy)
        held = chain(start, blocks)
        links = []
        for number in range(len(opening) + 1, prompt_tokens // self._link_tokens + 1):
            place = ceil((number * self._link_tokens - self._opening) / self._ratio)
            if place > len(held):
                break
            links.append(mix(held[place - 1], number))  # a block may be longer than a link
        return (*opening, *links)

    def _start(self, tenant: str, copy: int) -> tuple[tuple[int, ...], int]:
        known = self._starts.get((tenant, copy))
        if known is None:
            begin = start_of("template", self._model)
            opening = chain(begin, range(int(self._opening // self._link_tokens)))
            known = self._starts[tenant, copy] = (opening, after(mix(start_of("journal", tenant), copy), 0))
        return known
