"""The power of the whole host, as its management controller tells it, by whatever it is asked (Redfish, IPMI).

Watts are added up from samples (``integrator``). Controllers renew theirs once a second at best and some of them
rarely; one second is assumed. What the sensors are worth is not told: 5 % is assumed.

Refused here: how it is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from underlay.live.meters.integrator import Integrator
from underlay.live.meters.meter import Boundary, Meter, Quantum, Reading

EVERY_S = 2.0
REFRESH_S = 1.0
SENSOR_SHARE = 0.05
#: Samples further apart than this are not joined: two may be missing.
GAP_S = 4.0 * EVERY_S
#: The longest pause after failures in a row.
PAUSE_MAX_S = 300.0
#: More than this no host draws; a controller that says so is not believed.
POWER_MAX_W = 200_000.0


class ControllerFailed(Exception):
    """The controller cannot be reached, refuses, or says nothing that can be used."""


class ControllerMeter(Meter):
    """The host, by its management controller. Who knows how to ask it says so in ``_sample``."""

    every_s = EVERY_S

    def __init__(self, id: str, clock: Callable[[], float]) -> None:  # noqa: A002
        boundary = Boundary("host", "the whole host at its power supplies, accelerators included")
        super().__init__(id, boundary, "measured", Quantum(REFRESH_S, 1.0))
        self._clock = clock
        self._integrator = Integrator(SENSOR_SHARE, GAP_S)
        self._over = False
        self._failures = 0
        self._not_before_s = -inf

    def read(self) -> Reading | None:
        """Ask for the power; ``interrupt`` ends it earlier.

        After a failure it is asked less and less often: controllers lock out who comes with a wrong password.
        """
        if self._over or self._clock() < self._not_before_s:
            return None
        try:
            at_s, power_w = self._sample()
        except ControllerFailed as error:
            if not self._over:  # else by interrupt
                self._fail(error)
            return None
        self.trouble = ""
        self._failures = 0
        self.peak_w = max(self.peak_w, power_w)
        return self._integrator.take(at_s, power_w)

    def _sample(self) -> tuple[float, float]:
        """The power in watts, and when that was. Raises ``ControllerFailed``, also when it is interrupted."""
        raise NotImplementedError

    def _fail(self, error: ControllerFailed) -> None:
        self.trouble = str(error)
        self._failures += 1
        self._not_before_s = self._clock() + min(EVERY_S * 2.0**self._failures, PAUSE_MAX_S)


def is_believable(power_w: float) -> bool:
    """Whether a host may draw that; one that is on draws something."""
    return 0.0 < power_w <= POWER_MAX_W
