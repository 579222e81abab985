"""The ring of hashed points."""

from collections import Counter

from tests.control.routing.fleets import pool_of

from underlay.control.dice import Dice
from underlay.control.routing.ring import Ring, _points_of

BOUNDLESS = 1e9


def homes(pool, keys):
    ring = Ring()
    ring.keep(pool.members.keys())
    return {key: ring.walk(key, pool, None, BOUNDLESS)[0].name for key in keys}


def keys(count):
    dice = Dice(3)
    return [dice.next() for _ in range(count)]


def test_keys_spread_evenly():
    pool, _ = pool_of(*[4] * 10)
    per_replica = Counter(homes(pool, keys(2000)).values())
    assert max(per_replica.values()) < 1.5 * 200


def test_who_comes_or_goes_moves_only_its_own_part():
    pool, _ = pool_of(*[4] * 10)
    before = homes(pool, keys(1000))
    pool.join("new", 4, 0)
    joined = homes(pool, keys(1000))
    moved = {key for key in before if before[key] != joined[key]}
    assert {joined[key] for key in moved} == {"new"}
    assert 40 < len(moved) < 150
    pool.leave(pool.members["new"])
    assert homes(pool, keys(1000)) == before


def test_a_ring_kept_through_changes_equals_a_new_one():
    pool, _ = pool_of(*[4] * 5)
    ring = Ring()
    ring.keep(pool.members.keys())
    pool.leave(pool.members["r3"])
    pool.join("r6", 4, 0)
    ring.changed = True
    ring.keep(pool.members.keys())
    assert ring._points == sorted(point for name in pool.members for point in _points_of(name))
