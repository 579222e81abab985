from __future__ import annotations

import pytest

from underlay.domain.errors import BadRequest, NotFound
from underlay.physics.catalogue import Parallelism, accelerator, accelerators, kv_capacity_tokens, model, models


def test_every_row_reads_and_names_its_source() -> None:
    assert len(accelerators()) > 20
    assert len(models()) > 20
    assert all(row.source for row in [*accelerators().values(), *models().values()])


def test_a_typo_is_met_with_what_was_meant() -> None:
    with pytest.raises(NotFound, match="did you mean h100-sxm"):
        accelerator("h100-smx")
    with pytest.raises(NotFound, match=r"did you mean llama-3\.1-8b"):
        model("llama-3.1-8")


@pytest.mark.parametrize("text", ["tp4", "tp1", "tp8ep8"])
def test_a_parallelism_reads_as_it_is_written(text: str) -> None:
    assert str(Parallelism.parse(text)) == text


@pytest.mark.parametrize("text", ["", "4", "tp0", "tp4ep0", "tp4 ", "TP4", "tp-1"])
def test_no_parallelism_is_guessed(text: str) -> None:
    with pytest.raises(BadRequest, match="tp4"):
        Parallelism.parse(text)


def test_the_cache_is_as_large_as_vllm_found_it() -> None:
    tokens = kv_capacity_tokens(accelerator("rtx-4090"), model("llama-3.1-8b"), Parallelism(), "bf16")
    assert tokens == pytest.approx(2588 * 16, rel=0.01)


def test_a_model_that_does_not_fit_is_refused_with_its_size() -> None:
    with pytest.raises(BadRequest, match="141 GB of 80 GB"):
        kv_capacity_tokens(accelerator("h100-sxm"), model("llama-3.1-70b"), Parallelism(), "bf16")


def test_a_precision_without_a_published_peak_is_refused() -> None:
    with pytest.raises(BadRequest, match="No published peak"):
        accelerator("t4").flop_s("bf16")


def test_what_an_accelerator_lacks_is_computed_in_the_next_wider() -> None:
    a100 = accelerator("a100-80-sxm")
    assert a100.flop_s("fp4") == a100.flop_s("fp8") == a100.flop_s("bf16") == 312e12
