"""How long are the steps of this very engine, and what do they draw? Measured from outside, for twin and ledger.

``engine`` starts one as ``underlay up`` does, or finds the one at an address; ``asking`` asks and notes when tokens
come; ``sweep`` chooses what to ask; ``fit`` makes a step profile of it. ``metered`` chooses the meters that see it;
``power`` holds loads for them; ``power_fit`` makes joules of it. ``measuring`` does it all in a time. Nothing here
knows the twin.
"""

from .asking import CalibrationFailed, Server
from .engine import found, started, threads_each
from .fit import Calibration, Machine, calibrate, kind, predicted_s, with_power
from .measuring import Measured, measure
from .power_fit import Drawn
from .sweep import Plan, Sample, Sweep, plan

__all__ = [
    "Calibration",
    "CalibrationFailed",
    "Drawn",
    "Machine",
    "Measured",
    "Plan",
    "Sample",
    "Server",
    "Sweep",
    "calibrate",
    "found",
    "kind",
    "measure",
    "plan",
    "predicted_s",
    "started",
    "threads_each",
    "with_power",
]
