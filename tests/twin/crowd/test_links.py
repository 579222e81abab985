from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.twin.crowd.links import after, chain, mix, shared_prefix, start_of

blocks = st.lists(st.integers(0, 2**64 - 1), max_size=20)


def test_links_are_the_same_on_every_machine():
    assert chain(start_of("tenant"), [1, 2, 3]) == (1228638437393437567, 1575896634483328263, 2086118772000205379)
    assert mix(1, 2) == 6878622605533214259


@quick
@given(blocks, blocks, blocks)
def test_two_chains_agree_as_far_as_their_blocks_do(same, ours, theirs):
    one, other = chain(start_of("a"), same + ours), chain(start_of("a"), same + theirs)
    common = 0
    while common < min(len(one), len(other)) and (same + ours)[common] == (same + theirs)[common]:
        common += 1
    assert one[:common] == other[:common]
    assert not set(one[common:]) & set(other[common:])
    assert all(0 <= link < 2**63 for link in one)


def test_a_chain_goes_on_link_by_link():
    link = start_of("a")
    assert chain(link, [7, 8]) == (after(link, 7), after(after(link, 7), 8))


def test_names_are_kept_apart():
    assert len({start_of("ab", "c"), start_of("a", "bc"), start_of("abc"), start_of()}) == 4


def test_a_system_prompt_has_links_for_whole_blocks_and_is_its_tenants_own():
    assert len(shared_prefix("ann", 6000, 512)) == 11
    assert shared_prefix("ann", 6000, 512)[:2] == shared_prefix("ann", 1024, 512)
    assert not set(shared_prefix("ann", 6000, 512)) & set(shared_prefix("bob", 6000, 512))


def test_mixing_spreads_what_lies_close_together():
    lots = [mix(mix(3, 0), number) / 2**63 for number in range(4000)]
    assert abs(sum(lots) / len(lots) - 0.5) < 0.02
    assert abs(sum(lot < 0.1 for lot in lots) / len(lots) - 0.1) < 0.02
