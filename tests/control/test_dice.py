"""Dice that a seed loads."""

from hypothesis import given
from hypothesis import settings as pace
from hypothesis import strategies as st

from underlay.control.dice import Dice


def test_splitmix64_as_published():
    """The first numbers of seed 1234567, from the authors' C program."""
    dice = Dice(1234567)
    assert [dice.next() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_equal_seeds_throw_equally_and_others_differently():
    assert [Dice(5).next() for _ in range(9)] == [Dice(5).next() for _ in range(9)]
    assert len({Dice(seed).next() for seed in range(1000)}) == 1000


@pace(max_examples=30, deadline=None)
@given(st.integers(), st.integers(1, 1000))
def test_numbers_keep_within_bounds(seed, count):
    dice = Dice(seed)
    assert 0 <= dice.next() < 2**64
    assert 0 <= dice.below(count) < count
    assert 0.0 <= dice.share() < 1.0


def test_shares_are_even():
    dice = Dice(1)
    tenths = [0] * 10
    for _ in range(5000):
        tenths[int(dice.share() * 10)] += 1
    assert all(420 < count < 580 for count in tenths)
