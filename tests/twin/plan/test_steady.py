import pytest
from tests.twin.plan.builders import demand

from underlay.physics import profiles
from underlay.twin.plan.steady import Shape, prompt_s, steady

TIMES = profiles.find("h100-sxm", "llama-3.1-8b", "tp1", "bf16").coefficients
SHAPE = Shape.of(demand(lengths=((1000.0, 0.0), (200.0, 0.0))))
ROOM = {"kv_tokens": 400_000, "step_tokens": 8192, "max_sequences": 256, "ttft_s": 1.0, "tpot_s": 0.05}


def test_the_formula_is_what_it_says():
    found = steady(TIMES, SHAPE, **ROOM)
    count = found.sequences
    prompt = prompt_s(TIMES, 1000, 8192)
    token_s = TIMES.decode_step_s(count, count * 1100) + (count - 1) * prompt / 200
    assert found.tpot_s == pytest.approx(token_s)
    assert found.rate_per_s == pytest.approx(count / (200 * token_s + prompt))
    # In the steady state as many are under way as come while one is answered (Little).
    assert found.rate_per_s * (200 * token_s + prompt) == pytest.approx(count)


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        ({"tpot_s": 0.02}, "the TPOT"),
        ({"kv_tokens": 20_000}, "its KV cache"),
        ({"max_sequences": 8}, "its number of sequences"),
    ],
)
def test_it_says_what_keeps_it_from_more(change, bound):
    found = steady(TIMES, SHAPE, **ROOM | change)
    assert found.bound == bound
    assert 0 < found.rate_per_s < steady(TIMES, SHAPE, **ROOM | {"tpot_s": None}).rate_per_s


def test_what_cannot_be_kept_even_alone_carries_nothing():
    assert "one sequence alone" in steady(TIMES, SHAPE, **ROOM | {"tpot_s": 0.001}).bound
    late = steady(TIMES, SHAPE, **ROOM | {"ttft_s": 0.01})
    assert (late.rate_per_s, "a prompt alone" in late.bound) == (0.0, True)


def test_a_long_prompt_is_computed_in_chunks():
    assert prompt_s(TIMES, 9000, 8192) == pytest.approx(TIMES.prefill_s(8192, 0) + TIMES.prefill_s(808, 8192))
