"""What steps are taken to cost before anything was metered: as was calibrated on this machine, else a guess."""

import msgspec
import pytest

from underlay.ledger.steps import token_costs
from underlay.live.energy.prior import first_prior, processor_prior, profile_path
from underlay.live.meters.processor import processor_name
from underlay.physics import catalogue, profiles
from underlay.physics.step_power import StepJoules, StepPower

COSTS = token_costs(catalogue.model("gemma-3-270m"))
POWER = StepPower(
    method="modelled",
    meter="processor:engines",
    boundary="a test",
    joules=StepJoules(0.5, 100.0, 0.01, 0.1),
    error_mean=0.07,
    against="a test",
    decode_sequences=(1,),
    decode_w=(10.0,),
    prefill_w=12.0,
    processor=processor_name(),
    above_idle=True,
)


@pytest.fixture
def kept(tmp_path):
    """Keeps a profile with such power for a model."""

    def keep(power):
        path = profile_path(tmp_path, "gemma-3-270m")
        path.parent.mkdir(exist_ok=True)
        line = msgspec.structs.replace(next(iter(profiles.lines().values())), power=power)
        path.write_bytes(msgspec.json.encode(line))
        return path

    return keep


def test_a_profile_of_this_machine_is_believed(kept):
    found = first_prior(COSTS, kept(POWER), ["processor:engines"])
    assert tuple(found.model.coefficients) == (0.5, 100.0, 0.01, 0.1)
    assert (found.model.method, found.model.error) == ("modelled", 0.07)
    assert found.typical


@pytest.mark.parametrize(
    ("changes", "meters"),
    [
        ({"processor": "another one"}, ["processor:engines"]),
        ({}, ["rapl:0"]),
        ({"meter": "nvml:GPU-0+nvml:GPU-1"}, ["nvml:GPU-0"]),
    ],
)
def test_one_of_another_machine_or_by_other_meters_is_not(kept, changes, meters):
    path = kept(msgspec.structs.replace(POWER, **changes))
    assert first_prior(COSTS, path, meters) == processor_prior(COSTS)


def test_without_a_profile_or_with_a_broken_one_it_is_a_guess(kept, tmp_path):
    guess = processor_prior(COSTS)
    assert first_prior(COSTS, profile_path(tmp_path, "m"), ["processor:engines"]) == guess
    assert first_prior(COSTS, kept(None), ["processor:engines"]) == guess
    path = kept(POWER)
    path.write_text("{")
    assert first_prior(COSTS, path, ["processor:engines"]) == guess


def test_a_models_name_stays_within_the_folder(tmp_path):
    assert profile_path(tmp_path, "../../etc/x").parent == tmp_path / "profiles"
