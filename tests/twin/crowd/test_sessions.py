from itertools import islice, pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.control.builders import quick

from underlay.twin.crowd.arrivals import Arrivals
from underlay.twin.crowd.sessions import Sessions
from underlay.twin.crowd.spreads import Exponential, Fixed, Geometric, Lognormal
from underlay.twin.crowd.tenants import Region, Tenant

CROWD = Sessions(
    arrivals=Arrivals(5.0, stop_s=400.0),
    turns=Geometric(mean=4),
    question=Lognormal(mean=100, cv=1),
    answer=Lognormal(mean=300, cv=1),
    think_s=Exponential(mean=30),
    tenants=(Tenant("ann", prefix_tokens=1100), Tenant("bob")),
    region="west",
    model="m",
    link_tokens=64,
)


def conversation(crowd, call, answered_in_s=2.0):
    turns = [call]
    while (call := crowd.follow_up(call, "finished", call.at + answered_in_s, Random(0))) is not None:
        turns.append(call)
    return turns


def conversations(crowd, count, seed=1):
    return [conversation(crowd, call) for call in islice(crowd.calls(Random(seed)), count)]


def test_each_turn_says_again_all_that_was_said():
    for turns in conversations(CROWD, 200):
        for number, (one, later) in enumerate(pairwise(turns), start=1):
            assert (one.turn, later.turn) == (number, number + 1)
            assert later.prompt_tokens > one.prompt_tokens + one.output_tokens
            assert later.links[: len(one.links)] == one.links
            assert len(one.links) == (one.prompt_tokens + one.output_tokens) // 64
            assert later.session == one.session != 0
            assert (later.tenant, later.region, later.model) == (one.tenant, "west", "m")


def test_turns_and_thoughts_are_as_long_as_they_should():
    found = conversations(CROWD, 1500)
    assert np.mean([len(turns) for turns in found]) == pytest.approx(4, rel=0.1)
    thoughts = [later.at - one.at - 2.0 for turns in found for one, later in pairwise(turns)]
    assert np.mean(thoughts) == pytest.approx(30, rel=0.07)
    assert min(thoughts) >= 0


def test_conversations_share_their_tenants_system_prompt_and_nothing_else():
    anns = [turns[0] for turns in conversations(CROWD, 40) if turns[0].tenant == "ann"]
    assert len({call.links[:17] for call in anns}) == 1
    beyond = [link for call in anns for link in call.links[17:]]
    assert len(set(beyond)) == len(beyond)
    assert min(call.prompt_tokens for call in anns) > 1100
    bobs = [link for turns in conversations(CROWD, 40) if turns[0].tenant == "bob" for link in turns[-1].links]
    assert not set(bobs) & {link for call in anns for link in call.links}


def test_what_is_said_does_not_depend_on_when_it_is_answered():
    quickly, slowly = (
        [
            (call.prompt_tokens, call.output_tokens, call.links)
            for first in islice(CROWD.calls(Random(3)), 50)
            for call in conversation(CROWD, first, answered_in_s)
        ]
        for answered_in_s in (0.1, 100.0)
    )
    assert quickly == slowly


@pytest.mark.parametrize("outcome", ["refused", "failed", "left"])
def test_a_conversation_ends_with_a_call_that_is_not_finished(outcome):
    for call in islice(CROWD.calls(Random(1)), 20):
        assert CROWD.follow_up(call, outcome, call.at + 1, Random(0)) is None


@quick
@given(st.integers(1, 4000))
def test_no_turn_is_longer_than_the_context(context_tokens):
    crowd = replace(CROWD, context_tokens=context_tokens)
    for turns in conversations(crowd, 30):
        assert all(call.prompt_tokens + call.output_tokens <= context_tokens for call in turns)


def test_the_rate_counts_all_turns_that_fit():
    assert CROWD.rate_per_s(10.0) == pytest.approx(20.0, rel=0.06)
    assert CROWD.rate_per_s(401.0) == 0.0
    assert replace(CROWD, context_tokens=1000).rate_per_s(10.0) < 10.0
    assert replace(CROWD, context_tokens=1).rate_per_s(10.0) == 0.0


def test_typical_calls_are_turns_of_typical_conversations():
    calls = CROWD.sample(3000, Random(1))
    every = [call for turns in conversations(CROWD, 800) for call in turns]
    assert np.mean([call.prompt_tokens for call in calls]) == pytest.approx(
        np.mean([call.prompt_tokens for call in every]), rel=0.15
    )
    assert {call.at for call in calls} == {0.0}
    assert replace(CROWD, context_tokens=1).sample(5, Random(1)) == []


def test_regions_have_their_share():
    crowd = CROWD.across((Region("eu"), Region("us")))
    assert crowd.follows
    assert crowd.rate_per_s(10.0) == pytest.approx(CROWD.rate_per_s(10.0))
    first = next(crowd.calls(Random(1)))
    follow = next(
        c for call in crowd.calls(Random(1)) if (c := crowd.follow_up(call, "finished", call.at, Random(1)))
    )
    assert {first.region, follow.region} <= {"eu", "us"}


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="link_tokens"):
        replace(CROWD, link_tokens=0)
    with pytest.raises(ValueError, match="context_tokens"):
        replace(CROWD, context_tokens=-1)
    assert CROWD.tenant_bands() == {"ann": "", "bob": ""}
    assert replace(CROWD, turns=Fixed(1)).rate_per_s(1.0) == 5.0
