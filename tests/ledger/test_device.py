from __future__ import annotations

import random

import msgspec
import pytest
from tests.ledger.builders import (
    TRUTH,
    TYPICAL,
    SimulatedMeter,
    Trace,
    decode,
    joules,
    marginal_j,
    prefill,
    step,
    window,
)

from underlay.ledger.device import DeviceLedger
from underlay.ledger.priors import stated
from underlay.ledger.step_energy import Coefficients, StepEnergy


@pytest.mark.parametrize("seed", range(5))
def test_a_quantised_noisy_meter_closes_within_what_it_states(seed) -> None:
    dice = random.Random(seed)
    trace = Trace(dice, 30.0)
    ledger = DeviceLedger(StepEnergy(stated(Coefficients(1.0, 1000.0, 0.1, 0.1), "assumed", 0.5, TYPICAL)))
    booked = metered = 0.0
    for window_ in SimulatedMeter(trace, dice, refresh_s=0.1, noise_j=2.0).windows(0.25):
        accounts = ledger.close(window_, trace.within(window_.begin_s, window_.end_s))
        truth = trace.at(window_.end_s) - trace.at(window_.begin_s)
        assert abs(sum(accounts.totals().values()) - truth) <= window_.meter.uncertainty
        booked += sum(accounts.totals().values())
        metered, off = window_.end_s, window_.meter.uncertainty
    assert abs(booked - trace.at(metered)) <= off  # 120 windows are off by no more than one
    assert ledger.model.method == "calibrated"


def test_a_window_is_booked_once() -> None:
    ledger = DeviceLedger(StepEnergy(stated(TRUTH, "modelled", 0.1, TYPICAL)))
    ledger.close(window(), [])
    with pytest.raises(ValueError, match="overlaps"):
        ledger.close(window(10.0, 0.5, 1.5), [])
    for wrong in ({"value": -1.0}, {"end_s": 0.0}, {"watts": -1.0}):
        with pytest.raises(ValueError):
            window(**wrong)
    with pytest.raises(ValueError):
        joules(float("nan"))


def test_a_strangers_joules_while_nothing_runs_teach_nothing() -> None:
    ledger = DeviceLedger(StepEnergy(stated(TRUTH, "modelled", 0.1, TYPICAL)))
    log = [step(decode("a"), begin_s=n / 40, end_s=(n + 1) / 40) for n in range(40)]
    spent = sum(TRUTH.step_j + marginal_j(each.works[0]) for each in log)
    for round_ in range(10):
        at = 10.0 * round_
        shifted = [msgspec.structs.replace(each, begin_s=each.begin_s + at, end_s=each.end_s + at) for each in log]
        ledger.close(window(spent, at, at + 1.0, off=10.0), shifted)
        for n in range(1, 10):  # a stranger draws 500 W
            closed = ledger.close(window(580.0, at + n, at + n + 1.0, off=10.0), [])
            assert closed.totals()["unexplained"] == pytest.approx(500.0)
    assert ledger.model.coefficients.step_j == pytest.approx(TRUTH.step_j, rel=0.1)


def test_what_a_meters_level_may_be_off_by_does_not_keep_its_windows_from_teaching() -> None:
    """Watts that are assumed may be off by as much as they are; each window still tells prompts from tokens."""
    wrong = stated(
        Coefficients(TRUTH.step_j, 5 * TRUTH.pflop_j, TRUTH.token_j, TRUTH.kv_gb_j), "assumed", 0.5, TYPICAL
    )

    def learnt(grain_j: float | None) -> float:
        ledger = DeviceLedger(StepEnergy(wrong))
        for n in range(8):
            works = [prefill("a", 4096)] if n % 2 else [decode("b")]
            log = [step(*works, begin_s=n + k / 4, end_s=n + (k + 1) / 4) for k in range(4)]
            spent = sum(TRUTH.step_j + marginal_j(each.works[0]) for each in log)
            of = window(spent, n, n + 1.0, off=1.5 * spent, watts=0.0)
            ledger.close(msgspec.structs.replace(of, grain_j=grain_j), log)
        return ledger.model.coefficients.pflop_j / TRUTH.pflop_j

    assert learnt(0.01) == pytest.approx(1.0, rel=0.1)
    assert learnt(None) > 2.0
