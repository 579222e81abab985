"""What did a device do since its last window, and what does that teach?

A counter that is refreshed every 100 ms makes a single window a poor teacher. What it holds back in one window it
gives in the next, so windows on end are learnt from together until their meter's quantum is a small part of what
it counted (together they are off by one quantum only), or until one is idle. The part at which most is learnt in a
time is ``RELATIVE_ERROR``. Let windows be whole multiples of the refresh: with 0.25 s and 0.1 s the shares behind
a simulated meter were ten times as far off as with 0.5 s (5 % in the median against 0.5 %).

What a meter's level may be off by teaches nothing wrong, as a step's joules are those of that meter: only its grain
counts here (``Window.grain_j``). With the band of assumed watts in it (a modelled minute, 127 % of each window),
windows were learnt from a dozen at a time, and shares were 7 % off at the median instead of 2 %.

Refused here: which meter, and when a window ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from operator import add
from typing import NamedTuple

from underlay.ledger.attribution import Window, WindowAccounts, attribute
from underlay.ledger.policies import Policy
from underlay.ledger.step_energy import RELATIVE_ERROR, StepEnergy, StepModel, Sums
from underlay.ledger.steps import Step

#: Windows are learnt from when they are off by no more than this part of their busy joules, or are so many.
LEARN_WITHIN = RELATIVE_ERROR
LEARN_WINDOWS = 100


class _Heard(NamedTuple):
    """Windows on end that were not learnt from yet."""

    sums: Sums = Sums()
    busy_j: float = 0.0
    reading_j: float = 0.0
    idle_j: float = 0.0
    windows: int = 0
    over: bool = False

    @property
    def off_j(self) -> float:
        # Two lags, each anywhere within a quantum, differ by 1/sqrt(6) of the most that they can, in the mean.
        return self.reading_j / sqrt(6.0) + self.idle_j

    @property
    def enough(self) -> bool:
        return self.over or self.off_j <= LEARN_WITHIN * self.busy_j or self.windows >= LEARN_WINDOWS

    def then(self, booked: WindowAccounts, window: Window) -> _Heard:
        off_j = (window.meter.uncertainty or 0.0) if window.grain_j is None else window.grain_j
        # What the counter held back is told when all is over; more than a quantum is somebody else's.
        late_j = min(booked.totals()["unexplained"], off_j) if self.sums.steps > 0.0 else 0.0
        idle_s = window.end_s - window.begin_s - booked.busy_s
        return _Heard(
            sums=Sums(*map(add, self.sums, booked.sums)),
            busy_j=self.busy_j + booked.busy_j + late_j,
            reading_j=max(self.reading_j, off_j),
            idle_j=self.idle_j + (window.idle.uncertainty or 0.0) * idle_s,
            windows=self.windows + 1,
            over=booked.sums.steps <= 0.0,
        )


class DeviceLedger:
    """One device, or a group with one model: closes each window, and learns from it."""

    __slots__ = ("_closed_s", "_heard", "_policy", "_steps")

    def __init__(self, steps: StepEnergy, policy: Policy = "shapley") -> None:
        self._steps = steps
        self._policy = policy
        self._closed_s = float("-inf")
        self._heard = _Heard()

    @property
    def model(self) -> StepModel:
        """The step model as of now."""
        return self._steps.known

    @property
    def has_learnt(self) -> bool:
        """Whether any window has taught it anything."""
        return self._steps.learnt > 0.0

    def close(self, window: Window, steps: Sequence[Step]) -> WindowAccounts:
        """The accounts of the next window, checked. Steps that go on beyond it belong to the next as well.

        Errors: ValueError for a window that begins before the last one ended: its joules would be booked twice.
        """
        if window.begin_s < self._closed_s:
            raise ValueError(f"The window from {window.begin_s} overlaps the one closed at {self._closed_s}.")
        booked = attribute(window, steps, self._steps.known, self._policy)
        booked.check()
        heard = self._heard
        if window.begin_s > self._closed_s or heard.enough:
            if heard.sums.steps > 0.0:
                self._steps.learn(heard.sums, heard.busy_j, heard.off_j)
            heard = _Heard()
        self._heard = heard.then(booked, window)
        self._closed_s = window.end_s
        return booked
