"""Which replica probably holds which beginning."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import settings as pace
from hypothesis import strategies as st

from underlay.control.dice import Dice
from underlay.control.fleet import SCAN_MAX, Pool
from underlay.control.prefixes import PrefixIndex, chain, root

quick = pace(max_examples=30, deadline=None)
START = root("gemma", "", "", "ann's")


def pool_of(count: int, blocks_max: int = 100):
    pool = Pool("gemma")
    replicas = [pool.join(f"r{number}", 4, 0) for number in range(count)]
    for replica in replicas:
        replica.blocks_max = blocks_max
    return pool, replicas, PrefixIndex(block_tokens=10.0)


def links(*blocks: int):
    return chain(START, blocks)


def names(replicas):
    return [replica.name for replica in replicas]


# Chains.


def test_chains_share_exactly_what_their_prompts_share():
    one, other = links(1, 2, 3, 4), links(1, 2, 9, 4)
    assert one[:2] == other[:2]
    assert not set(one[2:]) & set(other[2:])


def test_i13_tenants_models_adapters_and_templates_share_nothing():
    told = ["m", "a", "t", "who"]
    roots = {root(*told)} | {root(*told[:place], "x", *told[place + 1 :]) for place in range(4)}
    assert len(roots) == 5
    assert root("ab", "", "", "") != root("a", "b", "", "")


def test_chains_are_the_same_in_every_process():
    """Python salts the hashes of texts, not of numbers: a journal replays elsewhere."""
    code = (
        "from underlay.control.prefixes import chain, root; print(chain(root('m', 'a', 't', 'w'), [1, 2**64 - 1]))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.strip() == str(chain(root("m", "a", "t", "w"), [1, 2**64 - 1]))


# Who holds what.


def test_what_is_routed_is_held():
    _, (r0, r1, r2), index = pool_of(3)
    index.insert(r0, links(1, 2, 3, 4))
    index.insert(r1, links(1, 2, 8, 9))
    assert index.held(r0, links(1, 2, 3, 4, 5, 6)) == 4
    assert index.held(r1, links(1, 2, 3, 4, 5, 6)) == 2
    assert index.held(r2, links(1, 2, 3, 4, 5, 6)) == 0
    depth, holders = index.deepest(links(1, 2, 3, 4, 5, 6))
    assert (depth, names(holders)) == (4, ["r0"])
    assert names(index.holders(links(1, 2)[-1])) == ["r0", "r1"]
    assert index.deepest(links(7)) == (0, ())
    assert index.deepest([]) == (0, ())


def test_leaves_go_before_roots():
    _, (r0,), index = pool_of(1, blocks_max=6)
    index.insert(r0, links(1, 2, 3, 4))
    index.insert(r0, links(1, 2, 8, 9))
    assert index.held(r0, links(1, 2, 3, 4)) == 4
    index.insert(r0, links(1, 2, 8, 9, 10))
    assert index.held(r0, links(1, 2, 3, 4)) == 3
    assert index.held(r0, links(1, 2, 8, 9, 10)) == 5


def test_of_a_prompt_larger_than_the_cache_the_beginning_is_held():
    _, (r0,), index = pool_of(1, blocks_max=3)
    index.insert(r0, links(1, 2, 3, 4, 5))
    assert index.held(r0, links(1, 2, 3, 4, 5)) == 3


def test_of_many_holders_those_least_recently_given_it_come_first():
    _, replicas, index = pool_of(SCAN_MAX + 4)
    for replica in replicas:
        index.insert(replica, links(1, 2))
    index.insert(replicas[0], links(1, 2, 3))
    assert names(index.holders(links(1, 2)[-1]))[0] == "r1"
    assert names(index.holders(links(1, 2)[-1]))[-1] == "r0"


prompts = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(lambda blocks: links(*blocks))
steps = st.lists(
    st.tuples(st.sampled_from(["insert"] * 4 + ["forget", "hit", "miss"]), st.integers(0, 2), prompts), max_size=60
)


@quick
@given(steps, st.integers(0, 12))
def test_i16_whatever_happens_both_directions_agree_bounds_hold_and_searches_find_what_walking_finds(
    steps, blocks_max
):
    _, replicas, index = pool_of(3, blocks_max)
    for what, which, prompt in steps:
        replica = replicas[which]
        if what == "insert":
            index.insert(replica, prompt)
        elif what == "forget":
            index.forget(replica)
        else:
            index.correct(replica, 100, 100 if what == "hit" else 0)
        index.check(replicas)
        walked = []
        for each in replicas:
            known = [link in each.blocks for link in prompt]
            assert known == sorted(known, reverse=True), "a leaf outlived its root"
            assert index.held(each, prompt) == sum(known)
            walked.append(sum(known))
        depth, holders = index.deepest(prompt)
        assert depth == max(walked)
        assert set(names(holders)) == {f"r{at}" for at, held in enumerate(walked) if depth and held == depth}


# Tokens per block.


def test_tokens_per_block_are_learnt():
    index = PrefixIndex()
    assert index.block_tokens == 32.0
    for blocks in (5, 10, 20) * 20:
        index.learn(prompt_tokens=int((blocks + 0.5) * 24), blocks=blocks)
    assert 23.5 < index.block_tokens < 24.5
    index.learn(0, 0)
    assert 23.5 < index.block_tokens < 24.5


# Corrections.


def full(blocks: int = 1600):
    """A replica taken to hold as much as it may."""
    pool, (r0,), index = pool_of(1, blocks_max=blocks)
    index.insert(r0, links(*range(blocks)))
    return pool, r0, index


def test_predicted_and_real_are_counted():
    _, (r0,), index = pool_of(1)
    index.correct(r0, 100, 90)
    index.correct(r0, 50, 0)
    assert (index.expected_tokens_total, index.cached_tokens_total) == (150, 90)


def test_a_cache_that_holds_less_than_assumed_is_found_out():
    _, r0, index = full()
    index.correct(r0, 1000, 0)
    assert r0.blocks_max == len(r0.blocks) == 1400
    index.check([r0])


def test_what_was_never_there_in_full_tells_of_what_was_there():
    """200 blocks were held and one of them was missing: it holds less than 200, not less than 1,600."""
    _, (r0,), index = pool_of(1, blocks_max=1600)
    index.insert(r0, links(*range(200)))
    index.correct(r0, 1000, 0)
    assert r0.blocks_max == 175


def test_a_little_less_than_expected_is_no_loss():
    """Engines round down to their own blocks."""
    _, r0, index = full()
    index.correct(r0, 1000, 600)
    assert r0.blocks_max == 1600


def test_the_bound_never_falls_below_a_sixteenth():
    _, r0, index = full()
    for _ in range(200):
        index.correct(r0, 1000, 0)
    assert r0.blocks_max == 100
    index.forget(r0)
    assert r0.blocks_max == 1600


def test_it_grows_back_slowly_while_expectations_hold_and_the_bound_is_felt():
    _, r0, index = full(320)
    for _ in range(3):
        index.correct(r0, 1000, 0)
    shrunk = r0.blocks_max
    index.correct(r0, 1000, 1000)
    assert shrunk < r0.blocks_max <= shrunk + 3
    grown = r0.blocks_max
    index.correct(r0, 1000, 1000)
    assert r0.blocks_max == grown, "it is not full: that more would fit is not shown"
    for number in range(100):
        index.insert(r0, links(-2 - number, *range(9)))
        index.correct(r0, 1000, 1000)
    assert r0.blocks_max == 320


def test_requests_that_started_together_count_as_one_loss():
    """Ten begin alike at once: nine find nothing, because the first is still being computed."""
    pool, r0, index = full()
    leases = [pool.take(r0, attempt, 0.0, 1, 10, 0, 1.0) for attempt in range(4)]
    for lease in leases:
        index.correct(r0, 1000, 0)
        pool.give_back(lease)
    assert r0.blocks_max == 1400


def missing_share(*, corrected: bool) -> float:
    """How much of what is expected is not there, late in a run: the real cache is a quarter of what is assumed."""
    _, (assumed,), index = pool_of(1, blocks_max=800)
    _, (real,), engine = pool_of(1, blocks_max=200)
    dice, expected_total, missing_total = Dice(7), 0, 0
    for number in range(2000):
        prompt = links(int(150 * dice.share() ** 2), *range(7))
        expected, cached = index.held(assumed, prompt) * 10, engine.held(real, prompt) * 10
        index.insert(assumed, prompt)
        engine.insert(real, prompt)
        if corrected:
            index.correct(assumed, expected, cached)
        if number >= 1000:
            expected_total += expected
            missing_total += max(expected - cached, 0)
    return missing_total / expected_total


def test_corrections_make_predictions_come_true():
    """At rest one reply in sixteen disappoints; uncorrected, one in two does."""
    assert missing_share(corrected=False) > 0.4
    assert missing_share(corrected=True) < 0.1


def test_a_restarted_replica_holds_nothing():
    _, (r0, r1), index = pool_of(2)
    index.insert(r0, links(1, 2))
    index.insert(r1, links(1, 2))
    index.forget(r0)
    assert index.held(r0, links(1, 2)) == 0
    assert names(index.deepest(links(1, 2))[1]) == ["r1"]
    index.check([r0, r1])
