"""Which replica, by the desk's own leases."""

from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.control.routing import POLICIES, Replica, candidates, least_loaded


def replica(name="r1", *, model="gemma", slots=4, load=0, state="ready", turn=0):
    made = Replica(name, model, slots, 0)
    made.load, made.state, made.turn = load, state, turn
    return made


def names(replicas):
    return [each.name for each in replicas]


def test_only_ready_replicas_of_the_model_with_room_are_candidates():
    fleet = [
        replica("ready"),
        replica("other model", model="llama"),
        replica("full", load=4),
        replica("suspect", state="suspect"),
        replica("lost", state="lost"),
    ]
    assert names(candidates(fleet, "gemma", 1, frozenset())) == ["ready"]


def test_a_replica_takes_what_fits_its_free_slots():
    assert replica(load=2).takes(2)
    assert not replica(load=2).takes(3)
    assert replica(load=2).free_slots == 2


def test_an_idle_replica_takes_more_than_its_slots_in_turns():
    """Otherwise a request for more answers than any replica has slots would wait for ever."""
    assert replica(slots=2, load=0).takes(8)
    assert not replica(slots=2, load=1).takes(8)


def test_one_that_failed_is_avoided_while_another_is_ready_even_if_that_is_full():
    fleet = [replica("failed"), replica("full", load=4)]
    assert candidates(fleet, "gemma", 1, {"failed"}) == []


def test_one_that_failed_is_better_than_none():
    fleet = [replica("failed"), replica("lost", state="lost")]
    assert names(candidates(fleet, "gemma", 1, {"failed"})) == ["failed"]


def test_the_least_loaded_share_is_chosen_not_the_lowest_count():
    chosen, why = least_loaded([replica("small", slots=2, load=1), replica("large", slots=8, load=2)])
    assert chosen.name == "large"
    assert why == "least loaded of 2 with a free slot: 2 of 8 in use"


def test_among_equals_the_one_not_chosen_for_longest():
    assert least_loaded([replica("r1", turn=3), replica("r2", turn=1), replica("r3", turn=2)])[0].name == "r2"


@quick
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8), st.integers(0, 99)), min_size=1))
def test_whoever_is_chosen_nobody_carries_a_smaller_share(fleet):
    replicas = [replica(str(i), slots=s, load=min(load, s), turn=t) for i, (s, load, t) in enumerate(fleet)]
    chosen, _ = least_loaded(replicas)
    assert all(chosen.load / chosen.slots <= other.load / other.slots for other in replicas)


def test_settings_name_their_policy():
    assert POLICIES["least_loaded"] is least_loaded
