"""How many servers hold the replicas: as many as if each were put in by hand, the largest first."""

from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.twin.scenario.needs import placed, servers_for


def by_hand(sizes, accelerators):
    free = []
    for size in sorted(sizes, reverse=True):
        for _ in range(sizes[size]):
            fitting = [place for place, room in enumerate(free) if room >= size]
            if fitting:
                free[min(fitting, key=lambda place: free[place])] -= size
            else:
                free.append(accelerators - size)
    return len(free)


@quick
@given(st.dictionaries(st.sampled_from([1, 2, 4, 8]), st.integers(0, 20), max_size=4))
def test_servers_hold_what_is_put_in(sizes):
    assert servers_for(sizes, 8) == by_hand(sizes, 8) == -(-sum(size * count for size, count in sizes.items()) // 8)


@quick
@given(st.dictionaries(st.integers(1, 8), st.integers(0, 12), max_size=4))
def test_odd_sizes_never_come_to_less_than_they_take(sizes):
    taken = sum(size * count for size, count in sizes.items())
    servers = servers_for(sizes, 8)
    assert 8 * servers >= taken
    assert servers <= sum(sizes.values())


def test_a_region_that_says_nothing_has_as_many_servers_as_it_needs(scenario):
    made = scenario(
        """\
        world:
          servers: [{name: hgx}, {name: old, accelerator: a100-80-sxm, accelerators: 4}]
          regions: [{name: west}, {name: east}]
          links: {round_trips: {west: {east: 80 ms}}}
        models:
          - {name: a, model: llama-3.1-70b, parallelism: tp4, replicas: {west: 3}}
          - {name: b, replicas: {west: 5, east: 2}}
          - {name: c, accelerator: a100-80-sxm, replicas: {west: 5}}
        """
    )
    west, east = (placed(region, made.world, made.models) for region in made.world.regions)
    assert west == {"hgx": 3, "old": 2}
    assert east == {"hgx": 1}
