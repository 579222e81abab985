"""What a request will probably take, learnt from what others took."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.control.energy_need import EnergyNeed

rates = st.floats(0.0, 100.0)
sizes = st.tuples(st.integers(0, 5000), st.integers(0, 5000))


def learnt(*requests):
    need = EnergyNeed()
    for prompt, completion, joules in requests:
        need.add(prompt, completion, joules)
    return need


def test_before_a_meter_has_told_nothing_is_expected():
    assert EnergyNeed().of(1000, 1000) == 0.0
    assert learnt((0, 0, 5.0)).of(1000, 1000) == 0.0


def test_one_request_says_what_another_like_it_will_take():
    need = learnt((100, 50, 30.0))
    assert need.of(100, 50) == pytest.approx(30.0)
    assert need.of(200, 100) == pytest.approx(60.0)


@quick
@given(rates, rates, st.lists(sizes, min_size=1, max_size=30))
def test_two_rates_that_tell_apart_are_found(prompt_j, completion_j, asked):
    asked = [*asked, (1000, 10), (10, 1000)]
    need = learnt(*((p, c, prompt_j * p + completion_j * c) for p, c in asked))
    assert need.of(700, 300) == pytest.approx(prompt_j * 700 + completion_j * 300, rel=1e-6, abs=1e-6)


@quick
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000), st.floats(0, 1e6)), max_size=60))
def test_rates_are_never_negative(requests):
    need = learnt(*requests)
    assert need.joules_prompt >= 0.0
    assert need.joules_completion >= 0.0


def test_the_latest_count_most():
    """A batch that fills up makes tokens cheaper: what was true an hour ago is not expected any more."""
    need = learnt(*[(100, 100, 500.0)] * 200, *[(100, 100, 50.0)] * 400)
    assert need.of(100, 100) == pytest.approx(50.0, rel=0.1)
