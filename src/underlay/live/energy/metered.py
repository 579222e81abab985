"""A window of the host's meters, closed: whose joules were they? Or a gap, where nobody can say.

What the host draws while nothing runs is learnt from windows in which nothing did. Where the only meter is a model
of processor time, it is 0: idle power is not within that meter's boundary.

Runs in a thread of its own choosing, one window after the other; refused here: requests, and when to look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from underlay.domain.figures import Figure
from underlay.ledger.attribution import Window, WindowAccounts
from underlay.ledger.device import DeviceLedger
from underlay.ledger.step_energy import Prior, StepEnergy
from underlay.ledger.steps import Step
from underlay.live.meters import track
from underlay.live.meters.ladder import Ladder, disjoint

Windows = Callable[[float, float], Sequence[track.Window]]
#: Idle power is the mean of about so many idle windows.
_IDLE_WINDOWS = 20


class Closed(NamedTuple):
    """A window that is over, and why it has no accounts where it has none; ``early``: before the first reading."""

    begin_s: float
    end_s: float
    accounts: WindowAccounts | None
    why: Literal["", "early", "gap"] = ""


class MeteredHost:
    """The sum of a host's meters, window after window. One thread at a time."""

    def __init__(self, ladder: Ladder, windows: Windows, prior: Prior) -> None:
        self._ladder = ladder
        self._windows = windows
        self._ledger = DeviceLedger(StepEnergy(prior))
        self._idle = Idle(metered=any(meter.family != "processor" for meter in disjoint(ladder.meters)))
        self._begun = False

    def close(
        self, begin_s: float, end_s: float, steps: Sequence[Step], *, quiet: bool, patient: bool
    ) -> Closed | None:
        """The accounts of a window; ``None`` while a meter has not told yet and we are ``patient``.

        ``quiet``: nothing was computed in it, nor shortly before.
        """
        told = self._windows(begin_s, end_s)
        if patient and any(window.why == "pending" for window in told):
            return None
        read = {w.meter.id: w.meter.figure(w.consumed) for w in told if w.consumed is not None}
        host = self._ladder.host(read)
        if host is None:
            early = not self._begun and any(window.why == "forgotten" for window in told)
            return Closed(begin_s, end_s, None, "early" if early else "gap")
        self._begun = True
        accounts = self._ledger.close(Window(begin_s, end_s, host, self._idle.power), steps)
        if quiet:
            self._idle.learn(host, end_s - begin_s)
        return Closed(begin_s, end_s, accounts)


class Idle:
    """Watts while nothing runs, learnt: the mean of what was metered then, the latest most."""

    def __init__(self, *, metered: bool) -> None:
        self._metered = metered
        self._count = 0
        self._spread_w = 0.0
        boundary = "while nothing runs" if metered else "idle power is outside of this meter"
        self.power = Figure(0.0, "W", "assumed" if metered else "modelled", "", boundary, None if metered else 0.0)

    def learn(self, host: Figure, seconds: float) -> None:
        """Learn from a window in which nothing ran. Windows on end share one quantum of their meter."""
        if not self._metered:
            return
        watts = host.value / seconds
        self._count = min(self._count + 1, _IDLE_WINDOWS)
        before_w = self.power.value if self._count > 1 else watts
        self._spread_w += (abs(watts - before_w) - self._spread_w) / self._count
        power_w = before_w + (watts - before_w) / self._count
        off_w = None
        if host.uncertainty is not None:
            off_w = self._spread_w + host.uncertainty / (seconds * self._count)
        # Known no better than its meter: a modelled one's is modelled, a measured one's is a mean of measurements.
        method = "calibrated" if host.method == "measured" else host.method
        self.power = Figure(power_w, "W", method, host.meter, "while nothing runs", off_w)
