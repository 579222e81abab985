"""Joules divided by sums are those that the ledger divides step by step."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.twin.engine.worlds import TIMES, chain

from underlay.domain.figures import Figure
from underlay.ledger.attribution import Window, attribute
from underlay.ledger.step_energy import Coefficients, StepModel
from underlay.ledger.steps import Step, TokenCosts
from underlay.twin.engine import ModelledEngine, PagedRules, Request, SlotRules
from underlay.twin.engine.shares import Shares, ShareWeights
from underlay.twin.ledger.weights import share_weights

COSTS = TokenCosts(
    token_flop=1.6e10, pair_flop=5.2e5, kv_token_bytes=131_072.0, kv_token_bytes_beyond_window=131_072.0
)
WINDOWED = COSTS._replace(kv_token_bytes_beyond_window=21_845.0, window_tokens=64)
MODEL = StepModel(Coefficients(3.27, 0.61, 0.0656, 0.013), "modelled", 0.1)
KINDS = [PagedRules(blocks=30, max_sequences=4, step_tokens=24, block_tokens=4, link_tokens=4),
         PagedRules(blocks=1000, max_sequences=12, step_tokens=64, block_tokens=4, prefix_caching=False, link_tokens=4),
         SlotRules(slots=3, slot_tokens=100, step_tokens=16, link_tokens=4)]  # fmt: skip


class Meter:
    """Watts for what an engine computes, and the same steps as the ledger wants them."""

    def __init__(self, rules: PagedRules | SlotRules, costs: TokenCosts, model: StepModel = MODEL) -> None:
        self.costs, self.model = costs, model
        self.joules = 0.0
        self.by_request: dict[str, float] = {}
        self.engine = ModelledEngine(rules, TIMES, self.computed, share_weights(model, costs))

    def computed(
        self, begun_at: float, steps: int, first_s: float, growth_s: float, sequences: int, prompt_tokens: int
    ) -> float:
        took_s = steps * (first_s + 0.5 * growth_s * (steps - 1))
        joules = took_s * (120.0 + 3.0 * sequences + 0.7 * prompt_tokens)
        self.divide(begun_at, took_s, steps, joules)
        return joules

    def divide(self, begun_at: float, took_s: float, steps: int, joules: float) -> None:
        """By the ledger; only ever asked while the fast path has written back nothing, so from requests alone."""
        engine, costs = self.engine, self.costs
        chunks = list(engine._chunks)
        works = []
        for request in engine._running.values():
            if request in chunks:
                works.append(costs.prefill(request.name, request.chunk, request.computed - request.chunk))
            elif request.joined_step >= 0:
                done = self.step() - request.joined_step
                works.append(costs.decode(request.name, request.computed + done, steps))
        window = Window(begun_at, begun_at + took_s, Figure(joules, "J", "modelled"), Figure(0.0, "W", "assumed"))
        accounts = attribute(window, [Step(begun_at, begun_at + took_s, tuple(works), steps=steps)], self.model)
        for entry in accounts.entries:
            self.by_request[entry.request] = self.by_request.get(entry.request, 0.0) + entry.joules
        self.joules += joules
        self.steps = self.step() + steps

    steps = 0

    def step(self) -> int:
        return self.steps


def crowd(seed: int, size: int) -> list[tuple[float, Request, float]]:
    """Requests with their arrivals, and when they are cancelled."""
    dice = Random(seed)
    pace_s, found, at = dice.choice([0.0, 0.004, 0.05]), [], 0.0
    for name in range(size):
        at += dice.expovariate(1.0) * pace_s
        prompt, output = dice.randint(1, 60), dice.randint(1, 39)
        links = chain(dice.randrange(3), (prompt + output) // 4) if dice.random() < 0.5 else ()
        gone_at = at + dice.expovariate(1.0) * 0.3 if dice.random() < 0.3 else float("inf")
        found.append((at, Request(str(name), prompt, output, links), gone_at))
    return found


def play(meter: Meter, asked: list[tuple[float, Request, float]], until: float = 1e9) -> None:
    engine = meter.engine
    events = [(at, 0, place, engine.arrive, request) for place, (at, request, _) in enumerate(asked)]
    events += [(at, 1, place, engine.cancel, request) for place, (_, request, at) in enumerate(asked) if at < until]
    for at, _, _, happens, request in sorted(events, key=lambda each: each[:3]):
        if at < until:
            happens(at, request)
    engine.advance(until)


def took(asked: list[tuple[float, Request, float]]) -> float:
    return sum(request.joules + request.wasted_j for _, request, _ in asked)


@quick
@given(seed=st.integers(0, 1 << 32), rules=st.sampled_from(KINDS), size=st.integers(1, 25))
def test_shares_are_those_of_the_ledger(seed, rules, size):
    meter, asked = Meter(rules, COSTS), crowd(seed, size)
    play(meter, asked)
    for _, request, _ in asked:
        expected = meter.by_request.get(request.name, 0.0)
        assert request.joules + request.wasted_j == pytest.approx(expected, rel=1e-9, abs=1e-9 * meter.joules)
    assert took(asked) == pytest.approx(meter.joules, rel=1e-9)


@quick
@given(seed=st.integers(0, 1 << 32), rules=st.sampled_from(KINDS), costs=st.sampled_from([COSTS, WINDOWED]),
       at=st.floats(0.0, 2.0))  # fmt: skip
def test_what_is_broken_off_has_been_drawn_for_those_who_ran(seed, rules, costs, at):
    meter, asked = Meter(rules, costs), crowd(seed, 20)
    play(meter, asked, until=at)
    took_s, _, _ = meter.engine.under_way(at)
    last_j = 250.0 * took_s
    meter.engine.break_off(at, last_j)
    assert took(asked) == pytest.approx(meter.joules + last_j, rel=1e-9, abs=1e-9)
    assert meter.engine.under_way(at + 1.0)[0] == 0.0


@pytest.mark.parametrize("prompt", [8, 100])
def test_within_and_beyond_a_window_shares_are_exact(prompt):
    meter = Meter(PagedRules(blocks=1000, step_tokens=512), WINDOWED)
    asked = [(0.01 * place, Request(str(place), prompt, 20 + place), float("inf")) for place in range(8)]
    play(meter, asked)
    for _, request, _ in asked:
        assert request.joules == pytest.approx(meter.by_request[request.name], rel=1e-9)


def test_who_crosses_a_window_pays_its_mean_and_nothing_is_lost():
    meter = Meter(PagedRules(blocks=1000, step_tokens=512), WINDOWED)
    asked = [(0.01 * place, Request(str(place), 40, 60), float("inf")) for place in range(8)]
    play(meter, asked)
    assert took(asked) == pytest.approx(meter.joules, rel=1e-9)
    for _, request, _ in asked:
        assert request.joules == pytest.approx(meter.by_request[request.name], rel=1e-3)


def test_what_a_preemption_threw_away_is_waste_when_it_is_computed_again():
    meter = Meter(
        PagedRules(blocks=20, block_tokens=4, step_tokens=512, prefix_caching=False, link_tokens=4), COSTS
    )
    asked = [(0.0, Request(str(place), 20, 30), float("inf")) for place in range(3)]
    play(meter, asked)
    preempted = [request for _, request, _ in asked if request.preemptions]
    assert preempted
    assert all(request.wasted_j > 0.0 for request in preempted)
    assert all(request.wasted_j == 0.0 for _, request, _ in asked if not request.preemptions)


def test_sums_that_begin_anew_lose_nothing_over_a_long_run():
    meter = Meter(PagedRules(blocks=100_000, step_tokens=512, block_tokens=4, link_tokens=4), COSTS)
    asked = [(0.9 * place, Request(str(place), 30, 3_000), float("inf")) for place in range(40)]
    play(meter, asked)
    assert meter.engine.batch.step > 4096
    for _, request, _ in asked:
        assert request.joules == pytest.approx(meter.by_request[request.name], rel=1e-9)


def test_a_model_that_knows_no_joules_divides_by_heads():
    nothing = StepModel(Coefficients(0.0, 0.0, 0.0, 0.0), "assumed", 1.0)
    meter = Meter(PagedRules(blocks=100, step_tokens=512), COSTS, nothing)
    asked = [(0.0, Request(name, 16, 10), float("inf")) for name in "ab"]
    play(meter, asked)
    first, second = (request.joules for _, request, _ in asked)
    assert first == pytest.approx(second)
    assert took(asked) == pytest.approx(meter.joules)


def test_what_is_drawn_for_nobody_is_said_to_be_nobodys():
    shares = Shares(ShareWeights(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), {})
    shares.owed_j = 2.0
    shares.stretch(5.0, 0, 1, 0, [])
    assert shares.nobodys_j == 7.0
