"""How many joules does a step take, and how well does that agree with the meter?

    E = e0·steps + ep·PFLOP of prompts + ed·tokens decoded + ek·GB of KV cache read

Measured steps are nearly a straight line over the batch (ML.ENERGY Leaderboard 3.0; ``bench/fidelity/energy.py``
tells how nearly). Static power while a step runs is in e0. As no meter sees one step (counters move about every
100 ms), the model learns from windows: the sums of their steps against their busy joules, which is just as linear.

It is fitted by recursive least squares in their information form (matrix A, right side b; the same as the
covariance form, and nothing to blow up while all windows look alike):

* **Forgetting**: each window fades by ``forgetting`` with each one after it. The prior does not fade; it holds
  the directions in which nothing happens, and weighs less the more it is said to be off by (``PRIOR_WINDOWS``).
* **Relative weighting**: a window counts by its error relative to what was expected of it, or by its meter's
  quantum where that is coarser. By what was expected and not by what was read: a counter that lags reads one
  window too low and the next too high, and weighting by readings would believe the low one.
* **No coefficient below zero**: no work gives energy back. With four coefficients every set of those that are not
  held at zero can be tried; the best that is nowhere negative is the exact answer.
* **The prior has a shape, the meter a level**: before it is weighed in, the prior is scaled by metered joules over
  its own, so that the shape of an H100 is of use on a machine that draws a third.

Priors are made in ``priors``. The *rescale factor* of a window is its metered busy joules over
those modelled before the window was learnt from: the error of a forecast, not of a fit.

Refused here: who pays.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from underlay.domain.figures import Method
from underlay.ledger.steps import Step

#: What a window counts for after the next one: after 140 it counts for half.
FORGETTING = 0.995
#: What the model is taken to be off by at best: below it a sharper meter makes a window no weightier.
RELATIVE_ERROR = 0.05
#: As many windows a prior counts for that is off by no more than that; one that is off by more, less in squares.
PRIOR_WINDOWS = 4.0
_RIDGE = 1e-6
_SIZE = 4

_Matrix = npt.NDArray[np.float64]


class Sums(NamedTuple):
    """What a step, or a window of them, is modelled by."""

    steps: float = 0.0
    pflop: float = 0.0
    tokens: float = 0.0
    kv_gb: float = 0.0


class Coefficients(NamedTuple):
    """Joules for each step, for each PFLOP of prompts, for each token decoded, for each GB of KV cache read."""

    step_j: float
    pflop_j: float
    token_j: float
    kv_gb_j: float

    def joules(self, sums: Sums) -> float:
        """The energy of all of it."""
        return (
            self.step_j * sums.steps
            + self.pflop_j * sums.pflop
            + self.token_j * sums.tokens
            + self.kv_gb_j * sums.kv_gb
        )


class StepModel(NamedTuple):
    """The coefficients as they are known now; ``error`` is the usual relative error of a window's forecast."""

    coefficients: Coefficients
    method: Method
    error: float


class Prior(NamedTuple):
    """A model before anything was metered, and the steps that it was made for: they say what it knows well."""

    model: StepModel
    typical: tuple[Sums, ...]


class StepEnergy:
    """A step model that learns from each window. Not thread-safe; one for each group of accelerators and model."""

    __slots__ = ("_errors", "_forgetting", "_heard_j", "_information", "_known", "_learnt", "_prior",
                 "_prior_terms", "_said_j", "_target")  # fmt: skip

    def __init__(self, prior: Prior, *, forgetting: float = FORGETTING) -> None:
        if not 0.0 < forgetting <= 1.0:
            raise ValueError(f"Forgetting is a share above 0 and at most 1, got {forgetting:g}.")
        self._prior = prior
        self._prior_terms = _terms(prior)
        self._forgetting = forgetting
        self._information: _Matrix = np.zeros((_SIZE, _SIZE))
        self._target: _Matrix = np.zeros(_SIZE)
        self._heard_j = self._said_j = 0.0
        self._learnt = self._errors = 0.0
        self._known = prior.model

    @property
    def known(self) -> StepModel:
        """The model as of now: calibrated once it learnt from more windows than the prior counts for."""
        return self._known

    @property
    def learnt(self) -> float:
        """From how many windows it knows what it knows, faded ones by what is left of them."""
        return self._learnt

    def learn(self, sums: Sums, busy_j: float, uncertainty_j: float = 0.0) -> float | None:
        """Learn from a window; returns its rescale factor by what was known before, None if nothing was expected.

        Windows without steps teach nothing, nor does a meter that has not moved at all so far.
        """
        expected_j = self._known.coefficients.joules(sums)
        rescale = busy_j / expected_j if expected_j > 0.0 else None
        prior_j = self._prior.model.coefficients.joules(sums)
        fade = self._forgetting
        heard_j = self._heard_j * fade + busy_j
        if prior_j <= 0.0 or heard_j <= 0.0:
            return rescale
        self._heard_j, self._said_j = heard_j, self._said_j * fade + prior_j
        level = self._heard_j / self._said_j
        row = np.array(sums)
        weight = 1.0 / ((level * prior_j) ** 2 + (uncertainty_j / RELATIVE_ERROR) ** 2)
        self._information = self._information * fade + np.outer(row, row) * weight
        self._target = self._target * fade + row * (busy_j * weight)
        certainty = (level * prior_j) ** 2 * weight
        self._learnt = self._learnt * fade + certainty
        self._errors = self._errors * fade + certainty * abs((rescale or 0.0) - 1.0)
        self._know(level)
        return rescale

    def _know(self, level: float) -> None:
        information, target = self._prior_terms
        found = non_negative(
            self._information + information / level**2,
            self._target + target / level,
        )
        before = self._prior.model
        error = (before.error * PRIOR_WINDOWS + self._errors) / (PRIOR_WINDOWS + self._learnt)
        method: Method = "calibrated" if self._learnt > PRIOR_WINDOWS else before.method
        self._known = StepModel(Coefficients(*map(float, found)), method, error)


def sums_of(steps: Iterable[Step], begin_s: float = -np.inf, end_s: float = np.inf) -> Sums:
    """The sums of all steps, each by the share of its time that lies in the window."""
    count = pflop = tokens = kv_gb = 0.0
    for step in steps:
        share = step.share_within(begin_s, end_s)
        if share:
            count += step.steps * share
            for work in step.works:
                pflop += work.prefill_flop * (1e-15 * share)
                tokens += work.decode_tokens * share
                kv_gb += work.kv_bytes * (1e-9 * share)
    return Sums(count, pflop, tokens, kv_gb)


def non_negative(information: _Matrix, target: _Matrix) -> _Matrix:
    """The coefficients, none below zero, with the least squares that these normal equations stand for."""
    scale = np.sqrt(np.diag(information))
    used = [column for column in range(_SIZE) if scale[column] > 0.0]
    best, least = np.zeros(_SIZE), 0.0
    for size in range(len(used), 0, -1):
        for kept in combinations(used, size):
            index = np.array(kept)
            scaled = information[np.ix_(index, index)] / np.outer(scale[index], scale[index])
            right = target[index] / scale[index]
            found = np.linalg.solve(scaled + _RIDGE * np.eye(size), right)
            if found.min() < 0.0:
                continue
            objective = float(found @ scaled @ found - 2.0 * found @ right)
            if objective < least:
                best, least = np.zeros(_SIZE), objective
                best[index] = found / scale[index]
        if size == len(used) and least < 0.0:
            break  # the free optimum is nowhere negative: nothing beats it
    return best


def _terms(prior: Prior) -> tuple[_Matrix, _Matrix]:
    """The prior as one window's worth of normal equations, with a trace of each coefficient by itself."""
    of = prior.model.coefficients
    rows = np.array([[part / of.joules(sums) for part in sums] for sums in prior.typical if of.joules(sums) > 0.0])
    rows = rows.reshape(-1, _SIZE)
    information: _Matrix = rows.T @ rows / max(len(rows), 1)
    for column, value in enumerate(of):
        alone = information[column, column] or (1.0 / value**2 if value > 0.0 else 0.0)
        information[column, column] += 0.01 * alone
    target: _Matrix = information @ np.array(of)
    weight = PRIOR_WINDOWS * (RELATIVE_ERROR / max(prior.model.error, RELATIVE_ERROR)) ** 2
    return information * weight, target * weight
