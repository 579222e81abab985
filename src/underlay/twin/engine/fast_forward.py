"""Stretches of steps as arithmetic series: step j, from 0, takes ``first_s + j * growth_s``.

The equations of ``physics.step_time.Stretch`` as plain functions: here they are asked twice for each request, and
making the record would cost more than solving it.
"""

from __future__ import annotations

from math import sqrt


def stretch_s(first_s: float, growth_s: float, steps: int) -> float:
    """The time of so many steps."""
    return steps * (first_s + growth_s * 0.5 * (steps - 1))


def steps_to(first_s: float, growth_s: float, elapsed_s: float) -> int:
    """How many steps until ``elapsed_s`` is reached: the fewest, and at least 1, that take at least so long."""
    half = 0.5 * growth_s
    linear = first_s - half
    steps = int(2.0 * elapsed_s / (linear + sqrt(linear * linear + 4.0 * half * elapsed_s)))
    # The root is exact but for rounding: its neighbours decide.
    while steps > 1 and (steps - 1) * (first_s + half * (steps - 2)) >= elapsed_s:
        steps -= 1
    while steps * (first_s + half * (steps - 1)) < elapsed_s:
        steps += 1
    return steps or 1
