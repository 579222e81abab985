"""What do the steps of an engine take, where somebody metered them while they were timed?

A profile (``physics.profiles``) may hold it beside its step times: joules by what is in a step, for ledgers; watts
by batch, for curves; idle watts. All of it is of one boundary, that of the meters named, and is known no better
than they are: ``calibrated`` where they measure, else as they are (``modelled``, ``assumed``).

A meter of processor time sees what busy threads add to a machine that is on anyway (``above_idle``): idle power is
outside of it, and unknown. Who needs all that is drawn adds what the hardware draws idle (``curve``).

Refused here: meters, and who pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import msgspec
import numpy as np

from underlay.domain.figures import Method
from underlay.physics.power import PowerCurve

#: Where half of a curve's rise may be reached, in sequences, from the least batch on.
_HALVES = [2.0 ** (exponent / 4) for exponent in range(-4, 41)]


class StepJoules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Joules of each step, PFLOP of prompts, token decoded, and GB of KV cache read (``ledger.step_energy``)."""

    step_j: float
    pflop_j: float
    token_j: float
    kv_gb_j: float


class StepPower(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What steps take, as metered.

    ``standard_error`` is of each coefficient, None where the points were too few to tell. ``error_mean`` is the
    mean relative error of a stretch's joules, ``against`` compared with what; ``meter_error`` what the meters
    themselves may be off by, relative and to either side, None if nobody knows. ``decode_w`` are the mean watts
    while so many ``decode_sequences`` decode, ``prefill_w`` those while prompts are read. ``idle_w`` is with the
    model loaded and nothing asked, None where it was not metered; ``processor`` what ran it, as its kernel says.
    """

    method: Method
    meter: str
    boundary: str
    joules: StepJoules
    error_mean: float
    against: str
    decode_sequences: tuple[int, ...]
    decode_w: tuple[float, ...]
    prefill_w: float
    processor: str = ""
    above_idle: bool = False
    standard_error: StepJoules | None = None
    meter_error: float | None = None
    idle_w: float | None = None
    idle_off_w: float | None = None

    def __post_init__(self) -> None:
        if not self.decode_w or len(self.decode_w) != len(self.decode_sequences):
            raise ValueError("power: decode_w has the watts of each of decode_sequences, one at least")
        known = (*msgspec.structs.astuple(self.joules), *self.decode_w, self.prefill_w, self.idle_w or 0.0)
        if not 0.0 <= min(known) <= max(known) < inf:
            raise ValueError("power: watts and joules are numbers of at least 0")

    def curve(self, accelerators: int, idle_w: float | None) -> PowerCurve:
        """Watts by batch, all that is drawn, for a group of accelerators.

        ``idle_w`` is what the group draws idle, as far as anybody else knows; it counts where idle power was not
        metered here. Where nobody knows it, what is drawn above it is all there is, and the note says so.
        """
        low_w, rise_w, half = fit_curve(self.decode_sequences, self.decode_w)
        note = f"metered with the profile by {self.meter} ({self.boundary})"
        idle = self.idle_w if self.idle_w is not None else idle_w
        if idle is None:
            note += "; idle power is unknown and left out"
        elif self.idle_w is None:
            note += "; idle power is the catalogue's"
        added_w = (idle or 0.0) if self.above_idle else 0.0
        most_w = max(self.prefill_w, *self.decode_w)
        return PowerCurve(
            low_w=low_w + added_w,
            rise_w=rise_w,
            half_sequences=half,
            idle_w=min(idle or 0.0, most_w + added_w),
            limit_w=most_w + added_w,
            accelerators=accelerators,
            method="calibrated" if self.method == "measured" else self.method,
            note=note,
            error_mean=self.error_mean,
            sequences_max=max(self.decode_sequences),
        )


def fit_curve(sequences: Sequence[int], watts: Sequence[float]) -> tuple[float, float, float]:
    """``low``, ``rise`` and ``half`` of low + rise·B/(B + half) (``physics.power``), by least relative squares.

    A curve that falls is not believed: the mean is taken.
    """
    batches, said = np.array(sequences, float), np.array(watts)
    best = (inf, float(said.mean()), 0.0, 1.0)
    for half in _HALVES if len(set(sequences)) > 1 else ():
        if half > max(2.0 * batches.max(), 1.0):
            break  # beyond it the curve is a line, and its end far outside of what was seen
        terms = np.column_stack([np.ones_like(batches), batches / (batches + half)]) / said[:, None]
        (low, rise), *_ = np.linalg.lstsq(terms, np.ones_like(said), rcond=None)
        off = float(np.square(terms @ [low, rise] - 1.0).sum())
        if low >= 0.0 and rise >= 0.0 and off < best[0]:
            best = (off, float(low), float(rise), half)
    return best[1:]
