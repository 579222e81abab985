"""So much a minute, exactly; and whose limit it was."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import NOW_S, quick

from underlay.control.limits import Meter, Rate
from underlay.domain.errors import LimitReached
from underlay.domain.keys import Limits


class Bucket:
    """What a limit means, in exact arithmetic: a bucket of a minute's worth that drains all the time."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.taken = Fraction(0)
        self.at = Fraction(0)

    def _drain(self, at: float) -> None:
        drained = (Fraction(at) - self.at) * self.per_minute / 60
        self.taken, self.at = max(Fraction(0), self.taken - drained), Fraction(at)

    def wait_s(self, units: int, at: float) -> Fraction:
        self._drain(at)
        over = self.taken + min(units, self.per_minute) - self.per_minute
        return max(Fraction(0), over * 60 / self.per_minute)

    def take(self, units: int, at: float) -> None:
        self._drain(at)
        self.taken = max(Fraction(0), self.taken + units)


takes = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 0.001, 0.5, 7.3, 59.0, 61.0]), st.integers(-50, 200)), max_size=40
)


@quick
@given(per_minute=st.integers(1, 100), start=st.sampled_from([0.0, NOW_S, NOW_S + 0.123456]), steps=takes)
def test_a_rate_is_a_bucket_that_drains(per_minute, start, steps):
    rate, model, at = Rate(per_minute), Bucket(per_minute), start
    for later_s, units in steps:
        at += later_s
        wait_s = rate.wait_s(units, at) if units > 0 else 0.0
        truth_s = model.wait_s(units, at) if units > 0 else Fraction(0)
        assert wait_s == pytest.approx(float(truth_s), abs=2e-6)
        if wait_s == 0.0:
            rate.take(units, at)
            model.take(units, at)
        assert abs(rate.left(at) - (per_minute - model.taken)) < 1 + 1e-3 or model.taken > per_minute


@quick
@given(per_minute=st.integers(1, 1000), at=st.floats(0, 4e9))
def test_a_whole_minutes_worth_may_come_at_once_whatever_the_clock_says(per_minute, at):
    """Sums of Unix seconds round; the debt is kept apart from them, so nobody loses the last of a burst."""
    rate = Rate(per_minute)
    for taken in range(per_minute):
        assert rate.left(at) == per_minute - taken
        assert rate.wait_s(1, at) == 0.0
        rate.take(1, at)
    assert rate.left(at) == 0
    assert rate.wait_s(1, at) == pytest.approx(60 / per_minute)


@quick
@given(per_minute=st.integers(1, 10_000), at=st.floats(0, 4e9), units=st.integers(1, 10_000))
def test_who_waits_as_long_as_told_is_let_in(per_minute, at, units):
    rate = Rate(per_minute)
    rate.take(per_minute, at)
    later = at + rate.wait_s(units, at)
    assert rate.wait_s(units, later) == 0.0


def test_more_than_a_whole_minute_is_let_through_once_and_paid_off():
    rate = Rate(60)
    assert rate.wait_s(600, NOW_S) == 0.0
    rate.take(600, NOW_S)
    assert rate.full_at == NOW_S + 600
    assert rate.wait_s(1, NOW_S) == pytest.approx(541)
    assert rate.left(NOW_S + 100) == 0
    assert rate.left(NOW_S + 600) == 60


def test_what_is_given_back_never_makes_more_than_the_limit():
    rate = Rate(10)
    rate.take(5, NOW_S)
    rate.take(-500, NOW_S + 1)
    assert rate.left(NOW_S + 1) == 10


class Truth:
    """A rate that knows the future: whoever was let in took, from the beginning, what it was to use."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.takes: list[tuple[float, int]] = []

    def taken(self, at: float) -> float:
        level, last = 0.0, NOW_S
        for when, units in sorted(self.takes):
            level = max(0.0, level - (when - last) * self.per_minute / 60) + units
            last = when
        return max(0.0, level - (at - last) * self.per_minute / 60)


@quick
@given(
    per_minute=st.integers(10, 1000),
    asked=st.lists(
        st.tuples(
            st.floats(0, 120).map(lambda at: round(at, 1)),  # arrives
            st.floats(0, 120).map(lambda s: round(s, 1)),  # lasts
            st.integers(0, 100),  # reserves, in percent of the limit
            st.integers(0, 100),  # uses, in percent of that
        ),
        max_size=12,
    ),
)
def test_a_correction_gives_nobody_more_than_if_the_truth_had_been_known(per_minute, asked):
    """One at a time: what is given back was never more than what the request had not used."""
    rate, truth, at = Rate(per_minute), Truth(per_minute), NOW_S
    for gap, lasts, reserved_share, used_share in asked:
        at += gap
        reserved = per_minute * reserved_share // 100
        used = reserved * used_share // 100
        if rate.wait_s(reserved, at):
            continue
        rate.take(reserved, at)
        receipt = rate.receipt()
        truth.takes.append((at, used))
        at += lasts
        rate.correct(receipt, reserved, used, at)
        clocked = per_minute / 60.0 * 1e-6  # Unix seconds in a float tell apart a quarter of a microsecond
        assert per_minute - rate.left(at) >= truth.taken(at) - 1e-6 - clocked


def test_a_minute_that_was_reserved_and_waited_out_is_not_given_back():
    """It has drained by then; what the second request took would be handed to a third."""
    rate = Rate(100)
    rate.take(100, NOW_S)
    first = rate.receipt()
    rate.take(100, NOW_S + 60)
    rate.correct(first, 100, 0, NOW_S + 60)
    assert rate.left(NOW_S + 60) == 0


def test_a_busy_rate_gives_all_back_however_long_the_request_took():
    """What ran behind others had not begun to drain: a cautious refund would refuse work that is due."""
    rate = Rate(60)
    rate.take(50, NOW_S)
    rate.take(10, NOW_S)
    second = rate.receipt()
    rate.correct(second, 10, 1, NOW_S + 40)
    assert rate.left(NOW_S + 40) == 60 - (60 - 40 - 9)


@quick
@given(reserved=st.integers(0, 1000), used=st.integers(0, 2000))
def test_a_correction_at_once_leaves_exactly_what_was_used(reserved, used):
    rate = Rate(1000)
    rate.take(reserved, NOW_S)
    rate.correct(rate.receipt(), reserved, used, NOW_S)
    assert rate.left(NOW_S) == max(0, 1000 - used)


def let_in(meter: Meter, tokens: int, at: float):
    meter.check(tokens, at)
    return meter.take(tokens, at)


def test_a_meter_without_limits_lets_everything_in():
    meter = Meter(Limits())
    for _ in range(1000):
        assert let_in(meter, 10**9, NOW_S) is None
    assert meter.open_requests == 1000


def test_a_concurrency_limit_counts_open_requests_only():
    meter = Meter(Limits(concurrent=2), "user ann's")
    let_in(meter, 1, NOW_S)
    let_in(meter, 1, NOW_S)
    with pytest.raises(LimitReached, match=r"^user ann's limit of 2 open requests is reached") as refused:
        let_in(meter, 1, NOW_S)
    assert refused.value.retry_after_s == 1.0
    meter.leave()
    let_in(meter, 1, NOW_S)
    assert meter.open_requests == 2


@pytest.mark.parametrize(("limits", "unit"), [("requests_per_minute", "requests"), ("tokens_per_minute", "tokens")])
def test_a_refusal_names_its_limit_and_its_time_and_counts_nothing(limits, unit):
    meter = Meter(Limits(**{limits: 60}), "team acme's")
    says = f"^team acme's limit of 60 {unit} per minute is reached; it has room again in 1.0 s$"
    for _ in range(60):
        let_in(meter, 1, NOW_S)
    for _ in range(3):  # being refused does not push the reset away
        with pytest.raises(LimitReached, match=says) as refused:
            let_in(meter, 1, NOW_S)
        assert refused.value.retry_after_s == pytest.approx(1.0)
    assert meter.open_requests == 60
    let_in(meter, 1, NOW_S + 1.0)


def test_a_request_refused_for_its_tokens_is_not_counted_among_requests():
    meter = Meter(Limits(requests_per_minute=2, tokens_per_minute=100))
    let_in(meter, 100, NOW_S)
    with pytest.raises(LimitReached, match="tokens"):
        let_in(meter, 1, NOW_S)
    assert meter.requests.left(NOW_S) == 1


def test_nobody_is_counted_out_who_was_not_counted_in():
    with pytest.raises(AssertionError):
        Meter(Limits()).leave()


def test_new_limits_start_over_where_they_changed_and_open_requests_stay_counted():
    meter = Meter(Limits(requests_per_minute=2, tokens_per_minute=10, concurrent=5))
    let_in(meter, 10, NOW_S)
    meter.set(Limits(requests_per_minute=2, tokens_per_minute=20, concurrent=1))
    with pytest.raises(LimitReached, match="limit of 1 open requests"):
        let_in(meter, 1, NOW_S)
    assert meter.requests.left(NOW_S) == 1
    assert meter.tokens.left(NOW_S) == 20


def test_what_was_taken_under_old_limits_is_not_given_back_under_new_ones():
    meter = Meter(Limits(tokens_per_minute=1000))
    receipt = let_in(meter, 900, NOW_S)
    meter.set(Limits(tokens_per_minute=500))
    let_in(meter, 400, NOW_S)
    receipt[0].correct(receipt, 900, 0, NOW_S)
    assert meter.tokens.left(NOW_S) == 100
