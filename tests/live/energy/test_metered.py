"""A host's windows: what its step model says before it has learnt anything."""

from __future__ import annotations

import pytest
from tests.support.meters import Clock, SimulatedMeter

from underlay.ledger.steps import ANY_COSTS, Step
from underlay.live.energy.metered import MeteredHost
from underlay.live.energy.prior import processor_prior
from underlay.live.meters.ladder import Ladder, Rung
from underlay.live.meters.meter import Consumed
from underlay.live.meters.track import Window


@pytest.mark.parametrize("watts", [3.0, 4000.0])
def test_a_model_that_has_learnt_nothing_is_set_to_the_level_of_the_meter(watts):
    meter = SimulatedMeter(lambda now: watts * now, Clock(), peak_w=watts)

    def windows(begin_s, end_s):
        joules = watts * (end_s - begin_s)
        return [Window(meter, begin_s, end_s, Consumed(end_s - begin_s, joules, 0.5 * joules, 1.5 * joules))]

    host = MeteredHost(Ladder((Rung("simulated", (meter,), ""),)), windows, processor_prior(ANY_COSTS))
    assert not host.knows
    step = Step(0.0, 1.0, (ANY_COSTS.decode("req_1", 100, 20),), steps=20)
    booked = host.close(0.0, 1.0, [step], quiet=False, patient=False).accounts
    assert host.knows
    assert host.model.method == "assumed"
    (device,) = booked.devices
    assert host.model.coefficients.joules(device.sums) == pytest.approx(watts)
