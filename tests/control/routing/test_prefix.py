"""Prefix-aware."""

from tests.control.routing.fleets import ask, carry, links, policy, pool_of


def choose(pool, index, text="ab", candidates=None):
    return policy("prefix").choose(ask(text=text), candidates or pool.open, pool, index)


def test_the_best_match_above_one_half():
    pool, index = pool_of(64, 64, 64)
    index.insert(pool.members["r2"], links("a" * 9)[:9])
    index.insert(pool.members["r3"], links("a" * 12)[:12])
    choice = choose(pool, index, "a")
    assert choice.replica.name == "r3"
    assert choice.cached_tokens == 12 * 16
    assert choice.why == "best match of 1: holds 12 of 16 blocks"


def test_half_is_not_above_one_half():
    pool, index = pool_of(64, 64)
    index.insert(pool.members["r2"], links("a")[:8])
    carry(pool, "r2", 1)
    choice = choose(pool, index, "a")
    assert choice.replica.name == "r1"
    assert choice.why.startswith("no match above one half")


def test_the_overloaded_are_passed_by_and_the_next_match_serves():
    """Imbalance does not throw every cache away (sglang #32195)."""
    pool, index = pool_of(64, 64, 64)
    index.insert(pool.members["r1"], links("a"))
    index.insert(pool.members["r2"], links("a")[:10])
    carry(pool, "r1", 34)
    carry(pool, "r2", 1)
    assert choose(pool, index, "a").replica.name == "r2"
    index.forget(pool.members["r2"])
    assert choose(pool, index, "a").why.startswith("the matches are overloaded")


def test_32_more_is_no_imbalance_and_a_tenth_more_is_none_either():
    pool, index = pool_of(64, 64)
    index.insert(pool.members["r1"], links("a"))
    carry(pool, "r1", 32)
    assert choose(pool, index, "a").replica.name == "r1"
    pool, index = pool_of(1000, 1000)
    index.insert(pool.members["r1"], links("a"))
    carry(pool, "r1", 600)
    carry(pool, "r2", 560)
    assert choose(pool, index, "a").replica.name == "r1"


def test_sick_replicas_are_not_in_the_comparison():
    """An idle one that is suspect made all others look overloaded (vllm-project/router #254)."""
    pool, index = pool_of(64, 64, 64)
    index.insert(pool.members["r1"], links("a"))
    carry(pool, "r1", 60)
    carry(pool, "r2", 50)
    pool.set_state(pool.members["r3"], "suspect")
    assert choose(pool, index, "a").replica.name == "r1"


def test_new_prompts_go_to_the_least_loaded_not_to_the_smallest_memory():
    pool, index = pool_of(64, 64)
    index.insert(pool.members["r1"], links("xyz"))
    carry(pool, "r2", 1)
    assert choose(pool, index).replica.name == "r1"
