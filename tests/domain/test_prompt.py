"""How much a prompt asks for."""

import pytest

from underlay.domain.answer import Usage
from underlay.domain.prompt import Message, Prompt, Tool, ToolCall


@pytest.mark.parametrize(
    ("prompt", "strands"),
    [
        (Prompt("chat", "gemma"), 1),
        (Prompt("chat", "gemma", n=3), 3),
        (Prompt("completion", "gemma", texts=("a", "b"), n=3), 6),
        (Prompt("embedding", "gemma", texts=("a", "b")), 1),
        (Prompt("count", "gemma"), 1),
    ],
)
def test_strands_are_independent_generations(prompt, strands):
    assert prompt.strands == strands


def test_the_size_covers_everything_the_engine_must_read():
    def size(**more):
        return Prompt("chat", "gemma", **more).size_bytes()

    assert size() == 0
    assert size(messages=(Message("user", "hello"), Message("system", "hi"))) == 7
    assert size(messages=(Message("assistant", tool_calls=(ToolCall("c1", "f", "{}"),)),)) == 2
    assert size(tools=(Tool("f", "does", {"type": "object"}),)) > 4
    assert Prompt("completion", "gemma", texts=("four", (1, 2))).size_bytes() == 12


def test_the_size_is_in_bytes():
    """A Chinese character is three bytes, and about as many tokens as an English word."""
    assert Prompt("chat", "gemma", messages=(Message("user", "你好"),)).size_bytes() == 6


def test_usage_adds_up():
    assert Usage(10, 4, 5).total_tokens == 15
