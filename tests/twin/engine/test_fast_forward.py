"""The arithmetic series of a stretch: which step reaches a time."""

from hypothesis import assume, given
from hypothesis import strategies as st

from underlay.twin.engine.fast_forward import steps_to, steps_within


def total_s(first_s: float, growth_s: float, steps: int) -> float:
    return steps * (first_s + growth_s * 0.5 * (steps - 1))


@given(st.floats(1e-6, 1.0), st.floats(0.0, 1e-2), st.floats(1e-6, 1e6))
def test_the_step_that_reaches_a_time_is_the_first_that_does(first_s: float, growth_s: float, times: float) -> None:
    assume(first_s > 0.5 * growth_s)
    elapsed_s = times * first_s
    steps = steps_to(first_s, growth_s, elapsed_s)
    assert total_s(first_s, growth_s, steps) >= elapsed_s > total_s(first_s, growth_s, steps - 1)
    within = steps_within(first_s, growth_s, elapsed_s)
    assert total_s(first_s, growth_s, within) <= elapsed_s < total_s(first_s, growth_s, within + 1)


@given(st.integers(1, 100_000), st.floats(1e-3, 1.0), st.floats(0.0, 1e-3))
def test_a_time_that_steps_fill_exactly_is_reached_by_them(steps: int, first_s: float, growth_s: float) -> None:
    elapsed_s = total_s(first_s, growth_s, steps)
    assert steps_to(first_s, growth_s, elapsed_s) == steps_within(first_s, growth_s, elapsed_s) == steps


def test_before_its_first_step_has_ended_none_has() -> None:
    assert [steps_within(1.0, 0.1, elapsed_s) for elapsed_s in (-1.0, 0.0, 0.9)] == [0, 0, 0]
