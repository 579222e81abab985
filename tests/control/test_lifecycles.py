"""The grammar: every state can be reached, every end is one, and nothing else is ever taken."""

import pytest

from underlay.control import lifecycles
from underlay.control.lifecycles import REPLICA, TICKET, mermaid, step

TABLES = {"ticket": (TICKET, "arrived"), "replica": (REPLICA, "ready")}
tables = pytest.mark.parametrize(("table", "first"), TABLES.values(), ids=TABLES)


def states(table):
    return {*table, *(then for steps in table.values() for then in steps.values())}


def reachable(table, state):
    found, edge = {state}, [state]
    while edge:
        edge = [then for at in edge for then in table.get(at, {}).values() if then not in found]
        found.update(edge)
    return found


def test_every_table_of_the_module_is_tested_here():
    known = {name for name in vars(lifecycles) if name.isupper()}
    assert known == {"TICKET", "REPLICA"}


@tables
def test_every_state_is_reached(table, first):
    assert reachable(table, first) == states(table)


def test_a_ticket_can_end_from_everywhere_and_an_end_has_no_steps():
    """I1: exactly one of finished, client gone, failed, refused."""
    ends = {"finished", "client_gone", "failed", "refused"}
    assert states(TICKET) - set(TICKET) == ends
    for state in TICKET:
        assert reachable(TICKET, state) & ends


def test_who_runs_or_has_run_is_not_refused():
    assert "refuse" not in TICKET["running"]


def test_a_replica_can_always_become_ready_again():
    assert set(REPLICA) == states(REPLICA)
    for state in REPLICA:
        assert "ready" in reachable(REPLICA, state)


@tables
def test_steps_lead_where_the_table_says(table, first):
    for state, steps in table.items():
        for happening, then in steps.items():
            assert step(table, state, happening) == then


@tables
def test_every_other_step_raises(table, first):
    happenings = {what for steps in table.values() for what in steps} | {"explode"}
    for state in states(table) | {"nowhere"}:
        for happening in happenings - set(table.get(state, ())):
            with pytest.raises(AssertionError, match=f"no step '{happening}' from state '{state}'"):
                step(table, state, happening)


def test_mermaid_draws_one_line_a_step():
    assert mermaid({"day": {"sunset": "night"}, "night": {"sunrise": "day", "comet": "night"}}) == (
        "stateDiagram-v2\n    day --> night: sunset\n    night --> day: sunrise\n    night --> night: comet"
    )
