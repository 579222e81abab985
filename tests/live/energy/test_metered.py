"""A host's windows: what its step model says before it has learnt anything."""

from __future__ import annotations

from typing import get_args

import pytest
from tests.support.meters import Clock, SimulatedMeter

from underlay.ledger.policies import POLICIES
from underlay.ledger.priors import stated
from underlay.ledger.step_energy import Coefficients, Sums
from underlay.ledger.steps import ANY_COSTS, Step
from underlay.live.energy.metered import MeteredHost
from underlay.live.energy.prior import processor_prior
from underlay.live.meters.ladder import Ladder, Rung
from underlay.live.meters.meter import Consumed
from underlay.live.meters.track import Window
from underlay.live.settings import SHARING, MeterSettings


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


@pytest.mark.parametrize(("sharing", "part"), [("shapley", 0.5), ("token_share", 30 / 130), ("time_share", 0.5)])
def test_requests_share_a_step_as_the_settings_say(sharing, part):
    """A short answer beside one of a hundred tokens, where all that a step takes is fixed."""
    meter = SimulatedMeter(lambda now: 100.0 * now, Clock(), peak_w=100.0)

    def windows(begin_s, end_s):
        joules = 100.0 * (end_s - begin_s)
        return [Window(meter, begin_s, end_s, Consumed(end_s - begin_s, joules, joules, joules))]

    prior = stated(Coefficients(1.0, 0.0, 0.0, 0.0), "calibrated", 0.1, (Sums(1.0),))
    ladder = Ladder((Rung("simulated", (meter,), ""),))
    host = MeteredHost(ladder, windows, prior, sharing=sharing)
    works = (ANY_COSTS.decode("short", 10, 30), ANY_COSTS.decode("long", 10, 100))
    booked = host.close(0.0, 1.0, [Step(0.0, 1.0, works, steps=100)], quiet=False, patient=False).accounts
    (device,) = booked.devices
    busy = {entry.request: entry.joules for entry in device.entries if entry.account == "busy"}
    assert busy["short"] / sum(busy.values()) == pytest.approx(part)


def test_every_way_of_sharing_can_be_set():
    assert set(get_args(MeterSettings.model_fields["sharing"].annotation)) == set(SHARING) == set(POLICIES)
