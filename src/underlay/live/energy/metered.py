"""A window of this host's meters, closed: whose joules were they? Or a gap, where nobody can say.

Where accelerators are metered, steps are theirs: the processors beside them are the host, whose joules above idle
go to requests by their tokens as far as the engines used the processors, and what a meter of the whole node counts
beyond both is told as its ``residual``. Without accelerators the processors are what steps run on.

What devices and host draw while nothing runs is learnt from windows in which nothing did. Where the only meter is a
model of processor time, it is 0: idle power is not within that meter's boundary.

Runs in a thread of its own choosing, one window after the other; refused here: requests, and when to look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from underlay.domain.figures import Figure, Method, weakest
from underlay.ledger.attribution import Window
from underlay.ledger.device import DeviceLedger
from underlay.ledger.node import Host, NodeAccounts, node_accounts
from underlay.ledger.policies import Policy
from underlay.ledger.step_energy import Coefficients, Prior, StepEnergy, StepModel
from underlay.ledger.steps import Step
from underlay.live.meters import track
from underlay.live.meters.ladder import Ladder, Parts, disjoint

Windows = Callable[[float, float], Sequence[track.Window]]
#: Idle power is the mean of about so many idle windows.
_IDLE_WINDOWS = 20
#: How much the last window says of the level of a step model that has learnt nothing; the ones before say the rest.
_LATEST = 0.3


class Closed(NamedTuple):
    """A window that is over, and why it has no accounts where it has none; ``early``: before the first reading."""

    begin_s: float
    end_s: float
    accounts: NodeAccounts | None
    why: Literal["", "early", "gap"] = ""


class MeteredHost:
    """A host's meters, window after window. One thread at a time.

    ``pue`` is what its site takes for each joule of it; ``engines_share`` tells the engines' part of the processor
    time of this machine since it was last asked, ``None`` where the processors' meter sees nothing but engines;
    ``sharing`` is how requests that run together share what steps take.
    """

    def __init__(
        self,
        ladder: Ladder,
        windows: Windows,
        prior: Prior,
        *,
        pue: Figure | None = None,
        engines_share: Callable[[], float] | None = None,
        sharing: Policy = "shapley",
    ) -> None:
        self._ladder = ladder
        self._windows = windows
        self._pue = pue
        self._engines_share = engines_share
        self._ledger = DeviceLedger(StepEnergy(prior), sharing)
        self._idle: dict[str, Idle] = {}
        self._begun = False
        self._level: float | None = None  # metered joules over modelled, in the last windows that were computed in

    @property
    def model(self) -> StepModel:
        """The step model as of now; from any thread. One that has learnt nothing is set to the meters' level."""
        model = self._ledger.model
        if self._level is None or self._ledger.has_learnt:
            return model
        coefficients = Coefficients(*(self._level * each for each in model.coefficients))
        return model._replace(coefficients=coefficients)

    @property
    def method(self) -> Method:
        """How its meters know what they say, the least of those that are added up."""
        return weakest(meter.method for meter in disjoint(self._ladder.meters))

    @property
    def knows(self) -> bool:
        """Whether it says anything of this machine: something was computed in a window, or it was calibrated."""
        return self._level is not None or self._ledger.model.method != "assumed"

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
        parts = self._ladder.parts(read)
        if parts is None:
            early = not self._begun and any(window.why == "forgotten" for window in told)
            return Closed(begin_s, end_s, None, "early" if early else "gap")
        self._begun = True
        power, grain_j = self._idle_of(parts.devices).power, _grain_j(told, parts.devices)
        accounts = self._booked(Window(begin_s, end_s, parts.devices, power, grain_j), parts, steps)
        if quiet:
            for figure in (parts.devices, parts.host):
                if figure is not None:
                    self._idle_of(figure).learn(figure, end_s - begin_s)
        return Closed(begin_s, end_s, accounts)

    def _booked(self, window: Window, parts: Parts, steps: Sequence[Step]) -> NodeAccounts:
        devices = self._ledger.close(window, steps)
        if devices.rescale is not None:
            before = devices.rescale if self._level is None else self._level
            self._level = before + (devices.rescale - before) * _LATEST
        host = None
        if parts.host is not None:
            share = 1.0 if self._engines_share is None else self._engines_share()
            host = Host(parts.host, self._idle_of(parts.host).power, share)
        accounts = node_accounts([devices], host, node_meter=parts.node, pue=self._pue)
        accounts.check()
        return accounts

    def _idle_of(self, figure: Figure) -> Idle:
        """What these meters count while nothing runs."""
        known = self._idle.get(figure.meter)
        if known is None:
            modelled = {meter.id for meter in self._ladder.meters if meter.family == "processor"}
            known = self._idle[figure.meter] = Idle(metered=not modelled.issuperset(figure.meter.split("+")))
        return known


def _grain_j(told: Sequence[track.Window], devices: Figure) -> float:
    """What of these meters' error the window has for itself, and not as all others have it."""
    meters = devices.meter.split("+")
    return sum(w.consumed.grain_joules for w in told if w.consumed is not None and w.meter.id in meters)


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
