"""Session affinity."""

from tests.control.routing.fleets import ask, carry, give, policy, pool_of


def test_a_session_stays_whatever_its_prompts_say():
    pool, index = pool_of(*[64] * 8)
    chooser = policy("session")
    chosen = {
        chooser.choose(ask(text=t, session=9), pool.open, pool, index).replica.name for t in ("a", "b", "c", "")
    }
    assert len(chosen) == 1


def test_it_is_released_while_its_replica_may_not_be_chosen_and_returns_afterwards():
    pool, index = pool_of(4, 4, 4)
    chooser = policy("session")

    def chosen():
        return chooser.choose(ask(session=9), pool.open, pool, index).replica

    home = chosen()
    pool.set_state(home, "draining")
    instead = chosen()
    assert instead is not home
    assert chosen() is instead
    pool.set_state(home, "ready")
    assert chosen() is home


def test_a_busy_session_does_not_drown_its_replica():
    pool, index = pool_of(*[100] * 4)
    chooser = policy("session")
    for _ in range(40):
        give(chooser, ask(session=9), pool, index)
    assert max(replica.load for replica in pool.members.values()) <= 13


def test_prompts_of_no_session_go_to_the_least_score():
    pool, index = pool_of(8, 8)
    carry(pool, "r1", 1, 200)
    assert policy("session").choose(ask(text="a"), pool.open, pool, index).replica.name == "r2"
