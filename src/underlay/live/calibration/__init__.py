"""How long are the steps of this very engine? Measured from outside, fitted to the formula the twin reckons with.

``engine`` starts one as ``underlay up`` does, or finds the one at an address; ``asking`` asks and notes when tokens
come; ``sweep`` chooses what to ask; ``fit`` makes a step profile of it. Nothing here knows the twin.
"""

from .asking import CalibrationFailed, Server
from .engine import found, started, threads_each
from .fit import Calibration, Machine, calibrate, kind, predicted_s
from .sweep import Plan, Sample, Sweep, plan

__all__ = [
    "Calibration",
    "CalibrationFailed",
    "Machine",
    "Plan",
    "Sample",
    "Server",
    "Sweep",
    "calibrate",
    "found",
    "kind",
    "plan",
    "predicted_s",
    "started",
    "threads_each",
]
