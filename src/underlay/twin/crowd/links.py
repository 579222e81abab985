"""What do prompts have in common? Links: whole numbers, each standing for all tokens up to the end of its block.

Two calls share a beginning exactly as far as their links are equal. Numbers are below 2**63, the same on every
machine and in every process. What the tokens say is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_PRIME = (1 << 61) - 1


def after(link: int, block: int) -> int:
    """The link of a block that comes after ``link``.

    One step of a polynomial modulo 2**61 - 1 (Karp and Rabin's fingerprints), taken at a point without meaning: two
    chains of n blocks meet by chance about n times in 2**61. ``mix`` was five times as slow, and in traces with
    long prompts took longer than everything else; Python's own hash is not promised to stay what it is.
    """
    return (link * _GOLDEN + block) % _PRIME


def mix(one: int, other: int) -> int:
    """Two numbers stirred into one: whatever bit differs, half of all others do.

    SplitMix64's finisher (Steele, Lea and Flood, OOPSLA 2014, figure 16).
    """
    word = (one ^ (other * _GOLDEN)) & _MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
    return (word ^ (word >> 31)) >> 1


def start_of(*names: str) -> int:
    """Where the chains of these names (a tenant, an application) begin: whoever has others shares nothing."""
    told = blake2b(digest_size=8)
    for name in names:
        encoded = name.encode()
        told.update(len(encoded).to_bytes(8, "big") + encoded)
    return int.from_bytes(told.digest(), "big") >> 1


def chain(start: int, blocks: Iterable[int]) -> tuple[int, ...]:
    """One link for each block, each standing for all before it too."""
    link = start
    return tuple([link := (link * _GOLDEN + block) % _PRIME for block in blocks])  # after(), without its call


def shared_prefix(tenant: str, tokens: int, link_tokens: int) -> tuple[int, ...]:
    """The links of a tenant's system prompt: as many as fill whole blocks."""
    return chain(start_of("system prompt", tenant), range(tokens // link_tokens))
