from __future__ import annotations

import pytest

from underlay.domain.errors import BadRequest, NotFound
from underlay.physics import profiles
from underlay.physics.catalogue import accelerators, models
from underlay.physics.profiles import find, known, lines


def test_a_known_profile_says_where_it_comes_from_and_how_good_it_is() -> None:
    profile = find("h100-sxm", "llama-3.1-70b", "tp4", "fp8")
    assert profile.method == "modelled"
    assert "aiconfigurator" in profile.source
    assert profile.fit_error.decode_mean < 0.03
    assert profile.runs_error is not None
    assert profile.runs_error.tpot_median < 0.05
    assert profile.kv_token_bytes == 327_680
    assert profile.coefficients.decode_step_s(64, 64 * 1024) == pytest.approx(14.4e-3, rel=0.05)


def test_kernels_of_the_accelerator_itself_go_before_estimates() -> None:
    assert find("rtx-pro-6000-server", "llama-3.1-8b", "tp1", "bf16").method == "calibrated"


def test_every_line_is_of_the_catalogue_and_costs_something() -> None:
    assert len(known()) == 169
    for key, line in lines().items():
        assert key.accelerator in accelerators()
        assert key.model in models()
        cost = line.coefficients()
        assert 1e-3 < cost.decode_step_s(8, 8 * 512) < 2
        if "ep" not in key.parallelism:  # the estimates of split experts on Blackwell fall (see PROVENANCE.md)
            assert cost.decode_step_s(8, 8 * 512) < cost.decode_step_s(256, 256 * 4096) < 5
        assert cost.prefill_s(1024) < cost.prefill_s(8192)
        assert line.fit_error.decode_mean < 0.03
        assert line.fit_error.prefill_mean < 0.07


def test_an_unknown_combination_is_a_prior_and_says_so() -> None:
    profile = find("mi300x", "llama-3.1-70b", "tp2", "fp8")
    assert profile.method == "assumed"
    assert any("data sheets" in warning and "%" in warning for warning in profile.warnings())


def test_beyond_what_was_fitted_a_warning_names_it() -> None:
    profile = find("h100-sxm", "llama-3.1-8b", "tp1", "bf16")
    assert profile.warnings(decode_sequences=512, step_tokens=8192, context_tokens=32_768) == ()
    (warning,) = profile.warnings(context_tokens=100_000)
    assert "100,000 tokens of context" in warning
    assert "up to 32,768" in warning


def test_another_engine_is_not_passed_off_as_vllm() -> None:
    assert find("h100-sxm", "llama-3.1-8b", "tp1", "bf16", engine="sglang").method == "assumed"


@pytest.mark.parametrize(
    ("combination", "error"),
    [
        (("h100-smx", "llama-3.1-8b", "tp1", "bf16"), NotFound),
        (("h100-sxm", "llama-9", "tp1", "bf16"), NotFound),
        (("h100-sxm", "llama-3.1-8b", "4", "bf16"), BadRequest),
        (("h100-sxm", "llama-3.1-8b", "tp1", "int3"), BadRequest),
        (("h100-sxm", "llama-3.1-405b", "tp1", "fp8"), BadRequest),
    ],
)
def test_what_cannot_be_is_refused(combination: tuple[str, str, str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        find(*combination)


def test_the_units_of_the_file_become_seconds() -> None:
    line = lines()[profiles.Key("h100-sxm", "llama-3.1-8b", "tp1", "bf16", "vllm")]
    cost = line.coefficients()
    # 131,072 bytes for each token in the cache at 94 % of 3.35 TB/s.
    assert cost.decode_kv_token_s == pytest.approx(131_072 / 3.35e12 / 0.94, rel=0.01)
    assert cost.host_s == 0.5e-3
