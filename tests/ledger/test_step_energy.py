from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.ledger.builders import COSTS, TRUTH, TYPICAL, SimulatedMeter, Trace, decode, prefill, step

from underlay.ledger.device import DeviceLedger
from underlay.ledger.priors import fitted, prior, stated
from underlay.ledger.step_energy import Coefficients, StepEnergy, Sums, non_negative, sums_of
from underlay.ledger.steps import token_costs
from underlay.physics import catalogue, power, roofline
from underlay.physics.catalogue import Parallelism
from underlay.physics.profiles import find as profile

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from fidelity import energy

WRONG = Coefficients(30.0, 200.0, 1.0, 0.01)


def learnt(windows: int, *, of: Coefficients = TRUTH, wobble: float = 0.0, **more) -> StepEnergy:
    dice = random.Random(7)
    model = StepEnergy(stated(WRONG, "assumed", 1.0, TYPICAL), **more)
    for _ in range(windows):
        sums = Sums(dice.randint(5, 50), dice.uniform(0, 0.05), dice.randint(10, 3000), dice.uniform(0, 400))
        model.learn(sums, of.joules(sums) * (1.0 + dice.uniform(-wobble, wobble)))
    return model


def test_it_works_before_it_has_learnt_and_says_so() -> None:
    model = StepEnergy(stated(WRONG, "assumed", 0.3, TYPICAL)).known
    assert model == (WRONG, "assumed", 0.3)


def test_it_finds_the_coefficients_of_windows_whatever_its_prior_was() -> None:
    model = learnt(300).known
    assert model.method == "calibrated"
    assert tuple(model.coefficients) == pytest.approx(tuple(TRUTH), rel=0.02)
    sums = Sums(20, 0.02, 500, 60)
    assert model.coefficients.joules(sums) == pytest.approx(TRUTH.joules(sums), rel=0.02)
    assert model.error < 0.1


def test_it_forgets_what_a_device_was_like() -> None:
    model = learnt(200, forgetting=0.95)
    dice = random.Random(8)
    for _ in range(200):
        sums = Sums(dice.randint(5, 50), dice.uniform(0, 0.05), dice.randint(10, 3000), dice.uniform(0, 400))
        model.learn(sums, 2.0 * TRUTH.joules(sums))
    sums = Sums(20, 0.02, 500, 60)
    assert model.known.coefficients.joules(sums) == pytest.approx(2.0 * TRUTH.joules(sums), rel=0.05)


def test_windows_that_all_look_alike_blow_nothing_up() -> None:
    model = StepEnergy(stated(TRUTH, "modelled", 0.1, TYPICAL), forgetting=0.9)
    same = Sums(10.0, 0.0, 80.0, 10.0)
    for _ in range(2000):
        model.learn(same, 3.0 * TRUTH.joules(same))
    of = model.known.coefficients
    assert of.joules(same) == pytest.approx(3.0 * TRUTH.joules(same), rel=0.01)
    # What never happened keeps the prior's shape, at the level that the meter says.
    assert of.pflop_j == pytest.approx(3.0 * TRUTH.pflop_j, rel=0.01)


def test_the_rescale_factor_is_of_the_forecast() -> None:
    model = StepEnergy(stated(TRUTH, "modelled", 0.1, TYPICAL))
    sums = Sums(10.0, 0.01, 80.0, 10.0)
    assert model.learn(sums, 1.2 * TRUTH.joules(sums)) == pytest.approx(1.2)
    assert model.learn(Sums(), 10.0) is None


def test_a_blunt_reading_teaches_less_than_a_sharp_one() -> None:
    sums = Sums(10.0, 0.0, 80.0, 10.0)
    said = TRUTH.joules(sums)
    moved = []
    for off in (0.0, said):
        model = StepEnergy(stated(TRUTH, "modelled", 0.1, TYPICAL))
        model.learn(sums, said)
        for _ in range(5):
            model.learn(sums._replace(tokens=800.0), 3.0 * TRUTH.joules(sums._replace(tokens=800.0)), off)
        moved.append(model.known.coefficients.token_j)
    assert moved[0] > moved[1] > TRUTH.token_j


def test_a_lagging_counter_does_not_make_steps_cheap() -> None:
    model = StepEnergy(stated(TRUTH, "modelled", 0.1, TYPICAL))
    sums = Sums(10.0, 0.01, 80.0, 10.0)
    for number in range(100):  # nothing in one window, both in the next
        model.learn(sums, 2.0 * TRUTH.joules(sums) * (number % 2))
    assert model.known.coefficients.joules(sums) == pytest.approx(TRUTH.joules(sums), rel=0.05)


def test_a_meter_that_never_moves_teaches_nothing() -> None:
    model = StepEnergy(stated(TRUTH, "modelled", 0.1, TYPICAL))
    for _ in range(10):
        assert model.learn(Sums(1.0, 0.0, 8.0, 1.0), 0.0) == 0.0
    assert model.known.coefficients == TRUTH


@given(st.lists(st.tuples(*[st.floats(0, 100)] * 4, st.floats(0.1, 1e4)), min_size=1, max_size=6))
@quick
def test_no_coefficient_is_below_zero_and_none_better_is(rows) -> None:
    terms = np.array([[part / row[4] for part in row[:4]] for row in rows])
    found = non_negative(terms.T @ terms, terms.sum(axis=0))
    assert found.min() >= 0.0

    def off(of):
        return float(np.square(terms @ of - 1.0).sum())

    dice = np.random.default_rng(0)
    for _ in range(20):
        other = np.maximum(found * dice.uniform(0.5, 1.5, 4) + dice.uniform(-0.1, 0.1, 4), 0.0)
        assert off(found) <= off(other) + 1e-4 * len(rows)


def test_a_learnt_model_shares_like_the_truth_behind_a_quantised_meter() -> None:
    dice = random.Random(3)
    trace = Trace(dice, 60.0)
    ledger = DeviceLedger(StepEnergy(stated(WRONG, "assumed", 1.0, TYPICAL)))
    got: dict[str, float] = {}
    for window in SimulatedMeter(trace, dice).windows(0.5):
        for entry in ledger.close(window, trace.within(window.begin_s, window.end_s)).entries:
            if entry.request:
                got[entry.request] = got.get(entry.request, 0.0) + entry.joules
    off = sorted(abs(got.get(request, 0.0) / truth - 1.0) for request, truth in trace.paid.items() if truth > 20.0)
    assert len(off) > 100
    assert off[len(off) // 2] < 0.05


def test_watts_and_step_times_make_a_prior_that_meets_published_joules() -> None:
    found = profile("h100-sxm", "llama-3.1-8b", "tp1", "bf16")
    curve = power.find("h100-sxm", "llama-3.1-8b", 1, "bf16")
    costs = token_costs(catalogue.model("llama-3.1-8b"))
    model = prior(curve, found.coefficients, costs, found.method).model
    assert model.method == "modelled"
    assert min(model.coefficients) >= 0.0
    assert model.coefficients.step_j > 1.0
    for batch, said in ((8, 0.455), (64, 0.119)):  # J per token, ML.ENERGY, chat on one H100
        sums = Sums(1.0, 0.0, batch, batch * costs.kv_read_bytes(700) * 1e-9)
        assert model.coefficients.joules(sums) / batch == pytest.approx(said, rel=0.5)
    guess = power.find("mi300x", "llama-3.1-8b", 1, "bf16")
    times = roofline.prior(catalogue.accelerator("mi300x"), catalogue.model("llama-3.1-8b"), Parallelism(1), "bf16")
    assert prior(guess, times, costs).model.method == "assumed"


def test_two_batches_are_enough_for_a_first_fit() -> None:
    low, high = Sums(1.0, 0.0, 8.0, 1.0), Sums(1.0, 0.0, 256.0, 32.0)
    model = fitted([(low, 4.0), (high, 21.0)], "calibrated").model
    assert model.coefficients.joules(low) == pytest.approx(4.0, rel=0.01)
    assert model.coefficients.joules(high) == pytest.approx(21.0, rel=0.01)
    with pytest.raises(ValueError):
        fitted([], "calibrated")
    with pytest.raises(ValueError):
        StepEnergy(stated(TRUTH, "modelled", 0.1, TYPICAL), forgetting=0.0)


def test_sums_take_of_a_step_what_lies_in_the_window() -> None:
    made = step(decode("a", 1000), prefill("b", 100), begin_s=0.5, end_s=1.5, steps=4.0)
    inside, whole = sums_of([made], 0.0, 1.0), sums_of([made])
    assert inside == pytest.approx([part / 2 for part in whole])
    assert whole.steps == 4.0
    assert whole.kv_gb == pytest.approx(COSTS.kv_read_bytes(1000) * 1e-9)


def test_held_out_batches_of_invented_runs_are_met(tmp_path) -> None:
    rows = ["model,task,weight_precision,gpu,num_gpus,tp,ep,dp,avg_batch,avg_output_tokens,j_per_output_token"]
    rows += [
        f"Qwen/Qwen3-14B,gpqa,bfloat16,H100,1,1,1,1,{b},1000,{(6.0 + 0.1 * b) / b}"
        for b in (8, 16, 32, 64, 128, 256)
    ]
    rows += ["Nobody/Knows,gpqa,bfloat16,H100,1,1,1,1,8,1000,1.0"]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(rows))
    groups = energy.read(path)
    (off,) = energy.errors(groups, windows=50).values()
    assert len(off) == 2
    assert max(off) < 0.05
