import pytest

from underlay.physics import profiles
from underlay.twin.engine import PagedRules, SlotRules
from underlay.twin.fluid.guess import Guess

TIMES = profiles.find("h100-sxm", "llama-3.1-8b", "tp1", "bf16").coefficients
LENGTHS = [(400, 100)] * 64


def test_one_alone_takes_its_steps():
    guess = Guess(LENGTHS, PagedRules(blocks=10_000), TIMES)
    step_s = TIMES.decode_step_s(1, 450)
    prompt_s = TIMES.step_s(400, 1, 450) - step_s
    assert guess.context_tokens == pytest.approx(450)
    assert guess.rate_per_s(1.0) == pytest.approx(1.0 / (100 * step_s + prompt_s))


def test_more_inside_end_more_and_later():
    guess = Guess(LENGTHS, PagedRules(blocks=10_000), TIMES)
    rates = [guess.rate_per_s(inside) for inside in (1, 4, 16, 64, 200)]
    assert rates == sorted(rates)
    stays = [guess.seconds(inside) for inside in (1, 4, 16, 64, 200)]
    assert stays == sorted(stays)


def test_what_a_replica_runs_is_bounded_by_sequences_memory_and_slots():
    assert Guess(LENGTHS, PagedRules(blocks=1_000_000, max_sequences=64), TIMES).most == 64
    assert Guess(LENGTHS, PagedRules(blocks=450, max_sequences=64), TIMES).most == pytest.approx(16)
    assert Guess(LENGTHS, SlotRules(slots=4), TIMES).most == 4


def test_slower_clocks_stretch_but_not_more_than_they_are_slower():
    guess = Guess(LENGTHS, PagedRules(blocks=10_000), TIMES)
    assert guess.stretch(20.0, 1.0) == 1.0
    assert 1.0 < guess.stretch(20.0, 1.5) < 1.5
