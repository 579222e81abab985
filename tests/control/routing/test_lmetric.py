"""LMetric."""

from tests.control.routing.fleets import ask, carry, links, policy, pool_of


def choose(pool, index, tokens=320):
    return policy("lmetric").choose(ask(tokens, "a"), pool.open, pool, index)


def test_the_least_product_of_new_tokens_and_batch():
    pool, index = pool_of(64, 64)
    index.insert(pool.members["r1"], links("a"))
    carry(pool, "r1", 3)
    choice = choose(pool, index)  # 64 x 4 beside 320 x 1
    assert choice.replica.name == "r1"
    assert choice.cached_tokens == 256
    assert choice.why == "least product of 2 looked at: 64 tokens to prefill x batch of 4"
    carry(pool, "r1", 2)  # 64 x 6
    assert choose(pool, index).replica.name == "r2"


def test_tokens_in_flight_count():
    pool, index = pool_of(64, 64)
    index.insert(pool.members["r1"], links("a"))
    carry(pool, "r1", 1, tokens=200)  # 264 x 2
    assert choose(pool, index).replica.name == "r2"


def test_with_nothing_cached_and_idle_ones_enough_everybody_gets_one():
    pool, index = pool_of(*[8] * 10)
    chooser = policy("lmetric")
    for _ in range(10):
        chosen = chooser.choose(ask(), pool.open, pool, index).replica
        carry(pool, chosen.name, 1, 320)
    assert {replica.load for replica in pool.members.values()} == {1}
