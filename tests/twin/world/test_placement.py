from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.twin.world.worlds import KIND, region, two_regions

from underlay.twin.world.placement import NoRoom, Placement
from underlay.twin.world.topology import Topology


def servers_of(placement, replica):
    return [placement.topology.servers[slot.server].path for slot in placement.slots[replica]]


def test_replicas_are_spread_over_the_widest_domains_first():
    placement = Placement(two_regions(halls=2, racks=2, servers=2))
    for number in range(8):
        placement.place(f"chat-{number}", 4, KIND, group="chat")
    where = [servers_of(placement, f"chat-{number}")[0].split("/") for number in range(8)]
    assert Counter(path[0] for path in where) == {"west": 4, "east": 4}
    assert Counter(tuple(path[:4]) for path in where).most_common(1)[0][1] == 1  # a rack each
    # Another group is spread by itself, but goes where most is free.
    placement.place("code-0", 4, KIND, group="code")
    assert (
        placement.free(placement.topology.node("/".join(servers_of(placement, "code-0")[0].split("/"))), KIND) == 4
    )


def test_more_than_a_server_has_is_taken_from_one_rack():
    placement = Placement(two_regions(racks=2, servers=4))
    placement.place("small", 2, KIND, within="west/w/a/r1")
    placement.place("huge", 20, KIND, within="west", group="huge")
    assert servers_of(placement, "huge") == [f"west/w/a/r2/s{n}" for n in (1, 2, 3)]
    assert [slot.accelerators for slot in placement.slots["huge"]] == [8, 8, 4]
    with pytest.raises(NoRoom, match="33 x h100-sxm are needed in west; 42 are free, but not together in one rack"):
        placement.place("larger", 33, KIND, within="west")
    with pytest.raises(NoRoom, match="0 are free"):
        placement.place("other", 1, "l4")


def test_what_is_out_of_service_is_given_to_nobody():
    placement = Placement(Topology([region("west", servers=1)]))
    placement.withdraw(0)
    placement.withdraw(0)
    placement.break_accelerator(1, 3, broken=True)
    with pytest.raises(NoRoom):
        placement.place("chat", 8, KIND)
    assert placement.place("chat", 7, KIND)[0].mask == 0b11110111
    placement.restore(0)
    assert placement.is_out(0)
    placement.restore(0)
    assert placement.place("late", 8, KIND)[0].server == 0
    assert (placement.using(1, 3), placement.using(1, 4)) == (None, "chat")
    assert placement.on(placement.topology.node("west")) == ["late", "chat"]


def test_a_replica_that_cannot_move_keeps_what_it_has():
    placement = Placement(Topology([region("west", racks=1)]))
    placement.place("one", 8, KIND)
    placement.place("two", 4, KIND)
    before = placement.slots["one"]
    placement.withdraw(before[0].server)
    with pytest.raises(NoRoom):
        placement.move("one", KIND)
    assert placement.slots["one"] == before
    placement.remove("two")
    assert placement.move("one", KIND) != before
    with pytest.raises(ValueError, match="already"):
        placement.place("one", 1, KIND)


@quick
@given(st.integers(0, 2**32))
def test_books_always_balance(seed):
    dice = Random(seed)
    placement = Placement(two_regions(racks=3, servers=2, accelerators=4))
    for number in range(120):
        act = dice.random()
        if act < 0.5:
            try:
                placement.place(f"r{number}", dice.choice((1, 2, 4, 8)), KIND, group="g")
            except NoRoom as short:
                assert short.free < 8 or "together" in short.message
        elif act < 0.7 and placement.slots:
            placement.remove(dice.choice(list(placement.slots)))
        elif act < 0.8:
            placement.break_accelerator(dice.randrange(12), dice.randrange(4), broken=dice.random() < 0.5)
        elif dice.random() < 0.5:
            placement.withdraw(dice.randrange(12))
        else:
            out = [server for server in range(12) if placement.is_out(server)]
            if out:
                placement.restore(dice.choice(out))
    for node in placement.topology.nodes.values():
        assert placement.free(node, KIND) == sum(free_of(placement, server) for server in node.servers)
    taken = Counter(
        (slot.server, n) for slots in placement.slots.values() for slot in slots for n in bits(slot.mask)
    )
    assert not taken or taken.most_common(1)[0][1] == 1
    for slots in placement.slots.values():
        assert len({placement.topology.servers[slot.server].up("rack").path for slot in slots}) == 1


def free_of(placement, server):
    if placement.is_out(server):
        return 0
    return sum(placement.using(server, n) is None and not placement.is_broken(server, n) for n in range(4))


def bits(mask):
    return [n for n in range(16) if mask >> n & 1]
