"""What holds for every policy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.routing.fleets import ask, carry, links, policy, pool_of, quick

from underlay.control.fleet import SCAN_MAX
from underlay.control.routing import POLICIES, Ask
from underlay.control.routing.policy import cached_tokens, first_of, survey

names = st.sampled_from(sorted(POLICIES))
EACH = pytest.mark.parametrize("name", POLICIES)
texts = st.text("abc", max_size=5)
fleets = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4), texts, st.booleans()), min_size=1, max_size=20)


def build(fleet):
    """A pool of those replicas with their load and what they hold, and those of them that may be chosen."""
    pool, index = pool_of(*[slots for slots, *_ in fleet])
    for number, (slots, load, text, _) in enumerate(fleet, 1):
        carry(pool, f"r{number}", min(slots, load), 100) if load else None
        index.insert(pool.members[f"r{number}"], links(text) if text else [])
    marked = [f"r{number}" for number, (*_, is_candidate) in enumerate(fleet, 1) if is_candidate]
    return pool, index, [replica for replica in pool.open if replica.name in marked]


@quick
@given(name=names, fleet=fleets, text=texts, session=st.integers(0, 3), tokens=st.integers(0, 500))
def test_only_candidates_are_chosen_and_never_more_is_expected_than_the_prompt_has(
    name, fleet, text, session, tokens
):
    pool, index, some = build(fleet)
    chooser = policy(name)
    for candidates in (pool.open, some):
        for _ in range(2 if candidates else 0):
            for replica in pool.members.values():
                chooser.probed(replica, replica.load, 0, 0.0)
            choice = chooser.choose(ask(tokens, text, session=session), candidates, pool, index)
            assert choice.replica in candidates
            assert 0 <= choice.cached_tokens <= max(tokens - 1, 0)
            assert choice.why
            held = index.held(choice.replica, links(text) if text else [])
            assert choice.cached_tokens == min(held * 16, max(tokens - 1, 0))
    assert all(replica.name in pool.members for replica in chooser.probes(pool))


@quick
@given(name=names, fleet=fleets, texts=st.lists(texts, min_size=1, max_size=8), seed=st.integers(0, 9))
def test_equal_seeds_choose_equally(name, fleet, texts, seed):
    def run():
        pool, index, _ = build(fleet)
        chooser, chosen = policy(name, seed, explore_share=0.5), []
        for number, text in enumerate(texts):
            if pool.open:
                for replica in chooser.probes(pool):
                    chooser.probed(replica, replica.load, 0, 0.0)
                choice = chooser.choose(ask(320, text, session=number), pool.open, pool, index)
                index.insert(choice.replica, links(text) if text else [])
                carry(pool, choice.replica.name, 1, 100)
                chosen.append((choice.replica.name, choice.cached_tokens, choice.why))
        return chosen

    assert run() == run()


@EACH
def test_a_replica_that_is_gone_is_forgotten(name):
    pool, index = pool_of(4, 4, 4)
    chooser = policy(name)
    for _ in range(3):
        for replica in pool.members.values():
            chooser.probed(replica, 0, 0, 0.0)
        chooser.choose(ask(320, "a", session=7), pool.open, pool, index)
        gone = next(iter(pool.members.values()))
        index.forget(gone)
        chooser.forget(gone)
        pool.leave(gone)
        pool.join(f"instead of {gone.name}", 4, 0)
        assert chooser.choose(ask(320, "a", session=7), pool.open, pool, index).replica is not gone


def test_the_last_token_of_a_prompt_is_always_computed():
    _, index = pool_of()
    assert cached_tokens(ask(100), 3, index) == 48
    assert cached_tokens(ask(100), 99, index) == 99
    assert cached_tokens(ask(0), 9, index) == 0


def test_however_many_hold_a_beginning_few_are_looked_at():
    pool, index = pool_of(*[4] * 300)
    for replica in pool.members.values():
        index.insert(replica, links("a"))
    assert len(survey(ask(320, "a"), pool.open, pool, index)) <= SCAN_MAX
    assert len(first_of(pool.members.values(), frozenset(list(pool.members.values())[200:]))) == 0


def test_many_candidates_that_are_not_all_open_ones_are_narrowed_to_the_least_pressed():
    pool, index = pool_of(*[4] * 40)
    for number in range(1, 40):
        carry(pool, f"r{number}", 1, 100)
    looked_at = survey(Ask(0.0, 1, 320, []), list(pool.open), pool, index)
    assert len(looked_at) < 40
    assert looked_at[0].name == "r40"
