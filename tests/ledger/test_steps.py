from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.ledger.builders import COSTS, decode, step

from underlay.ledger.steps import Counted, Step, busy_s, coarse_step, token_costs, windows
from underlay.physics import catalogue

LLAMA = token_costs(catalogue.model("llama-3.1-8b"))


def test_a_prompt_costs_its_products_and_the_pairs_of_its_attention() -> None:
    # 2 x 8.03e9 for each token; 4 x 32 layers x 32 heads x 128 for each pair, half of 1000 squared of them.
    assert LLAMA.prefill("a", 1000).prefill_flop == pytest.approx(2 * 8.03e9 * 1000 + 4 * 32 * 32 * 128 * 0.5e6)
    after = LLAMA.prefill("a", 1000, 3000)
    assert after.prefill_flop - LLAMA.prefill("a", 1000).prefill_flop == pytest.approx(524288 * 3e6)
    assert after.tokens == 1000


def test_chunks_of_a_prompt_cost_what_the_whole_does() -> None:
    parts = [LLAMA.prefill("a", 256, at).prefill_flop for at in range(0, 1024, 256)]
    assert sum(parts) == pytest.approx(LLAMA.prefill("a", 1024).prefill_flop)


@given(st.integers(0, 5000), st.integers(1, 50))
@quick
def test_tokens_decoded_on_end_read_what_they_read_one_by_one(context, tokens) -> None:
    singly = sum(LLAMA.decode("a", context + n).kv_bytes for n in range(tokens))
    assert LLAMA.decode("a", context, tokens).kv_bytes == pytest.approx(singly)


def test_layers_with_a_window_read_no_further_than_that() -> None:
    gemma = token_costs(catalogue.model("gemma-3-270m"))
    assert gemma.kv_read_bytes(512) == 18432 * 512
    assert gemma.kv_read_bytes(1512) == 18432 * 512 + 3072 * 1000
    assert LLAMA.kv_read_bytes(1512) == 131072 * 1512
    assert windows().keys() <= catalogue.models().keys()


def test_counts_make_a_coarse_step() -> None:
    seen = [Counted("a", 100, 0, 12), Counted("b", 0, 300, 4), Counted("c", 50, 0, 0)]
    made = coarse_step(1.0, 1.5, COSTS, seen)
    assert made is not None
    assert made.coarse
    assert made.steps == 13  # twelve tokens of one request, and a chunk of prompt
    assert {work.request: (work.prefill_tokens, work.decode_tokens) for work in made.works if not work.prefill_tokens} == {
        "a": (0, 12), "b": (0, 4)
    }  # fmt: skip
    assert sum(work.tokens for work in made.works) == 316
    assert coarse_step(1.0, 1.5, COSTS, [Counted("c", 50, 0, 0)]) is None


def test_time_in_which_steps_overlap_is_counted_once() -> None:
    log = [
        step(decode("a"), begin_s=0.5, end_s=0.8),
        step(decode("b"), begin_s=0.6, end_s=0.7),
        step(decode("c"), begin_s=0.75, end_s=3),
    ]
    assert busy_s(log, 0.0, 1.0) == pytest.approx(0.5)
    assert busy_s(log, 5.0, 6.0) == 0.0
    assert busy_s(log, 0.9, 2.0) == pytest.approx(1.1)


def test_a_step_is_for_somebody_and_has_a_beginning_before_its_end() -> None:
    for wrong in ((0.0, 1.0, (), 1.0), (1.0, 0.0, (decode("a"),), 1.0), (0.0, 1.0, (decode("a"),), 0.0)):
        with pytest.raises(ValueError):
            Step(*wrong)
