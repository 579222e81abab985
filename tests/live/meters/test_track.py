"""Windows of a meter: they add up, and say what they do not know."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.support.meters import Clock, SimulatedMeter

from underlay.live.meters.track import Track


def tracked(readings: int, every_s: float = 0.25, *, kept: int = 1000, power_w: float = 100.0, **simulated):
    clock = Clock(0.0)
    meter = SimulatedMeter(lambda now: power_w * now, clock, peak_w=power_w, **simulated)
    track = Track(meter, kept)
    for _ in range(readings):
        track.add(meter.read())
        clock.on(every_s)
    return track, meter, clock


def test_a_window_between_readings() -> None:
    track, _, _ = tracked(9, refresh_s=0.25)
    window = track.window(0.5, 1.5)
    assert window.why == ""
    assert window.consumed.joules == pytest.approx(100)
    assert window.silent_s == 0.25
    inside = track.window(0.6, 0.7)
    assert inside.consumed.joules == pytest.approx(10)
    assert inside.consumed.uncertainty_joules > window.consumed.uncertainty_joules  # the line may be off there


def test_what_is_not_known_yet_or_any_more_is_said() -> None:
    track, _, _ = tracked(20, kept=8)
    assert track.window(4.0, 5.0).why == "pending"
    assert track.window(1.0, 4.0).why == "forgotten"
    assert Track(track.meter, 8).window(0.0, 1.0).why == "pending"
    with pytest.raises(ValueError, match="ends after"):
        track.window(2.0, 2.0)


def test_a_loss_is_told_and_not_bridged() -> None:
    track, meter, clock = tracked(8, refresh_s=0.05)
    meter.reset()
    for _ in range(8):
        track.add(meter.read())
        clock.on(0.25)
    window = track.window(1.0, 3.0)
    assert (window.consumed, window.why) == (None, "lost")
    assert track.window(0.5, 1.5).consumed.joules == pytest.approx(100)
    assert track.window(2.0, 3.0).consumed.joules == pytest.approx(100)
    total = track.total()
    assert total.joules == pytest.approx(2 * 175)  # and not the 25 in between
    assert total.gaps == 1


def test_a_meter_that_was_silent_has_counted_on_and_the_window_says_how_long() -> None:
    track, meter, clock = tracked(4, refresh_s=0.25)
    meter.broken = True
    for _ in range(3):
        track.add(meter.read())
        clock.on(0.25)
    assert not track.total().reads
    meter.broken = False
    track.add(meter.read())
    window = track.window(0.5, 1.75)
    assert window.consumed.joules == pytest.approx(125)
    assert window.silent_s == 1.0
    assert (track.total().gaps, track.total().reads) == (1, True)
    # Within the silence the line may be off by all that was counted in it.
    assert track.window(0.75, 1.0).consumed.high_joules >= 100


def test_two_readings_at_one_time_are_one() -> None:
    track, meter, _ = tracked(4)
    track.add(track._readings[-1])
    assert len(track._readings) == 4
    assert meter.consumed(track._readings[0], track._readings[-1]) is not None


@quick
@given(
    cuts=st.lists(st.floats(0.0, 9.75), min_size=2, max_size=12, unique=True),
    noise_j=st.floats(0, 3),
    every_s=st.sampled_from([0.05, 0.13, 0.25, 0.975]),
    seed=st.integers(0, 99),
)
def test_windows_that_follow_each_other_add_up_to_the_meter(cuts, noise_j, every_s, seed) -> None:
    track, _, _ = tracked(int(10 / every_s) + 1, every_s, noise_j=noise_j, seed=seed)
    cuts = sorted(cuts)
    parts = [track.window(begin, end).consumed for begin, end in pairwise(cuts)]
    whole = track.window(cuts[0], cuts[-1]).consumed
    assert math.isclose(math.fsum(part.joules for part in parts), whole.joules, rel_tol=1e-9, abs_tol=1e-9)
    for part, (begin, end) in zip(parts, pairwise(cuts), strict=True):
        assert part.low_joules - 1e-6 <= 100.0 * (end - begin) <= part.high_joules + 1e-6
