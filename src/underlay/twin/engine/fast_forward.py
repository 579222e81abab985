"""Stretches of steps as arithmetic series: step j, from 0, takes ``first_s + j * growth_s``.

Plain functions, as a stretch is cut short for nearly every request: making a record of it would cost more than
solving its equation. ``first_s`` is above half of ``growth_s``, as each step of a batch reads what lies in its KV
cache already.
"""

from __future__ import annotations

from math import sqrt


def steps_to(first_s: float, growth_s: float, elapsed_s: float) -> int:
    """How many steps until ``elapsed_s`` is reached: the fewest, and at least 1, that take at least so long."""
    half = 0.5 * growth_s
    linear = first_s - half
    root = 2.0 * elapsed_s / (linear + sqrt(linear * linear + 4.0 * half * elapsed_s))
    steps = int(root)
    if 1e-6 < root - steps < 1.0 - 1e-6:
        return steps + 1
    # The root is exact but for rounding: its neighbours decide.
    while steps > 1 and (steps - 1) * (first_s + half * (steps - 2)) >= elapsed_s:
        steps -= 1
    while steps * (first_s + half * (steps - 1)) < elapsed_s:
        steps += 1
    return steps or 1


def steps_within(first_s: float, growth_s: float, elapsed_s: float) -> int:
    """How many whole steps fit into ``elapsed_s``."""
    if elapsed_s <= 0.0:
        return 0
    steps = steps_to(first_s, growth_s, elapsed_s)
    return steps if steps * (first_s + 0.5 * growth_s * (steps - 1)) <= elapsed_s else steps - 1
