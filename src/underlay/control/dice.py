"""Dice that a seed loads: the same seed throws the same numbers, on every machine and in every version.

The standard library's generator is not for decisions (it would let a clock or the system's entropy in); this is
SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
"""

from __future__ import annotations

_MASK = (1 << 64) - 1


class Dice:
    """A stream of random numbers."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def next(self) -> int:
        """A number of 64 random bits."""
        self._state = state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return state ^ (state >> 31)

    def below(self, count: int) -> int:
        """A number from 0 to ``count`` - 1; the unevenness is below 2**-32 for any fleet there is."""
        return self.next() % count

    def share(self) -> float:
        """A number from 0 to 1, without 1."""
        return (self.next() >> 11) * 2.0**-53
