"""How turns of a conversation are put together, whatever the dialect calls them."""

from __future__ import annotations

from underlay.domain.prompt import Message


def append_turn(turns: list[Message], turn: Message) -> None:
    """Add a turn; two in a row of the same speaker become one, because chat templates want them to alternate.

    What a model said in pieces is joined as it was: SDKs keep each chunk of a stream as a turn of its own.
    """
    last = turns[-1] if turns else None
    if last is None or last.role != turn.role or turn.role == "tool":
        turns.append(turn)
        return
    seam = "" if turn.role == "assistant" else "\n"
    text = seam.join(part for part in (last.text, turn.text) if part)
    turns[-1] = Message(turn.role, text, tool_calls=last.tool_calls + turn.tool_calls)
