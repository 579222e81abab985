from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.physics.step_time import Curve, StepCoefficients, attention_pairs

COST = StepCoefficients(
    decode=Curve([1, 8, 64], [5e-3, 6e-3, 9e-3]),
    mixed=Curve([1, 64, 512, 2048], [5e-3, 9e-3, 11e-3, 40e-3]),
    decode_fixed_s=0.4e-3,
    decode_sequence_s=3e-6,
    decode_kv_token_s=41e-9,
    prefill_fixed_s=0.6e-3,
    prefill_token_s=0.6e-6,
    prefill_pair_s=0.8e-9,
    mixed_slowdown=0.01,
    host_s=0.5e-3,
)

batches = st.integers(1, 2000)
contexts = st.integers(1, 5_000_000)


def test_the_curve_is_straight_between_its_knots_flat_before_and_goes_on_after() -> None:
    curve = Curve([2, 4, 8], [1.0, 3.0, 4.0])
    assert [curve.at(count) for count in (1, 2, 3, 4, 6, 8, 12)] == [1.0, 1.0, 2.0, 3.0, 3.5, 4.0, 5.0]


def test_a_curve_that_falls_at_its_end_does_not_fall_for_ever() -> None:
    assert Curve([1, 2], [5.0, 4.0]).at(1_000_000) == 4.0


@pytest.mark.parametrize(
    ("knots", "values"), [([], []), ([1, 2], [1.0]), ([2, 1], [1.0, 2.0]), ([1, 1], [1.0, 2.0])]
)
def test_a_broken_table_is_refused(knots: list[int], values: list[float]) -> None:
    with pytest.raises(ValueError, match="curve"):
        Curve(knots, values)


def test_a_step_of_nothing_takes_no_time() -> None:
    assert COST.step_s(0, 0, 0) == 0.0


def test_a_step_adds_matrices_attention_and_host() -> None:
    decode_ms = 6 + 0.4 + 8 * 3e-3 + 10_000 * 41e-6 + 0.5
    assert COST.step_s(0, 8, 10_000) == pytest.approx(decode_ms * 1e-3)
    prefill_ms = 11 + 0.6 + 512 * 0.6e-3 + 512 * (1024 + 256) * 0.8e-6 + 0.5
    assert COST.step_s(512, 0, 0, attention_pairs(512, 1024)) == pytest.approx(prefill_ms * 1e-3)
    assert COST.prefill_s(512, 1024) == pytest.approx(prefill_ms * 1e-3)


def test_a_mixed_step_pays_more_for_attention_than_both_parts() -> None:
    apart = 0.6 + 504 * 0.6e-3 + 504 * 252 * 0.8e-6 + 0.4 + 8 * 3e-3 + 10_000 * 41e-6
    assert COST.step_s(504, 8, 10_000) == pytest.approx((11 + apart * 1.08 + 0.5) * 1e-3)


@given(batches, contexts)
def test_more_work_never_takes_less_time(sequences: int, kv_tokens: int) -> None:
    assert COST.decode_step_s(sequences + 1, kv_tokens) >= COST.decode_step_s(sequences, kv_tokens) > 0
    assert COST.decode_step_s(sequences, kv_tokens + 1) > COST.decode_step_s(sequences, kv_tokens)


@given(batches, contexts, st.integers(0, 3000))
def test_a_stretch_equals_its_steps_one_by_one(sequences: int, kv_tokens: int, steps: int) -> None:
    one_by_one = sum(COST.decode_step_s(sequences, kv_tokens + step * sequences) for step in range(steps))
    kv_token_s = COST.kv_tokens_s(sequences)[sequences]
    first_s, growth_s = COST.batches_s(sequences)[sequences] + kv_token_s * kv_tokens, kv_token_s * sequences
    assert steps * (first_s + growth_s * 0.5 * (steps - 1)) == pytest.approx(one_by_one, rel=1e-12, abs=1e-12)
    last_s = COST.decode_step_s(sequences, kv_tokens + steps * sequences)
    assert first_s + steps * growth_s == pytest.approx(last_s)


def test_a_throttled_accelerator_computes_slower_but_reads_its_cache_as_before() -> None:
    slow = COST.throttled(1.5)
    assert slow.prefill_s(2048) > 1.4 * COST.prefill_s(2048)
    assert slow.kv_tokens_s(64)[64] == COST.kv_tokens_s(64)[64]
    assert COST.throttled(1.0) == COST
    with pytest.raises(ValueError, match="at least 1"):
        COST.throttled(0.5)


def test_a_slower_clock_hardly_slows_what_waits_for_its_weights() -> None:
    slow = COST.throttled(2.0)
    assert slow.decode_step_s(1, 500) < 1.2 * COST.decode_step_s(1, 500)
    assert slow.prefill_s(2048) == pytest.approx(2.0 * COST.prefill_s(2048), rel=0.02)


def test_only_steps_over_the_cap_are_slowed() -> None:
    held = COST.stretched(
        lambda sequences: 1.0 if sequences <= 8 else 1.5, lambda tokens: 1.0 if tokens < 64 else 2.0
    )
    assert held.decode_step_s(8, 4000) == pytest.approx(COST.decode_step_s(8, 4000))
    assert held.decode_step_s(64, 4000) > COST.decode_step_s(64, 4000)
    assert held.prefill_s(32) == pytest.approx(COST.prefill_s(32), rel=0.01)
    assert held.prefill_s(2048) == pytest.approx(COST.throttled(2.0).prefill_s(2048))


@given(batches, contexts, st.floats(1, 3))
def test_a_slower_clock_never_makes_a_step_quicker_nor_slower_than_itself(sequences, kv_tokens, slowdown) -> None:
    usual_s, slow_s = (
        COST.decode_step_s(sequences, kv_tokens),
        COST.throttled(slowdown).decode_step_s(sequences, kv_tokens),
    )
    assert usual_s * (1 - 1e-9) <= slow_s <= slowdown * usual_s * (1 + 1e-9)


def test_what_is_slowed_takes_as_many_times_as_long_in_every_part() -> None:
    slow = COST.slowed(3.0)
    for step in ((0, 9, 4000), (700, 0, 0), (700, 9, 4000)):
        assert slow.step_s(*step) == pytest.approx(3 * COST.step_s(*step))
    with pytest.raises(ValueError, match="slowness"):
        COST.slowed(0.0)


@given(st.integers(1, 9000), st.integers(0, 600), st.integers(1, 100_000), st.floats(0, 1e7))
def test_what_is_kept_of_steps_asked_before_changes_no_step(tokens, sequences, kv_tokens, pairs) -> None:
    kv_tokens = kv_tokens if sequences else 0
    fresh = COST.slowed(1.0)
    expected_s = COST.mixed.at(tokens + sequences) + COST.host_s
    attention_s = COST.prefill_fixed_s + COST.prefill_token_s * tokens + COST.prefill_pair_s * pairs
    if sequences:
        attention_s += COST.decode_fixed_s + COST.decode_sequence_s * sequences
        attention_s += COST.decode_kv_token_s * kv_tokens
    expected_s += attention_s * (1 + COST.mixed_slowdown * sequences)
    for cost in (fresh, fresh, COST):
        assert cost.mixed_step_s(tokens, sequences, kv_tokens, pairs) == pytest.approx(expected_s)
