"""The grammar: every state can be reached, every end is one, and nothing else is ever taken."""

import os
from pathlib import Path

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
    """I1: exactly one of finished, client gone, failed, refused, replayed."""
    ends = {"finished", "client_gone", "failed", "refused", "replayed"}
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


PAGE = Path(__file__).parents[2] / "docs/reference/lifecycles.md"
INTRODUCTION = """# Life-cycles

What a request and a replica can go through, drawn from the tables in `control.lifecycles`. The desk takes no
step that is not in them: it raises instead. A test generates this page.
"""
SAYS = {
    "ticket": """A request from its arrival to its end. `finished`, `failed`, `client_gone`, `refused` and `replayed` (the same request
was answered before, under the same idempotency key) are its five ends, and each request comes to exactly one of them.
`hold` and `dispatch` from `running` are what happens when a replica breaks: another one takes over, or the request
waits for it. `hedge` is a second copy of a request whose first token is late.""",
    "replica": """An engine as the desk knows it. Only a `ready` one is given requests. `suspect` is left alone for a while after
several failures in a row, or because it is far slower than its peers; `draining` gets nothing new until it is
wanted again (`restore`); `lost` is what the fleet says of one that died, and it restarts it.""",
}


def page():
    parts = [INTRODUCTION]
    for name, (table, first) in TABLES.items():
        parts.append(f"## {name.capitalize()}\n\n{SAYS[name]}\n\nIt begins as `{first}`.\n")
        parts.append(f"```mermaid\n{mermaid(table)}\n```\n")
    return "\n".join(parts)


def test_the_pictures_in_the_docs_are_drawn_from_the_tables():
    if os.environ.get("REWRITE_DOCS"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "REWRITE_DOCS=1 draws docs/reference/lifecycles.md again"
