from dataclasses import replace
from math import inf

import pytest
from tests.twin.plan.builders import demand

from underlay.physics import power, profiles
from underlay.twin.engine import PagedRules
from underlay.twin.plan.steady import Shape, steady
from underlay.twin.plan.sustained import Bench, Target

PROFILE = profiles.find("h100-sxm", "llama-3.1-8b", "tp1", "bf16")
CURVE = power.find("h100-sxm", "llama-3.1-8b", 1, "bf16")
RULES = PagedRules(blocks=20_000, prefix_caching=False, context_tokens=8192)


def bench(target=None, made=None, **more):
    return Bench(
        PROFILE.coefficients, RULES, CURVE, made or demand(), target or Target(1.0, 0.03, 0.98), 64, **more
    )


def test_the_highest_rate_keeps_the_promise_and_a_little_more_breaks_it():
    made = bench()
    found = made.highest(10.0)
    assert made.target.kept(found)
    assert not made.target.kept(made.run(found.rate_per_s * 1.05))
    assert made.highest(40.0).rate_per_s == pytest.approx(found.rate_per_s, rel=0.03)  # from anywhere


def test_it_lies_near_the_formula_where_only_the_mean_counts():
    """With half of all requests in time, TPOT is held on average: what the closed form reckons with."""
    made = bench(Target(inf, 0.03, 0.5))
    said = steady(
        PROFILE.coefficients, Shape.of(made.demand), kv_tokens=320_000, step_tokens=8192, max_sequences=256,
        ttft_s=None, tpot_s=0.03,
    )  # fmt: skip
    assert made.highest(said.rate_per_s).rate_per_s == pytest.approx(said.rate_per_s, rel=0.25)


def test_equal_dice_give_equal_runs_and_bursts_carry_less():
    assert bench().run(20.0) == bench().run(20.0)
    assert bench().run(20.0) != bench(seed=1).run(20.0)
    burst = demand(20.0, 20.0, cv=4.0)  # all of it comes to this one replica
    assert bench(made=burst).highest(20.0).rate_per_s < bench(made=replace(burst, cv=1.0)).highest(20.0).rate_per_s
    shared = demand(2000.0, 2000.0, cv=4.0)  # a hundredth of a load feels little of its bursts
    assert bench(made=shared).run(20.0).ttft_p99_s < bench(made=burst).run(20.0).ttft_p99_s


def test_a_promise_that_cannot_be_kept_is_none():
    assert bench(Target(0.001, 0.03, 0.98)).highest(10.0) is None


def test_watts_lie_between_idle_and_the_limit_and_rise_with_the_load():
    some = [bench().run(rate) for rate in (0.5, 5.0, 20.0)]
    assert CURVE.idle_w < some[0].power_w < some[1].power_w < some[2].power_w < CURVE.limit_w
    assert some[0].busy_share < some[1].busy_share <= 1.0


def test_a_queue_that_grows_is_seen_where_nothing_else_is_promised():
    made = bench(Target(inf, inf, 0.9))
    assert not made.run(500.0).stable
    assert made.run(5.0).stable
