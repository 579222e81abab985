"""Stretches of steps as arithmetic series: step j, from 0, takes ``first_s + j * growth_s``.

The equation of ``physics.step_time.Stretch`` as a plain function: here it is asked for each request, and making
the record would cost more than solving it.
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
