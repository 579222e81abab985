from __future__ import annotations

import pytest

from underlay.physics import roofline
from underlay.physics.catalogue import Parallelism, accelerator, model, models
from underlay.physics.profiles import find

H100 = accelerator("h100-sxm")


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-8b", "qwen3-32b"])
def test_the_prior_of_a_dense_model_is_near_its_profile(name: str) -> None:
    prior = roofline.prior(H100, model(name), Parallelism(), "bf16")
    profile = find("h100-sxm", name, "tp1", "bf16").coefficients
    for batch in (1, 16, 128):
        assert prior.decode_step_s(batch, batch * 1024) == pytest.approx(
            profile.decode_step_s(batch, batch * 1024), rel=0.25
        )


def test_a_mixture_reads_more_of_its_weights_the_more_tokens_there_are() -> None:
    mixture = roofline.prior(H100, model("qwen3-30b-a3b"), Parallelism(), "bf16")
    assert mixture.decode_step_s(1, 0) < 0.5 * mixture.decode_step_s(64, 0)


def test_splitting_helps_but_not_in_proportion() -> None:
    whole, split = (
        roofline.prior(H100, model("llama-3.1-70b"), Parallelism(tensor), "fp8").decode_step_s(32, 32_000)
        for tensor in (2, 8)
    )
    assert whole / 4 < split < whole


def test_every_model_of_the_catalogue_has_a_prior() -> None:
    b200 = accelerator("b200-sxm")
    for name in models():
        assert roofline.prior(b200, model(name), Parallelism(8), "bf16").decode_step_s(8, 8192) > 0


def test_split_experts_are_less_well_known() -> None:
    assert roofline.error(Parallelism(8, 8))[0] > roofline.error(Parallelism(8))[0]
