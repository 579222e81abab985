"""The shipped profiles are what the shipped timings say, and the stated errors are those that are measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from fidelity import refit, steps  # noqa: E402

from underlay.physics import roofline  # noqa: E402
from underlay.physics.catalogue import Parallelism  # noqa: E402
from underlay.physics.profiles import lines  # noqa: E402


def test_fitting_again_gives_what_is_shipped() -> None:
    shipped = {refit.key(line): line for line in lines().values()}
    for line in refit.fitted():
        ours, theirs = line.coefficients(), shipped[refit.key(line)].coefficients()
        for batch in (1, 100, 300):
            assert ours.step_s(64, batch, batch * 999) == pytest.approx(theirs.step_s(64, batch, batch * 999))


@pytest.mark.parametrize("split", [Parallelism(8), Parallelism(8, 8)])
def test_the_stated_error_of_the_prior_is_the_measured_one(split: Parallelism) -> None:
    decode, prefill = steps.prior_errors(expert=split.expert > 1)
    assert roofline.error(split) == pytest.approx((*decode, *prefill), abs=0.002)


def test_runs_of_vllm_are_met_within_8_percent_in_the_median() -> None:
    errors = sorted(abs(said / was - 1) for _, said, was in refit.tpot({refit.key(x): x for x in lines().values()}))
    assert len(errors) == 167
    assert errors[len(errors) // 2] < 0.08
