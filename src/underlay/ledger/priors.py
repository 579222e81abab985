"""What is a step taken to cost before anything was metered?

* ``prior``: watts by batch (``physics/power.py``) times step times (``physics/step_time.py``), over steps from one
  sequence to 256 and chunks to 2,048 tokens, and a straight line through all of it.
* ``fitted``: any steps whose joules are known. Two batches are enough for a first one; so few do not tell the
  parts apart, which then share what there is.
* ``stated``: coefficients of a profile.

Refused here: meters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from underlay.domain.figures import Method
from underlay.ledger.step_energy import Coefficients, Prior, StepModel, Sums, non_negative
from underlay.ledger.steps import TokenCosts
from underlay.physics.power import PowerCurve
from underlay.physics.step_time import StepCoefficients, attention_pairs


def fitted(samples: Sequence[tuple[Sums, float]], method: Method, *, error: float | None = None) -> Prior:
    """A model of steps whose joules are known, by least relative squares.

    ``error`` is what it is said to be off by; by default the mean of the fit, which few samples make too small.
    Directions in which the samples do not differ share what there is. Errors: ValueError for none, or joules of 0.
    """
    if not samples or min(joules for _, joules in samples) <= 0.0:
        raise ValueError("A fit needs steps that took some energy.")
    rows = np.array([[*sums] for sums, _ in samples]) / np.array([[joules] for _, joules in samples])
    found = Coefficients(*map(float, non_negative(rows.T @ rows, rows.sum(axis=0))))
    off = [abs(found.joules(sums) / joules - 1.0) for sums, joules in samples]
    model = StepModel(found, method, sum(off) / len(off) if error is None else error)
    return Prior(model, tuple(sums for sums, _ in samples))


def prior(watts: PowerCurve, times: StepCoefficients, costs: TokenCosts, method: Method = "modelled") -> Prior:
    """What watts by batch and step times suggest, over steps from one sequence to 256 and chunks to 2,048 tokens.

    ``method`` is that of the step times; with assumed watts the whole is assumed.
    """
    samples = []
    for batch, context, chunk in product((0, 1, 4, 16, 64, 256), (256, 1024, 4096), (0, 128, 512, 2048)):
        if batch == chunk == 0:
            continue
        took_s = times.step_s(chunk, batch, batch * context, attention_pairs(chunk, 0))
        chunks = costs.prefill("", chunk)
        read_gb = costs.kv_read_bytes(context) * batch * 1e-9
        samples.append(
            (Sums(1.0, chunks.prefill_flop * 1e-15, batch, read_gb), took_s * watts.power_w(batch, chunk))
        )
    found = fitted(samples, "assumed" if "assumed" in (watts.method, method) else "modelled")
    return found._replace(model=found.model._replace(error=found.model.error + watts.error_mean))


def stated(coefficients: Coefficients, method: Method, error: float, typical: Sequence[Sums]) -> Prior:
    """A model that somebody says, such as a profile, with some steps that it is for."""
    return Prior(StepModel(coefficients, method, error), tuple(typical))
