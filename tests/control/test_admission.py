"""Let in, or refused with a reason and a time that is true."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import EMBEDDER, GEMMA, NOW_S, arrived, quick, settings

from underlay.control import admission
from underlay.control.admission import Meter, Rate
from underlay.domain.errors import BadRequest, LimitReached, PromptTooLong, UnknownModel
from underlay.domain.keys import Limits

MODELS = {"gemma": GEMMA, "embedder": EMBEDDER}


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


def test_a_meter_without_limits_lets_everything_in():
    meter = Meter(Limits())
    for _ in range(1000):
        meter.admit(10**9, NOW_S)
    assert meter.open_requests == 1000


def test_a_concurrency_limit_counts_open_requests_only():
    meter = Meter(Limits(concurrent=2))
    meter.admit(1, NOW_S)
    meter.admit(1, NOW_S)
    with pytest.raises(LimitReached, match="2 requests of this key are open, its limit") as refused:
        meter.admit(1, NOW_S)
    assert refused.value.retry_after_s == 1.0
    meter.settle(1, 1, NOW_S)
    meter.admit(1, NOW_S)
    assert meter.open_requests == 2


@pytest.mark.parametrize(("limits", "unit"), [("requests_per_minute", "requests"), ("tokens_per_minute", "tokens")])
def test_a_refusal_names_its_limit_and_its_time_and_counts_nothing(limits, unit):
    meter = Meter(Limits(**{limits: 60}))
    for _ in range(60):
        meter.admit(1, NOW_S)
    for _ in range(3):  # being refused does not push the reset away
        with pytest.raises(LimitReached, match=f"limit of 60 {unit} per minute.*again in 1.0 s") as refused:
            meter.admit(1, NOW_S)
        assert refused.value.retry_after_s == pytest.approx(1.0)
    assert meter.open_requests == 60
    meter.admit(1, NOW_S + 1.0)


def test_a_request_refused_for_its_tokens_is_not_counted_among_requests():
    meter = Meter(Limits(requests_per_minute=2, tokens_per_minute=100))
    meter.admit(100, NOW_S)
    with pytest.raises(LimitReached, match="tokens"):
        meter.admit(1, NOW_S)
    assert meter.requests.left(NOW_S) == 1


@quick
@given(reserved=st.integers(0, 1000), used=st.integers(0, 1000))
def test_settling_leaves_exactly_what_was_used(reserved, used):
    """I9: a reservation is gone when its request is."""
    meter = Meter(Limits(tokens_per_minute=1000))
    meter.admit(reserved, NOW_S)
    meter.settle(reserved, used, NOW_S)
    assert meter.open_requests == 0
    assert meter.tokens.left(NOW_S) == 1000 - used


def test_nobody_is_counted_out_who_was_not_counted_in():
    with pytest.raises(AssertionError):
        Meter(Limits()).settle(0, 0, NOW_S)


def test_new_limits_start_over_but_open_requests_stay_counted():
    meter = Meter(Limits(requests_per_minute=1, concurrent=5))
    meter.admit(1, NOW_S)
    meter.set(Limits(requests_per_minute=1, concurrent=1))
    with pytest.raises(LimitReached, match="1 requests of this key are open"):
        meter.admit(1, NOW_S)
    meter.settle(1, 1, NOW_S)
    meter.admit(1, NOW_S)


def test_a_model_is_found_with_its_policy():
    assert admission.model_policy(MODELS, arrived()) is GEMMA


def test_an_unknown_model_is_told_which_there_are():
    with pytest.raises(UnknownModel, match="model 'gpt' is not served here; there is: gemma, embedder") as refused:
        admission.model_policy(MODELS, arrived(model="gpt"))
    assert refused.value.param == "model"


def test_a_model_is_asked_only_for_what_it_does():
    with pytest.raises(BadRequest, match="model 'embedder' does not serve chats"):
        admission.model_policy(MODELS, arrived(model="embedder"))
    assert admission.model_policy(MODELS, arrived(model="embedder", operation="embedding")) is EMBEDDER


@pytest.mark.parametrize(
    ("field", "fits", "error", "says"),
    [
        ("prompt_bytes", 48_000, PromptTooLong, "the prompt has 48001 bytes; the context of 'gemma' is 1000"),
        ("max_tokens", 1000, BadRequest, "1001 tokens were asked for"),
        ("strands", 8, BadRequest, "9 answers were asked for; at most 8"),
    ],
)
def test_sizes_are_refused_just_beyond_what_can_fit(field, fits, error, says):
    admission.check_size(arrived(**{field: fits}), GEMMA, settings())
    with pytest.raises(error, match=says):
        admission.check_size(arrived(**{field: fits + 1}), GEMMA, settings())


def test_tokens_are_reserved_for_the_prompt_and_for_each_answer():
    assert admission.tokens_to_reserve(arrived(prompt_bytes=40)) == 11
    assert admission.tokens_to_reserve(arrived(prompt_bytes=40, max_tokens=100, strands=3)) == 311
