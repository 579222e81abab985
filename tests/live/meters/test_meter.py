"""What a meter says, and how much of it can be believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.support.meters import Clock, SimulatedMeter

from underlay.domain.figures import Figure
from underlay.live.meters.meter import Boundary, Meter, Quantum, Reading, Tally

NVML = Quantum(0.1, 0.0)


def meter(quantum: Quantum = NVML, peak_w: float = 700.0) -> Meter:
    made = Meter("m", Boundary("host", "everything"), "measured", quantum)
    made.peak_w = peak_w
    return made


def at(seconds: float, joules: float, epoch: int = 0) -> Reading:
    return Reading(seconds, joules, joules, joules, epoch)


def test_a_counter_is_off_by_one_refresh_at_full_power() -> None:
    consumed = meter().consumed(at(10, 500), at(20, 4000))
    assert consumed == (10, 3500, 3430, 3570, 70)
    assert consumed.uncertainty_joules == pytest.approx(70)


def test_a_window_in_which_the_counter_did_not_move_is_not_certainly_nothing() -> None:
    consumed = meter().consumed(at(10, 500), at(10.05, 500))
    assert (consumed.joules, consumed.low_joules, consumed.high_joules) == (0, 0, 70)


def test_nothing_is_known_across_a_loss_and_nothing_backwards() -> None:
    assert meter().consumed(at(10, 500), at(20, 4000, epoch=1)) is None
    with pytest.raises(ValueError, match="not after"):
        meter().consumed(at(20, 1), at(20, 2))


def test_the_ledgers_figure_carries_meter_boundary_and_the_worse_side() -> None:
    made = meter(Quantum(0.0, 1.0))
    consumed = made.consumed(Reading(0, 0, 0, 0), Reading(1, 10, 8, 15))
    assert made.figure(consumed) == Figure(10, "J", "measured", "m", "everything", 6)
    assert consumed.grain_joules == 1  # what its level may be off by is the same in the next window


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("host", "host/accelerator-0", True),
        ("host/board", "host/board/dram-0", True),
        ("host/board/package-0", "host/board/package-0", True),
        ("host/board/package-1", "host/board/package-10", False),
        ("host/board", "host/accelerator-0", False),
    ],
)
def test_boundaries_know_what_would_be_counted_twice(one: str, other: str, shared: bool) -> None:
    assert Boundary(one, "").overlaps(Boundary(other, "")) is shared
    assert Boundary(other, "").overlaps(Boundary(one, "")) is shared


def test_a_tally_begins_a_new_epoch_where_a_piece_is_missing() -> None:
    tally = Tally()
    tally.add(2, 1, 3)
    before = tally.reading(1.0)
    tally.lose()
    assert (before, tally.reading(2.0)) == (Reading(1.0, 2, 1, 3, 0), Reading(2.0, 2, 1, 3, 1))


@quick
@given(
    loads=st.lists(st.tuples(st.floats(0.01, 2.0), st.floats(0, 700)), min_size=1, max_size=12),
    begin=st.floats(0, 3),
    seconds=st.floats(0.01, 20),
    noise_j=st.floats(0, 5),
    seed=st.integers(0, 99),
)
def test_what_was_truly_drawn_lies_in_the_band(loads, begin, seconds, noise_j, seed) -> None:
    """Whatever the load does between two renewals, and whatever the noise."""
    clock = Clock(0.0)

    def true_joules(now: float) -> float:
        joules, at_s, number = 0.0, 0.0, 0
        while at_s < now:
            lasts, power_w = loads[number % len(loads)]
            joules += power_w * min(lasts, now - at_s)
            at_s += lasts
            number += 1
        return joules

    simulated = SimulatedMeter(true_joules, clock, peak_w=700, noise_j=noise_j, seed=seed)
    clock.on(begin)
    before = simulated.read()
    clock.on(seconds)
    after = simulated.read()
    consumed = simulated.consumed(before, after)
    drawn = true_joules(clock.now) - true_joules(begin)
    assert consumed.low_joules - 1e-6 <= drawn <= consumed.high_joules + 1e-6
