"""The life of a ticket and of a replica, as tables. A step that is not in a table is a defect, and raises.

What is decided here: nothing; this is the grammar that the decisions must keep. Pictures in the docs are
drawn from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping

#: state -> what happens -> next state. A ticket without an entry of its own is over.
TICKET: Mapping[str, Mapping[str, str]] = {
    "arrived": {"refuse": "refused", "hold": "waiting", "dispatch": "running", "replay": "replayed"},
    "waiting": {"dispatch": "running", "refuse": "refused", "fail": "failed", "leave": "client_gone"},
    "running": {
        "finish": "finished",
        "fail": "failed",
        "leave": "client_gone",
        "hold": "waiting",
        "dispatch": "running",
        "hedge": "running",
    },
}

REPLICA: Mapping[str, Mapping[str, str]] = {
    "ready": {"see": "ready", "lose": "lost", "strike_out": "suspect", "drain": "draining"},
    "suspect": {"lose": "lost", "forgive": "ready", "restart": "ready", "drain": "draining"},
    "draining": {"lose": "lost", "restore": "ready", "restart": "ready"},
    "lost": {"see": "ready"},
}


def step(table: Mapping[str, Mapping[str, str]], state: str, happening: str) -> str:
    """Return the state after ``happening``; raises ``AssertionError`` where the table has no such step."""
    try:
        return table[state][happening]
    except KeyError:
        raise AssertionError(f"no step {happening!r} from state {state!r}") from None


def mermaid(table: Mapping[str, Mapping[str, str]]) -> str:
    """Draw a table as a Mermaid state diagram."""
    lines = [f"    {state} --> {then}: {what}" for state, steps in table.items() for what, then in steps.items()]
    return "\n".join(["stateDiagram-v2", *lines])
