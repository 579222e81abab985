import random

import pytest

from underlay.live.calibration import CalibrationFailed, Machine, Sample, Server, calibrate, kind, plan, predicted_s
from underlay.physics.step_time import Curve, StepCoefficients, attention_pairs

MACHINE = Machine("this one", "m", "q4_k_m", "llama.cpp", "a test")
#: Four at a time are quicker than three, as where kernels work in fours.
TRUTH = StepCoefficients(
    decode=Curve([1, 2, 3, 4], [8e-3, 10e-3, 20e-3, -9e-3]),
    mixed=Curve([1], [12e-3]),
    decode_fixed_s=2e-3,
    decode_sequence_s=14e-3,
    decode_kv_token_s=4e-6,
    prefill_fixed_s=0.0,
    prefill_token_s=3e-3,
    prefill_pair_s=4e-7,
)


def server(**changes):
    return Server(**{"address": ("127.0.0.1", 1), "kind": "llamacpp", "model": "m", "slots": 4, "step_tokens": 512,
                     "context_tokens": 4096, **changes})  # fmt: skip


def timed(planned, noise, dice):
    """What a sweep of an engine that keeps to the formula would bring."""
    samples = []
    for experiment in planned.experiments:
        for tokens in (0, *experiment.prompts) if experiment.sequences else experiment.prompts:
            count, context = experiment.sequences, experiment.context_tokens
            kv = count * (context + 20)
            step_s = TRUTH.step_s(tokens, count, kv, attention_pairs(tokens, 0)) * dice.lognormvariate(0, noise)
            samples.append(Sample((count, context, tokens, 0), count, kv, tokens, 0, step_s, experiment.held_out))
    return samples


@pytest.mark.parametrize("quick", [False, True])
def test_an_engine_that_keeps_to_the_formula_is_found_again(quick):
    found = calibrate(timed(plan(server(), quick=quick), 0.0, random.Random(1)), MACHINE)
    cost = found.line.coefficients()
    for sequences, tokens in ((1, 0), (4, 0), (0, 40), (2, 100), (3, 16)):
        truth = TRUTH.step_s(tokens, sequences, 100 * sequences)
        assert cost.step_s(tokens, sequences, 100 * sequences) == pytest.approx(truth, rel=0.01)
    assert {name: off.p95 < 0.01 for name, off in found.held_out.items()} == dict.fromkeys(found.held_out, True)


def test_the_error_that_is_told_is_that_of_steps_that_were_not_fitted():
    dice = random.Random(2)
    samples = [sample for _ in range(3) for sample in timed(plan(server()), 0.05, dice)]
    found = calibrate(samples, MACHINE)
    held = [p for p in found.points if p.held_out and kind(p) == "prefill"]
    errors = [abs(predicted_s(found.line.coefficients(), p) / p.step_s - 1) for p in held]
    assert found.line.fit_error.prefill_mean == pytest.approx(sum(errors) / len(errors))
    assert found.fitted["prefill"].mean < found.held_out["prefill"].mean
    assert 0.01 < found.noise < 0.06
    assert len(found.points) == len(samples) // 3


def test_a_spoilt_measurement_is_left_out_by_the_median():
    dice = random.Random(3)
    samples = [sample for _ in range(3) for sample in timed(plan(server()), 0.0, dice)]
    spoilt = [
        s._replace(step_s=3 * s.step_s) if i % 7 == 0 and i < len(samples) // 3 else s
        for i, s in enumerate(samples)
    ]
    assert calibrate(spoilt, MACHINE).line == calibrate(samples, MACHINE).line


def test_what_was_measured_is_what_it_holds_for():
    valid = calibrate(timed(plan(server()), 0.0, random.Random(1)), MACHINE).line.valid
    assert (valid.decode_sequences, valid.step_tokens) == (4, 768)
    assert valid.context_tokens == 768


def test_too_few_steps_are_no_profile():
    samples = timed(plan(server(), quick=True), 0.0, random.Random(1))
    with pytest.raises(CalibrationFailed, match="only decodes"):
        calibrate([s for s in samples if kind(s) == "prefill"], MACHINE)
    with pytest.raises(CalibrationFailed, match="too few lengths"):
        calibrate([s for s in samples if kind(s) == "decode"], MACHINE)


@pytest.mark.parametrize("changes", [{}, {"slots": 1}, {"slots": 64}, {"context_tokens": 256}, {"step_tokens": 32}])
@pytest.mark.parametrize("quick", [False, True])
def test_nothing_is_planned_that_the_engine_cannot_hold(changes, quick):
    engine = server(**changes)
    for experiment in plan(engine, quick=quick).experiments:
        assert experiment.sequences <= engine.slots
        assert not (experiment.prompts and experiment.sequences >= engine.slots)
        assert experiment.context_tokens + 150 <= engine.context_tokens
        room = engine.step_tokens - experiment.sequences if experiment.sequences else 2 * engine.step_tokens
        assert all(0 < tokens <= min(room, engine.context_tokens) for tokens in experiment.prompts)
