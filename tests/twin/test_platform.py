"""The modelled platform: the desk's effects performed on modelled engines, whatever befalls them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.domain.money import Price
from underlay.domain.policy import DeskSettings, ModelPolicy
from underlay.physics import profiles
from underlay.twin.crowd.call import Call
from underlay.twin.engine import PagedRules, SlotRules
from underlay.twin.kernel import Kernel
from underlay.twin.modelled import Modelled
from underlay.twin.platform import Platform

TIMES = profiles.find("h100-sxm", "llama-3.1-8b", "tp1", "bf16").coefficients


class World:
    """A platform with a few replicas, and what became of every call."""

    def __init__(self, replicas=2, rules=None, **settings):
        self.kernel = Kernel(7)
        self.ended = []
        price = Price(prompt_usd_per_mtok=Decimal(1), completion_usd_per_mtok=Decimal(2))
        model = ModelPolicy("m", context_tokens=8192, price=price)
        settings = DeskSettings(models=(model,), **settings)
        self.platform = Platform(self.kernel, settings, {}, self._ended)
        self.kernel.check = self.platform.check
        for number in range(replicas):
            replica = Modelled(f"r{number}", "m", rules or PagedRules(blocks=2000, max_sequences=8), TIMES)
            self.platform.add(replica)
            self.platform.start(0.0, replica.name)

    def _ended(self, platform, exchange, outcome, at):
        self.ended.append((exchange, outcome, at))

    def call(self, at, prompt=500, output=100, **more):
        call = Call(at, prompt, output, model="m", tenant="t", **more)
        self.kernel.call(at, self._arrive, call)
        return call

    def _arrive(self, at, call):
        self.platform.arrive(at, call, None)

    def later(self, at, verb, *args, **kwargs):
        self.kernel.call(at, lambda now, _: verb(now, *args, **kwargs))

    def outcomes(self):
        return [outcome for _, outcome, _ in self.ended]


def test_a_call_is_answered_with_all_its_tokens_and_billed_once():
    world = World()
    world.call(0.0, prompt=1000, output=50)
    world.kernel.run()
    (exchange, outcome, at) = world.ended[0]
    assert outcome == "finished"
    assert exchange.delivered == 50
    prefill_s = TIMES.prefill_s(1000)
    assert exchange.first_at == pytest.approx(prefill_s)
    assert at == pytest.approx(prefill_s + sum(TIMES.decode_step_s(1, 1000 + step) for step in range(1, 50)))
    assert world.platform.revenue_pico_usd == 1000 * 10**6 + 50 * 2 * 10**6


def test_a_lost_replica_hands_its_streams_on_and_no_token_is_computed_twice_or_missed():
    world = World()
    for number in range(8):
        world.call(0.01 * number, output=400)
    world.later(1.0, world.platform.lose, "r0", "crashed")
    world.kernel.run()
    assert world.outcomes() == ["finished"] * 8
    moved = [exchange for exchange, _, _ in world.ended if exchange.attempts > 1]
    assert moved
    assert all(exchange.delivered == 400 for exchange, _, _ in world.ended)
    assert all(exchange.served_by.name == "r1" for exchange in moved)


def test_a_silent_replica_is_noticed_in_time_and_its_streams_go_on_elsewhere():
    world = World()
    for number in range(8):
        world.call(0.01 * number, output=400)
    world.later(1.0, world.platform.silence, "r0", "no power")
    world.kernel.run()
    assert world.outcomes() == ["finished"] * 8
    assert all(exchange.delivered == 400 for exchange, _, _ in world.ended)
    moved = [at for exchange, _, at in world.ended if exchange.attempts > 1]
    assert min(moved) > 3.0  # nothing came of them for the two seconds until somebody noticed


def test_a_caller_without_patience_leaves_and_frees_its_place():
    world = World(replicas=1, rules=SlotRules(slots=1, slot_tokens=8192))
    world.call(0.0, output=1000)
    world.call(0.1, output=10, deadline_s=0.5)
    world.kernel.run()
    assert sorted(world.outcomes()) == ["finished", "left"]
    assert world.ended[0][2] == pytest.approx(0.6)


def test_a_prompt_that_no_engine_can_hold_is_refused():
    world = World(rules=PagedRules(blocks=100, max_sequences=8))
    world.call(0.0, prompt=4000)
    world.kernel.run()
    assert world.outcomes() == ["refused"]


def test_a_version_that_fails_all_requests_is_tried_no_more_than_the_desk_allows():
    world = World(replicas=3, routing="round_robin")
    world.platform.replicas["r0"].fail_share = 1.0
    for number in range(30):
        world.call(0.2 * number)
    world.kernel.run()
    assert world.outcomes() == ["finished"] * 30
    assert world.platform.desk.replicas["r0"].ejections >= 1


def test_a_slow_and_a_throttled_replica_take_longer_and_are_well_again():
    world = World(replicas=1)
    world.call(0.0, output=101)
    world.later(5.0, world.platform.slow, "r0", 2.0)
    world.call(6.0, output=101)
    world.later(15.0, world.platform.slow, "r0", 1.0)
    world.later(15.0, world.platform.throttle, "r0", 1.5)
    world.call(16.0, output=101)
    world.later(25.0, world.platform.throttle, "r0", 1.0)
    world.call(26.0, output=101)
    world.kernel.run()
    usual, slowed, throttled, again = (at - exchange.call.at for exchange, _, at in world.ended)
    assert slowed == pytest.approx(2.0 * usual)
    assert usual < throttled < 1.5 * usual
    assert again == pytest.approx(usual)


def test_a_shut_door_breaks_what_is_open_and_lets_nobody_in_until_it_is_open_again():
    world = World()
    world.call(0.0, output=1000)
    world.later(1.0, world.platform.shut)
    world.call(2.0)
    world.later(3.0, lambda _: world.platform.reopen())
    world.call(4.0)
    world.kernel.run()
    assert world.outcomes() == ["failed", "failed", "finished"]


happenings = st.lists(
    st.tuples(
        st.floats(0.0, 20.0),
        st.sampled_from(["lose", "silence", "start", "slow", "throttle", "drain", "errors", "leave"]),
        st.integers(0, 2),
    ),
    max_size=12,
)
calls = st.lists(
    st.tuples(st.floats(0.0, 20.0), st.integers(1, 3000), st.integers(1, 600), st.booleans()),
    min_size=1,
    max_size=40,
)


@quick
@given(calls=calls, happenings=happenings, slotted=st.booleans(), hedges=st.booleans())
def test_whatever_befalls_it_every_call_ends_once_and_nothing_is_left_behind(calls, happenings, slotted, hedges):
    rules = SlotRules(slots=3, slot_tokens=4096) if slotted else PagedRules(blocks=600, max_sequences=6)
    world = World(replicas=3, rules=rules, wait_max_s=30.0, hedge_share=0.1 if hedges else 0.0)
    platform = world.platform
    for at, prompt, output, hasty in calls:
        world.call(at, prompt, output, deadline_s=0.3 if hasty else None, links=(prompt // 512,) * (prompt // 512))

    def befall(now, what):
        verb, name = what[0], f"r{what[1]}"
        replica = platform.replicas[name]
        if verb == "start":
            if replica.state != "ready":
                if replica.state == "silent":
                    platform.lose(now, name, "started anew")
                platform.start(now, name)
        elif verb in {"slow", "throttle"}:
            getattr(platform, verb)(now, name, 1.7)
        elif verb == "drain":
            platform.drain(now, name)
        elif verb == "errors":
            replica.fail_share = 0.5
        elif verb == "leave":
            for exchange in list(platform.open.values())[:1]:
                platform.leave(now, exchange)
        else:
            getattr(platform, verb)(now, name, verb)

    for at, verb, number in happenings:
        world.kernel.call(at, befall, (verb, number))
    world.kernel.run(2000.0)
    assert len(world.ended) == len(calls)
    assert not platform.open
    assert not platform.desk.tickets
    for exchange, outcome, _ in world.ended:
        if outcome == "finished":
            context = 4096 if slotted else 1 << 30
            assert exchange.delivered == min(exchange.call.output_tokens, context - exchange.call.prompt_tokens)
    for replica in platform.replicas.values():
        assert not replica.attempts
        if replica.state == "ready":
            assert replica.engine.running_count == replica.engine.waiting_count == 0


def test_a_replica_that_is_struck_twice_while_silent_is_still_noticed():
    world = World(replicas=2)
    world.call(0.0, output=400)
    for name in ("r0", "r1"):
        world.later(1.0, world.platform.silence, name, "no power")
    world.later(1.5, world.platform.silence, "r0", "no network")
    world.later(20.0, world.platform.start, "r1")
    world.kernel.run()
    assert world.outcomes() == ["finished"]
