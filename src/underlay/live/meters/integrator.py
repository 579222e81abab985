"""Joules from samples of power: the area under straight lines between them.

What happened between two samples nobody saw. The line is taken as the middle, the lower and the higher of its two
ends as the bounds, and the sensor's own error on top. Samples too far apart (a process that was stopped, a meter
that fell silent) are not joined: what was drawn in between is unknown.
"""

from __future__ import annotations

from underlay.live.meters.meter import Reading, Tally


class Integrator:
    """Adds up samples of power; ``share`` is the sensor's relative error, ``gap_s`` the longest time to bridge."""

    def __init__(self, share: float, gap_s: float) -> None:
        self._share = share
        self._gap_s = gap_s
        self._tally = Tally()
        self._last: tuple[float, float] | None = None

    def take(self, at_s: float, power_w: float) -> Reading:
        """Add a sample; returns the joules up to it."""
        if self._last is not None:
            last_s, last_w = self._last
            seconds = at_s - last_s
            if not 0.0 <= seconds <= self._gap_s:
                self._tally.lose()
            else:
                low_w, high_w = min(last_w, power_w), max(last_w, power_w)
                self._tally.add(
                    (last_w + power_w) / 2.0 * seconds,
                    low_w * (1.0 - self._share) * seconds,
                    high_w * (1.0 + self._share) * seconds,
                )
        self._last = (at_s, power_w)
        return self._tally.reading(at_s)
