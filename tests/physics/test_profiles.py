from __future__ import annotations

from pathlib import Path

import msgspec
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


def own(**changes: object) -> bytes:
    """A profile of an engine with slots, by few numbers."""
    line = {
        "accelerator": "a laptop, 4 threads", "model": "house-model", "parallelism": "tp1", "precision": "q4_k_m",
        "engine": "llama.cpp", "method": "measured", "source": "our own",
        "decode_sequences": [1, 4], "decode_ms": [10.0, 13.0], "mixed_tokens": [16, 512], "mixed_ms": [20.0, 400.0],
        "decode_fixed_ms": 0, "decode_sequence_us": 0, "decode_kv_token_ns": 50, "prefill_fixed_ms": 0,
        "prefill_token_us": 0, "prefill_pair_ns": 3, "mixed_slowdown": 0, "host_ms": 0,
        "valid": {"decode_sequences": 4, "step_tokens": 512, "context_tokens": 4096},
        "fit_error": {
            "decode_mean": 0.02, "decode_p95": 0.05, "prefill_mean": 0.03, "prefill_p95": 0.06, "against": "itself"
        },
    }  # fmt: skip
    return msgspec.json.encode({name: cell for name, cell in (line | changes).items() if cell is not None})


def test_a_profile_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    rules = {"slots": 4, "slot_tokens": 4096, "step_tokens": 512}
    path.write_bytes(own(rules=rules, request_ms=2.5))
    profile = profiles.read(path)
    assert (profile.model, profile.engine, profile.method) == ("house-model", "llama.cpp", "measured")
    assert profile.rules == profiles.EngineRules(slots=4, slot_tokens=4096, step_tokens=512)
    assert profile.request_s == 0.0025
    assert profile.kv_token_bytes == 0
    assert profile.coefficients.decode_step_s(4, 1000) == pytest.approx(13e-3 + 1000 * 50e-9)
    assert "4,096" in profile.warnings(context_tokens=5000)[0]


def test_what_calibrate_writes_and_what_ships_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "shipped.json"
    key, line = next(iter(lines().items()))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(line), indent=0) + b"\n")
    assert profiles.read(path) == find(*key[:4])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "cannot be read"),
        (b"slots: 4", "malformed"),
        (own(host_ms=None), "host_ms"),
        (own(hosts_ms=1), "hosts_ms"),
        (own(host_ms="much"), r"\$\.host_ms"),
        (own(decode_ms=[10.0]), "a value for each knot, got 2 and 1"),
        (own(decode_sequences=[4, 1]), "must rise"),
        (own(mixed_ms=[0.0, 1.0]), "numbers above 0"),
        (own(prefill_pair_ns=-1), "prefill_pair_ns is below 0"),
        (own() + own(), "malformed"),
    ],
)
def test_a_broken_profile_says_what_is_wrong(tmp_path: Path, data: bytes | None, said: str) -> None:
    path = tmp_path / "own.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BadRequest, match=said) as refusal:
        profiles.read(path)
    assert str(path) in str(refusal.value)
    assert refusal.value.param == "profile"
