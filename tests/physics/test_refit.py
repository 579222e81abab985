"""The shipped profiles are what the shipped timings say, and the stated errors are those that are measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from fidelity import refit, runs, steps  # noqa: E402

from underlay.physics import roofline  # noqa: E402
from underlay.physics.catalogue import Parallelism  # noqa: E402
from underlay.physics.profiles import Key, lines  # noqa: E402


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
    costs = {refit.key(line): line.coefficients() for line in lines().values()}
    errors = sorted(error for group in runs.scored(costs, refit.fitted_to()).values() for error in group)
    assert len(errors) == 147
    assert errors[len(errors) // 2] < 0.08


def test_what_profiles_were_fitted_to_does_not_score_them() -> None:
    fitted_to, held_out = runs.halves(refit.SCALED)
    assert not set(fitted_to) & set(held_out)
    assert {run.name for run in held_out} == set(refit.SCALED)
    for name in refit.SCALED:
        line = lines()[Key(*name, "vllm")]
        assert line.method == "calibrated"
        assert line.runs_error is not None
        assert line.runs_error.runs == sum(run.name == name for run in held_out)
        assert line.runs_error.tpot_median < 0.15


def test_a_run_that_computes_its_prompts_beyond_the_peak_is_not_scored() -> None:
    name = runs.Name("h200-sxm", "llama-3.1-8b", "tp1", "fp8")
    assert not runs.Run(name, 8000, 100, 16, 10.0).possible
    assert runs.Run(name, 8000, 100, 16, 100.0).possible
    assert runs.Run(name, 8000, 100, 16, 0.1).peak_share() > 1  # not even its weights could be read
    assert len([run for run in runs.read() if not run.possible]) == 4
